package mesh

import (
	"encoding/binary"
	"fmt"
	"io"

	"github.com/fxamacker/cbor/v2"
)

var (
	encoder = must(cbor.CoreDetEncOptions().EncMode())
	decoder = must(cbor.DecOptions{MaxNestedLevels: 8, MaxArrayElements: 1 << 16, MaxMapPairs: 256}.DecMode())
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err) // the options are constants, and our own types always encode
	}
	return v
}

func encode(v any) []byte { return must(encoder.Marshal(v)) }

// unproved is a frame as it was before a proof was put into the field of that
// number, with all that is in it: a newer version may have said more.
func unproved(frame []byte, proof uint64) ([]byte, error) {
	var fields map[uint64]cbor.RawMessage
	if err := decoder.Unmarshal(frame, &fields); err != nil {
		return nil, fmt.Errorf("read frame: %w", err)
	}
	fields[proof] = encode(nil)
	return encode(fields), nil
}

// maxFrame bounds one frame of a hello, in bytes.
const maxFrame = 4096

// writeFrame sends a value with its length before it.
func writeFrame(w io.Writer, v any) ([]byte, error) {
	body := encode(v)
	if len(body) > maxFrame {
		return nil, fmt.Errorf("frame of %d bytes is over %d", len(body), maxFrame)
	}
	_, err := w.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(body))), body...))
	return body, err
}

// readFrame reads a frame into a value, and returns its bytes as they came.
func readFrame(r io.Reader, v any) ([]byte, error) {
	var n [2]byte
	if _, err := io.ReadFull(r, n[:]); err != nil {
		return nil, err
	}
	size := int(binary.BigEndian.Uint16(n[:]))
	if size > maxFrame {
		return nil, fmt.Errorf("frame of %d bytes is over %d", size, maxFrame)
	}
	body := make([]byte, size)
	if _, err := io.ReadFull(r, body); err != nil {
		return nil, err
	}
	if err := decoder.Unmarshal(body, v); err != nil {
		return nil, fmt.Errorf("read frame: %w", err)
	}
	return body, nil
}
