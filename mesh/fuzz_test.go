package mesh

import (
	"bytes"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
)

func FuzzParseToken(f *testing.F) {
	f.Add(newToken(f).String())
	f.Add("weft1-aaaa")
	f.Add("weft2-aaaa")
	f.Fuzz(func(t *testing.T, s string) {
		if tok, err := ParseToken(s); err == nil && tok.String() != strings.ToLower(strings.TrimSpace(s)) {
			t.Errorf("%q was read as another token", s)
		}
	})
}

func FuzzForeignRecord(f *testing.F) {
	good := sign(f, newIdentity(f), 1, Body{Name: "a"}).signed
	f.Add(good.Payload, good.Signature)
	f.Fuzz(func(t *testing.T, p, sig []byte) {
		if r, err := verify(meshA, signed{Payload: p, Signature: sig}); err == nil && r.ID == uuid.Nil {
			t.Error("a record without a peer is believed")
		}
	})
}

func FuzzSnapshot(f *testing.F) {
	f.Add(encode(snapshot{Version: snapshotVersion, Records: []signed{sign(f, newIdentity(f), 1, Body{Name: "a"}).signed}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		known, err := restore(nil, Token{MeshID: meshA}, uuid.Nil, b, time.Now(), func(error) {})
		for id, r := range known {
			if err == nil && id != r.ID {
				t.Error("a record is kept under another's id")
			}
		}
	})
}

func FuzzForeignMessage(f *testing.F) {
	m := &Mesh{cfg: Config{Identity: newIdentity(f)}, log: quiet(), channels: map[string]Channel{}, records: records{}, members: map[uuid.UUID]*member{},
		heardFrom: map[uuid.UUID]netip.AddrPort{}, changed: make(chan struct{}, 1), newMeta: make(chan struct{}, 1)}
	m.cfg.Token.MeshID = meshA
	m.channels["board"] = &board{words: map[string]bool{}}
	id := newIdentity(f)
	f.Add(recordsMessage(nil))
	f.Add(recordsMessage([]signed{sign(f, id, 1, Body{Name: "a"}).signed}))
	f.Add(encode(channelMessage(kindState, "board", []byte("x"))))
	f.Add(directMessage(meshA, id, m.cfg.Identity.ID, netip.MustParseAddrPort("192.0.2.1:6783"), "board", []byte("x")))
	f.Add(wantMessage(id.ID))
	f.Fuzz(func(t *testing.T, b []byte) {
		_ = m.receive(b)
		_ = decodeDigest(b)
	})
}

// stream is a connection whose other end says what it was told to.
type stream struct {
	net.Conn
	in  *bytes.Reader
	out bytes.Buffer
}

func (s *stream) Read(b []byte) (int, error)      { return s.in.Read(b) }
func (s *stream) Write(b []byte) (int, error)     { return s.out.Write(b) }
func (s *stream) Close() error                    { return nil }
func (s *stream) SetDeadline(time.Time) error     { return nil }
func (s *stream) SetReadDeadline(time.Time) error { return nil }
func (s *stream) RemoteAddr() net.Addr            { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 1} }

func newStream(b []byte) *stream { return &stream{in: bytes.NewReader(b)} }

func FuzzHelloOfAStranger(f *testing.F) {
	tok := Token{MeshID: meshA}
	secret := []byte("settings of the mesh")
	var open, proofs bytes.Buffer
	_, _ = writeFrame(&open, helloOpen{Protocol: ProtocolVersion, Mesh: meshA, Nonce: make([]byte, nonceLen)})
	_, _ = writeFrame(&proofs, helloProof{Proof: make([]byte, 32)})
	f.Add(append(open.Bytes(), proofs.Bytes()...))
	f.Add([]byte{0xff, 0xff, 1})
	f.Add([]byte("hello"))
	f.Fuzz(func(t *testing.T, b []byte) {
		s := newStream(b)
		d := &doorman{tokens: func() []Token { return []Token{tok} }, self: HelloSelf{Settings: secret}, departed: func(uuid.UUID) bool { return false }, refused: func(string, string, verdict) {}}
		_ = d.answer(s)
		if bytes.Contains(s.out.Bytes(), secret) {
			t.Error("a stranger got the settings")
		}
	})
}

func FuzzAnswerOfAStranger(f *testing.F) {
	var answer, end bytes.Buffer
	_, _ = writeFrame(&answer, helloAnswer{Protocol: ProtocolVersion, Mesh: meshA, Nonce: make([]byte, nonceLen), Proof: make([]byte, 32)})
	_, _ = writeFrame(&end, helloEnd{Proof: make([]byte, 32)})
	f.Add(append(answer.Bytes(), end.Bytes()...))
	f.Add([]byte("HTTP/1.1 400 Bad Request"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if w, err := greet(newStream(b), "192.0.2.1:6783", Token{MeshID: meshA}, HelloSelf{}); err == nil {
			t.Errorf("believed without a proof: %+v", w)
		}
	})
}

func FuzzLine(f *testing.F) {
	f.Add([]byte{lineCall, 0, 2, 'n', 'o', linePacket, 0, 0})
	f.Add([]byte{linePacket, 0xff, 0xff, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		var again []byte
		for r := bytes.NewReader(b); ; {
			kind, content, err := readLine(r)
			if err != nil {
				break
			}
			again = append(again, lineFrame(kind, content)...)
		}
		if !bytes.HasPrefix(b, again) {
			t.Errorf("%x is read as %x", b, again)
		}
	})
}

func FuzzAnswerToACall(f *testing.F) {
	f.Add([]byte(callMagic + "0123456789abcdef"))
	f.Add([]byte(callMagic))
	f.Fuzz(func(t *testing.T, b []byte) {
		c := newCallers()
		answer := make(chan net.Conn, 1)
		number := [callLen]byte([]byte("0123456789abcdef"))
		c.waiting[number] = answer
		c.answered(newStream(b))
		if called := len(b) >= len(callMagic)+callLen && string(b[len(callMagic):][:callLen]) == string(number[:]); called != (len(answer) == 1) {
			t.Errorf("%x answers the call: %v", b, !called)
		}
	})
}
