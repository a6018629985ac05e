package mesh

import (
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"
	"unicode"

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
// derived from the token, with the side's own label. Nothing is believed before
// it, but for the refusals that by their nature nobody can prove: that the mesh
// or the protocol version is another.

// magic begins a hello. memberlist's streams begin with a message type below
// 14 or with 244, so the first byte tells them apart.
const magic = "WEFT"

// helloTime bounds a hello, and each of memberlist's connections.
const helloTime = 5 * time.Second

// nonceLen is the length of the number that keeps proofs from being replayed.
const nonceLen = 32

// Numbers of the fields with proofs, which are of the frame without them.
const (
	answerProof = 7
	endProof    = 3
)

// Codes of refusals.
const (
	CodeForeignMesh = "foreign-mesh" // the tokens are of different meshes
	CodeBadToken    = "bad-token"    // same mesh, different secret
	CodeVersion     = "version"      // no common protocol version
	CodeSettings    = "settings"     // the settings of the mesh differ
	CodeSelf        = "self"         // a host that greets itself
	CodeDeparted    = "departed"     // the peer has left the mesh for good
	CodeCopy        = "copy"         // the peer lives on another host, too
)

// HelloSelf is what a host says of itself in a hello.
type HelloSelf struct {
	ID        uuid.UUID
	Name      string
	Advertise netip.AddrPort
	Settings  []byte // the mesh's settings as this host has them; nil if it is new
	Life      Life   // zero for a host that is no peer yet
	Back      bool   // it wants to know whether it can be connected to at Advertise
	// line is the key of a peer that keeps the connection as a line; nil if it ends.
	line ed25519.PrivateKey
	// rival is the nonce of a younger life of this peer, in spite of which it is to be
	// let in; 0 for none.
	rival uint64
}

// Welcome is what a peer answers that lets a host in.
type Welcome struct {
	ID       uuid.UUID
	Name     string
	Settings []byte
	Life     Life
	Back     back       // whether it could connect back
	From     netip.Addr // from where it hears this host, if it was asked to connect back
}

// back says how an attempt to connect back went.
type back uint8

const (
	backUnasked back = 0
	backThrough back = 1
	backFailed  back = 2
)

type helloOpen struct {
	Protocol  int            `cbor:"1,keyasint"`
	Mesh      uuid.UUID      `cbor:"2,keyasint"`
	ID        uuid.UUID      `cbor:"3,keyasint"`
	Name      string         `cbor:"4,keyasint"`
	Advertise netip.AddrPort `cbor:"5,keyasint"`
	Nonce     []byte         `cbor:"6,keyasint"`
	Settings  []byte         `cbor:"7,keyasint,omitempty"` // SHA-256
	// Hint tells which of two tokens the client holds, while the token is changed.
	Hint []byte `cbor:"8,keyasint,omitempty"`
	Back bool   `cbor:"9,keyasint,omitempty"`  // connect back, and say whether that worked
	Line bool   `cbor:"10,keyasint,omitempty"` // the connection becomes a line
	Life Life   `cbor:"20,keyasint,omitzero"`
	// Rival is the nonce of another life of the client, which is younger.
	Rival uint64 `cbor:"21,keyasint,omitempty"`
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
	Life     Life      `cbor:"20,keyasint,omitzero"`
}

type helloProof struct {
	Proof []byte `cbor:"1,keyasint"`
	// Of a line: whose it is, by its key.
	Key       []byte `cbor:"2,keyasint,omitempty"`
	Signature []byte `cbor:"3,keyasint,omitempty"`
}

type helloEnd struct {
	Verdict  verdict `cbor:"1,keyasint"`
	Settings []byte  `cbor:"2,keyasint,omitempty"`
	Proof    []byte  `cbor:"3,keyasint"`
	// What was asked for only: an older peer could not check the proof of more.
	Back back       `cbor:"4,keyasint,omitempty"`
	From netip.Addr `cbor:"5,keyasint,omitzero"`
	// Life is the other one of the client where that is refused as a copy.
	Life Life `cbor:"20,keyasint,omitzero"`
}

// RefusedError says that a peer did not let this host in, or that this host
// does not believe it.
type RefusedError struct {
	Addr   string
	Code   string
	Reason string
	Life   Life // the other one, of a copy; zero if it is not said
}

func (e *RefusedError) Error() string { return fmt.Sprintf("%s refuses: %s", e.Addr, e.Reason) }

// UnreachableError says that no weft answers at an address.
type UnreachableError struct {
	Addr string
	Err  error
}

func (e *UnreachableError) Error() string {
	port := "that port"
	if _, p, err := net.SplitHostPort(e.Addr); err == nil {
		port = "port " + p
	}
	return fmt.Sprintf("no weft answers at %s (%v): is it running there, and do TCP and UDP pass to %s?", e.Addr, e.Err, port)
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

// hint tells the tokens of one mesh apart, and says nothing of their secrets.
func (t Token) hint() []byte { return t.derive("hint")[:8] }

// pick is the token with a hint, else the first.
func pick(tokens []Token, hint []byte) Token {
	for _, t := range tokens {
		if hmac.Equal(t.hint(), hint) {
			return t
		}
	}
	return tokens[0]
}

func nonce() []byte {
	b := make([]byte, nonceLen)
	_, _ = rand.Read(b) // never fails (crypto/rand)
	return b
}

const wrongSecret = "the token's secret is not this mesh's: use the token that `weft token show` prints on a host of the mesh"

// clip bounds what a stranger can put on our user's screen: its length, and no
// control characters or marks that change the direction of writing.
func clip(s string) string {
	s = strings.ToValidUTF8(s[:min(len(s), 300)], "")
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, s)
}
