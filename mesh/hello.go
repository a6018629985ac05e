package mesh

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/google/uuid"
)

// The hello, on a TCP connection to the gossip port:
//
//	client: magic, helloOpen
//	server: helloAnswer: who it is, and a proof that it holds the token; or a refusal
//	client: helloProof: the same of the client
//	server: helloEnd: the mesh's settings, or a refusal
//
// Each proof is an HMAC over all that was said before, under a key that is
// derived from the token, with the side's own label.

// magic begins a hello. memberlist's streams begin with a message type below
// 14 or with 244, so the first byte tells them apart.
const magic = "WEFT"

const helloTime = 5 * time.Second

// Codes of refusals.
const (
	CodeForeignMesh = "foreign-mesh" // the tokens are of different meshes
	CodeBadToken    = "bad-token"    // same mesh, different secret
	CodeVersion     = "version"      // no common protocol version
	CodeSettings    = "settings"     // the settings of the mesh differ
	CodeSelf        = "self"         // a host that greets itself
	CodeDeparted    = "departed"     // the peer has left the mesh for good
)

// HelloSelf is what a host says of itself in a hello.
type HelloSelf struct {
	ID        uuid.UUID
	Name      string
	Advertise netip.AddrPort
	Settings  []byte // the mesh's settings as this host has them; nil if it is new
}

// Welcome is what a peer answers that lets a host in.
type Welcome struct {
	ID       uuid.UUID
	Name     string
	Settings []byte
}

type helloOpen struct {
	Protocol  int            `cbor:"1,keyasint"`
	Mesh      uuid.UUID      `cbor:"2,keyasint"`
	ID        uuid.UUID      `cbor:"3,keyasint"`
	Name      string         `cbor:"4,keyasint"`
	Advertise netip.AddrPort `cbor:"5,keyasint"`
	Nonce     []byte         `cbor:"6,keyasint"`
	Settings  []byte         `cbor:"7,keyasint,omitempty"` // SHA-256
}

type verdict struct {
	Code   string `cbor:"1,keyasint,omitempty"` // "" is yes
	Reason string `cbor:"2,keyasint,omitempty"`
}

type helloAnswer struct {
	Verdict  verdict   `cbor:"1,keyasint"`
	Protocol int       `cbor:"2,keyasint"`
	Mesh     uuid.UUID `cbor:"3,keyasint"`
	ID       uuid.UUID `cbor:"4,keyasint"`
	Name     string    `cbor:"5,keyasint"`
	Nonce    []byte    `cbor:"6,keyasint"`
	Proof    []byte    `cbor:"7,keyasint"`
}

type helloProof struct {
	Proof []byte `cbor:"1,keyasint"`
}

type helloEnd struct {
	Verdict  verdict `cbor:"1,keyasint"`
	Settings []byte  `cbor:"2,keyasint,omitempty"`
	Proof    []byte  `cbor:"3,keyasint"`
}

// RefusedError says that a peer did not let this host in, or that this host
// does not believe it.
type RefusedError struct {
	Addr   string
	Code   string
	Reason string
}

func (e *RefusedError) Error() string { return fmt.Sprintf("%s refuses: %s", e.Addr, e.Reason) }

// UnreachableError says that no weft answers at an address.
type UnreachableError struct {
	Addr string
	Err  error
}

func (e *UnreachableError) Error() string {
	return fmt.Sprintf("no weft answers at %s (%v): is it running there, and do TCP and UDP pass to that port?", e.Addr, e.Err)
}

func (e *UnreachableError) Unwrap() error { return e.Err }

func proof(t Token, label string, said ...[]byte) []byte {
	mac := hmac.New(sha256.New, t.derive("hello"))
	mac.Write([]byte(label))
	for _, s := range said {
		sum := sha256.Sum256(s)
		mac.Write(sum[:])
	}
	return mac.Sum(nil)
}

func nonce() []byte {
	b := make([]byte, 32)
	_, _ = rand.Read(b) // never fails (crypto/rand)
	return b
}

// Hello asks the peer at host:port to be let in. It changes nothing on either
// side. The error is a *RefusedError or an *UnreachableError.
func Hello(ctx context.Context, addr string, t Token, self HelloSelf) (Welcome, error) {
	ctx, cancel := context.WithTimeout(ctx, helloTime)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return Welcome{}, &UnreachableError{addr, err}
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	w, err := greet(conn, addr, t, self)
	if err != nil && ctx.Err() != nil {
		err = &UnreachableError{addr, ctx.Err()}
	}
	return w, err
}

func greet(conn net.Conn, addr string, t Token, self HelloSelf) (Welcome, error) {
	fail := func(err error) (Welcome, error) { return Welcome{}, &UnreachableError{addr, err} }
	refuse := func(code, reason string) (Welcome, error) { return Welcome{}, &RefusedError{addr, code, reason} }
	if _, err := conn.Write([]byte(magic)); err != nil {
		return fail(err)
	}
	open := helloOpen{Protocol: ProtocolVersion, Mesh: t.MeshID, ID: self.ID, Name: self.Name, Advertise: self.Advertise, Nonce: nonce()}
	if self.Settings != nil {
		sum := sha256.Sum256(self.Settings)
		open.Settings = sum[:]
	}
	said1, err := writeFrame(conn, open)
	if err != nil {
		return fail(err)
	}
	var answer helloAnswer
	if _, err := readFrame(conn, &answer); err != nil {
		return fail(fmt.Errorf("what listens there is not weft: %w", err))
	}
	if answer.Verdict.Code != "" {
		return refuse(answer.Verdict.Code, clip(answer.Verdict.Reason))
	}
	theirs := answer.Proof
	answer.Proof = nil
	said2 := encode(answer)
	// The proof of a wrong token is sent as well, so that the peer can tell its
	// user who knocked.
	if _, err := writeFrame(conn, helloProof{proof(t, "client", said1, said2)}); err != nil {
		return fail(err)
	}
	var end helloEnd
	_, err = readFrame(conn, &end)
	if !hmac.Equal(theirs, proof(t, "server", said1, said2)) {
		return refuse(CodeBadToken, wrongSecret)
	}
	if err != nil {
		return fail(err)
	}
	endProof := end.Proof
	end.Proof = nil
	if !hmac.Equal(endProof, proof(t, "end", said1, said2, encode(end))) {
		return fail(fmt.Errorf("the end of the hello has no valid proof"))
	}
	if end.Verdict.Code != "" {
		return refuse(end.Verdict.Code, clip(end.Verdict.Reason))
	}
	if answer.ID == self.ID {
		return refuse(CodeSelf, "that address is this host's own")
	}
	return Welcome{ID: answer.ID, Name: clip(answer.Name), Settings: end.Settings}, nil
}

const wrongSecret = "the token's secret is not this mesh's: use the token that `weft token show` prints on a host of the mesh"

// clip bounds what a stranger can put on our user's screen.
func clip(s string) string {
	s = s[:min(len(s), 300)]
	return strings.Map(func(r rune) rune {
		if r < ' ' {
			return ' '
		}
		return r
	}, s)
}
