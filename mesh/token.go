package mesh

import (
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"

	"github.com/google/uuid"
)

const (
	tokenWord    = "weft"
	tokenVersion = "1"
	tokenPrefix  = tokenWord + tokenVersion + "-"
	checksumLen  = 4
	tokenLen     = 16 + 32 + checksumLen
)

var tokenEncoding = base32.StdEncoding.WithPadding(base32.NoPadding)

// Token lets a host into a mesh: which mesh it is, and the secret that all its
// peers share. Only String gives it away; formatting and logging do not.
type Token struct {
	MeshID uuid.UUID
	Secret [32]byte
}

// NewToken makes the token of a new mesh.
func NewToken() (Token, error) {
	var t Token
	var err error
	if t.MeshID, err = uuid.NewRandom(); err == nil {
		_, err = rand.Read(t.Secret[:])
	}
	if err != nil {
		return Token{}, fmt.Errorf("make token: %w", err)
	}
	return t, nil
}

// ParseToken reads what String wrote, in upper or lower case. The error says
// which mistake it is: no token at all, one of another version, one of another
// length, or one that is mistyped.
func ParseToken(s string) (Token, error) {
	s = strings.ToLower(strings.TrimSpace(s))
	rest, ok := strings.CutPrefix(s, tokenPrefix)
	if !ok {
		if v, isToken := otherVersion(s); isToken {
			return Token{}, fmt.Errorf("the token is of version %s, this weft reads version %s: upgrade the older weft of the two", v, tokenVersion)
		}
		return Token{}, fmt.Errorf("the token does not begin with %s", tokenPrefix)
	}
	want := tokenEncoding.EncodedLen(tokenLen)
	if len(rest) != want {
		return Token{}, fmt.Errorf("the token has %d characters after %s instead of %d: a part of it is missing or added", len(rest), tokenPrefix, want)
	}
	b, err := tokenEncoding.DecodeString(strings.ToUpper(rest))
	if err != nil {
		return Token{}, errors.New("the token has a character that no token has")
	}
	var t Token
	copy(t.MeshID[:], b)
	copy(t.Secret[:], b[16:])
	if t.String() != s {
		return Token{}, errors.New("the token is mistyped: its check sum does not match")
	}
	return t, nil
}

// otherVersion is the version of what looks like a token of another one.
func otherVersion(s string) (version string, ok bool) {
	rest, ok := strings.CutPrefix(s, tokenWord)
	if !ok {
		return "", false
	}
	version, _, ok = strings.Cut(rest, "-")
	isNumber := version != "" && len(version) <= 4 && strings.Trim(version, "0123456789") == ""
	return version, ok && isNumber
}

// String is the token itself: whoever reads it can join.
func (t Token) String() string {
	b := append(append([]byte{}, t.MeshID[:]...), t.Secret[:]...)
	sum := sha256.Sum256(append([]byte(tokenPrefix), b...))
	return tokenPrefix + strings.ToLower(tokenEncoding.EncodeToString(append(b, sum[:checksumLen]...)))
}

func (t Token) redacted() string { return "token of mesh " + t.MeshID.String() }

// LogValue keeps the secret out of logs.
func (t Token) LogValue() slog.Value { return slog.StringValue(t.redacted()) }

// Format keeps the secret out of whatever prints a token, or a struct that has
// one, with package fmt; %s too. Who wants the token itself calls String.
func (t Token) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, t.redacted()) }

// MarshalText keeps the secret out of JSON.
func (t Token) MarshalText() ([]byte, error) { return []byte(t.redacted()), nil }

// derive makes a key for one purpose (HKDF-SHA256, RFC 5869).
func (t Token) derive(purpose string) []byte {
	key, err := hkdf.Key(sha256.New, t.Secret[:], t.MeshID[:], "weft "+purpose, 32)
	if err != nil {
		panic(err) // only for lengths that HKDF cannot make
	}
	return key
}

// ProbeSecret is the key that probes of paths are authenticated by.
func (t Token) ProbeSecret() []byte { return t.derive("probe") }

// VNI is the mesh's VXLAN network identifier: 24 bits of its id, never 0. It
// is no secret: it travels in the clear.
func (t Token) VNI() uint32 {
	sum := sha256.Sum256(append([]byte("weft vni\x00"), t.MeshID[:]...))
	return max(1, binary.BigEndian.Uint32(sum[:])>>8)
}
