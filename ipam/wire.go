package ipam

func EncodeWrite(w Write) []byte                              { panic("x") }
func DecodeWrite(bucket, key string, b []byte) (Write, error) { panic("x") }
func EncodeMsg(m *Msg) []byte                                 { panic("x") }
func DecodeMsg(b []byte) (*Msg, error)                        { panic("x") }
