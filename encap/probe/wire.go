package probe

import (
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"golang.org/x/crypto/chacha20poly1305"
)

// A packet is a version, a nonce, and sealed with the mesh's key: what kind it
// is, from whom, to whom, which number, and zeros up to the size that is
// probed. Nonces are random and long enough for all hosts to draw from with
// one key. To others it is noise of some length.
const (
	version   = 1
	nonceEnd  = 1 + chacha20poly1305.NonceSizeX
	bodySize  = 1 + 16 + 16 + 8
	leastSize = nonceEnd + bodySize + chacha20poly1305.Overhead // of a packet, headers apart
	headers   = 20 + 8                                          // of IP and UDP
	mostSize  = 65535
)

// SecretSize is the length of the secret that the hosts of a mesh share, in bytes.
const SecretSize = 32

type kind byte

const (
	kindAsk    kind = 1
	kindAnswer kind = 2 // of the same number and size as the ask
)

// message is what a packet says.
type message struct {
	kind     kind
	from, to uuid.UUID
	seq      uint64
	size     int // bytes, of the IP packet
}

// errForeign is all that a stranger's packet deserves.
var errForeign = errors.New("not a probe of this mesh")

// codec seals and opens packets. It is safe for concurrent use.
type codec struct{ aead cipher.AEAD }

func newCodec(secret []byte) (codec, error) {
	if len(secret) != SecretSize {
		return codec{}, fmt.Errorf("the secret for probes has %d bytes; it needs %d", len(secret), SecretSize)
	}
	key, err := hkdf.Key(sha256.New, secret, nil, "weft path probes 1", chacha20poly1305.KeySize)
	if err != nil {
		return codec{}, fmt.Errorf("derive the key of probes: %w", err)
	}
	aead, err := chacha20poly1305.NewX(key)
	return codec{aead}, err
}

// seal writes a packet of the message's size into the buffer, which is large
// enough, and returns it.
func (c codec) seal(buf []byte, m message) []byte {
	packet := buf[:m.size-headers]
	packet[0] = version
	nonce := packet[1:nonceEnd]
	_, _ = rand.Read(nonce) // never fails
	body := packet[nonceEnd : len(packet)-chacha20poly1305.Overhead]
	body[0] = byte(m.kind)
	copy(body[1:], m.from[:])
	copy(body[17:], m.to[:])
	binary.BigEndian.PutUint64(body[33:], m.seq)
	clear(body[bodySize:])
	c.aead.Seal(body[:0], nonce, body, packet[:1])
	return packet
}

// open reads a packet, whose bytes it overwrites.
func (c codec) open(packet []byte) (message, error) {
	if len(packet) < leastSize || len(packet) > mostSize-headers || packet[0] != version {
		return message{}, errForeign
	}
	sealed := packet[nonceEnd:]
	body, err := c.aead.Open(sealed[:0], packet[1:nonceEnd], sealed, packet[:1])
	if err != nil {
		return message{}, errForeign
	}
	m := message{
		kind: kind(body[0]),
		from: uuid.UUID(body[1:17]),
		to:   uuid.UUID(body[17:33]),
		seq:  binary.BigEndian.Uint64(body[33:]),
		size: len(packet) + headers,
	}
	if m.kind != kindAsk && m.kind != kindAnswer {
		return message{}, errForeign
	}
	return m, nil
}
