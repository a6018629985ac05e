package mesh

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"fmt"
	"net/netip"

	"github.com/google/uuid"
)

// Limits of a record that is taken in.
const (
	maxRecord   = 8 << 10 // bytes
	maxPrefixes = 1024
	maxName     = 64
	maxList     = 32 // endpoints, underlay addresses, transports
)

// Body is what a peer tells the others of itself.
type Body struct {
	Name         string           `cbor:"1,keyasint"`           // for people
	Gossip       []netip.AddrPort `cbor:"2,keyasint"`           // where its gossip is reached
	Underlay     []netip.Addr     `cbor:"3,keyasint"`           // where its tunnels end
	Transports   []string         `cbor:"4,keyasint"`           // that it can do
	WireGuardKey []byte           `cbor:"5,keyasint,omitempty"` // public key of its tunnels
	Gateway      netip.Addr       `cbor:"6,keyasint"`           // of its bridge
	Prefixes     []netip.Prefix   `cbor:"7,keyasint"`           // that it holds
	FreeBlocks   int              `cbor:"8,keyasint"`           // that it could give away
	Departed     bool             `cbor:"9,keyasint,omitempty"` // has left for good
	Protocol     int              `cbor:"10,keyasint"`
	Software     string           `cbor:"11,keyasint"`
}

// Record is a peer's word about itself, verified.
type Record struct {
	ID      uuid.UUID
	Version uint64 // the peer adds one for each change
	Body    Body
	signed  signed
}

// signed is a record as it travels: the payload is carried as its owner wrote
// it, so that fields which this version does not know reach others unharmed.
type signed struct {
	_         struct{} `cbor:",toarray"`
	Payload   []byte
	Signature []byte
}

type payload struct {
	Mesh    uuid.UUID `cbor:"1,keyasint"`
	Key     []byte    `cbor:"2,keyasint"`
	Version uint64    `cbor:"3,keyasint"`
	Body    Body      `cbor:"4,keyasint"`
}

const recordContext = "weft record\x00"

// Reasons for which a record is refused.
var (
	errOversized = errors.New("oversized")
	errMalformed = errors.New("malformed")
	errSignature = errors.New("bad signature")
	errForeign   = errors.New("of another mesh")
)

// sign makes this peer's record.
func (i Identity) sign(meshID uuid.UUID, version uint64, body Body) (Record, error) {
	p := encode(payload{meshID, i.Key.Public().(ed25519.PublicKey), version, body})
	if len(p) > maxRecord {
		return Record{}, fmt.Errorf("own record of %d bytes is %w", len(p), errOversized)
	}
	s := signed{Payload: p, Signature: ed25519.Sign(i.Key, append([]byte(recordContext), p...))}
	return Record{ID: i.ID, Version: version, Body: body, signed: s}, nil
}

// verify believes a record only if its bounds, its mesh and its signature hold.
func verify(meshID uuid.UUID, s signed) (Record, error) {
	refuse := func(err error) (Record, error) { return Record{}, fmt.Errorf("record refused: %w", err) }
	if len(s.Payload) > maxRecord || len(s.Signature) != ed25519.SignatureSize {
		return refuse(errOversized)
	}
	var p payload
	if err := decoder.Unmarshal(s.Payload, &p); err != nil || len(p.Key) != ed25519.PublicKeySize {
		return refuse(errMalformed)
	}
	b := p.Body
	if len(b.Name) > maxName || len(b.Software) > maxName || len(b.Prefixes) > maxPrefixes ||
		len(b.Gossip) > maxList || len(b.Underlay) > maxList || len(b.Transports) > maxList {
		return refuse(errOversized)
	}
	if p.Mesh != meshID {
		return refuse(errForeign)
	}
	if !ed25519.Verify(p.Key, append([]byte(recordContext), s.Payload...), s.Signature) {
		return refuse(errSignature)
	}
	p.Body.Name = clip(b.Name)
	return Record{ID: IDOf(p.Key), Version: p.Version, Body: p.Body, signed: s}, nil
}

// newer tells whether r replaces o: by version, and among two of one version,
// which only a peer that lost its memory makes, by their bytes, so that all
// choose the same.
func (r Record) newer(o Record) bool {
	if r.Version != o.Version {
		return r.Version > o.Version
	}
	return bytes.Compare(r.signed.Payload, o.signed.Payload) > 0
}

// records is the latest record of every peer ever known. Merging is
// commutative, associative and idempotent.
type records map[uuid.UUID]Record

// merge takes a record in if it is news.
func (t records) merge(r Record) (news bool) {
	if have, ok := t[r.ID]; ok && !r.newer(have) {
		return false
	}
	t[r.ID] = r
	return true
}
