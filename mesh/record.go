package mesh

import (
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/google/uuid"
)

// Limits of a record that is taken in.
const (
	maxRecord   = 8 << 10 // bytes
	maxPrefixes = 1024
	maxName     = 64
	maxList     = 32      // endpoints, underlay addresses, transports, ports, trusted networks, exceptions
	maxShort    = 2 << 10 // bytes of further exceptions
	maxSubnets  = 256
	maxSlots    = 2
	maxKey      = 64 // bytes
	// maxVersion leaves room to answer a record about oneself with a newer one, and a
	// token by the next.
	maxVersion = 1 << 62
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
	Protocol     int              `cbor:"10,keyasint"`          // version that it speaks; mesh itself says it
	Software     string           `cbor:"11,keyasint"`
	Used         int              `cbor:"13,keyasint,omitempty"` // addresses in use
	Observer     bool             `cbor:"12,keyasint,omitempty"` // must not decide on the address plan
	// Ports are those of its tunnels' ends, UDP, by transport; what it leaves out
	// is the mesh's.
	Ports map[string]uint16 `cbor:"20,keyasint,omitempty"`
	// UnderlayMTU is what the device of its first address takes, in bytes; 0 if it does not say.
	UnderlayMTU int `cbor:"21,keyasint,omitempty"`
	// Trusted are the networks in which it lets traffic be in the clear.
	Trusted []netip.Prefix `cbor:"22,keyasint,omitempty"`
	// Subnets are those that its containers are kept apart by.
	Subnets []netip.Prefix `cbor:"23,keyasint,omitempty"`
	// Slots are the ends of its WireGuard, each with a key of its own. A weft that
	// knows of one only says WireGuardKey instead, which is the same as that of
	// epoch 0 at the mesh's port.
	Slots []Slot `cbor:"24,keyasint,omitempty"`
	// Forwarded are those of Underlay that a router has, which forwards to it.
	Forwarded []netip.Addr `cbor:"25,keyasint,omitempty"`
	// MTUs are those of the devices of Underlay, in its order, 0 where it does not know;
	// nil where UnderlayMTU is that of all.
	MTUs []int `cbor:"26,keyasint,omitempty"`
	// Link is the address by which its own paths are probed while others relay what
	// is for its prefixes; one that says none neither relays nor is relayed to.
	Link netip.Addr `cbor:"40,keyasint,omitzero"`
	// Broken are peers that none of its own paths leads to, Shaky those to which one
	// works again since a moment ago, and Mute those that it was relayed by and that
	// do not answer. Leaf tells that it relays nothing.
	Broken []uuid.UUID `cbor:"41,keyasint,omitempty"`
	Shaky  []uuid.UUID `cbor:"47,keyasint,omitempty"`
	Mute   []uuid.UUID `cbor:"42,keyasint,omitempty"`
	Leaf   bool        `cbor:"43,keyasint,omitempty"`
	// FurtherBroken and FurtherShaky are those for which the lists have no room, by
	// the beginnings of their ids: topology.Shorten. Who says them is no leaf; a weft
	// that does not know them goes by Leaf.
	FurtherBroken []byte `cbor:"48,keyasint,omitempty"`
	FurtherShaky  []byte `cbor:"49,keyasint,omitempty"`
	// Coordinate is where it is in the space of round-trip times.
	Coordinate []int32 `cbor:"44,keyasint,omitempty"`
	// What mesh itself adds: how far a change of the token is, and the key with
	// which secrets are sealed for this peer (X25519).
	Token   Standing `cbor:"30,keyasint,omitzero"`
	SealKey []byte   `cbor:"31,keyasint,omitempty"`
	// Confined tells that others cannot connect to it; mesh adds it, too.
	Confined bool `cbor:"45,keyasint,omitempty"`
	// Seen is where others hear its tunnels, if NAT makes that another place than
	// Underlay.
	Seen []Seen `cbor:"46,keyasint,omitempty"`
	// Life is the start of the process that wrote this, and Rival the nonce of
	// another one that it has heard to write this peer's record; see Life.
	Life  Life   `cbor:"50,keyasint,omitzero"`
	Rival uint64 `cbor:"51,keyasint,omitempty"`
	// DepartedAt is when it left, in Unix time; 0 if it has not, or does not say.
	DepartedAt int64 `cbor:"52,keyasint,omitempty"`
}

// Seen is where one end of a peer's tunnels is heard.
type Seen struct {
	Port uint16         `cbor:"1,keyasint"` // UDP, on its host
	At   netip.AddrPort `cbor:"2,keyasint"`
}

// Slot is one end of a peer's WireGuard.
type Slot struct {
	Epoch uint64 `cbor:"1,keyasint,omitempty"` // how often the keys of the mesh were changed
	Port  uint16 `cbor:"2,keyasint"`           // UDP
	Key   []byte `cbor:"3,keyasint"`           // public
}

// Record is a peer's word about itself, verified.
type Record struct {
	ID      uuid.UUID
	Version uint64 // the peer adds one for each change
	Body    Body
	signed  signed
	hash    [sumLen]byte // of the payload
	places  places
}

// places are the addresses at which a peer can be tried, as attempts name them. In
// text once: all of a large mesh are looked through whenever something changes.
type places struct {
	direct  []string
	overlay string // "" if it is not in the overlay
}

func placesOf(peer Body) (out places) {
	for _, at := range peer.Gossip {
		out.direct = append(out.direct, at.String())
	}
	if at := overlayOf(peer, peer); at.IsValid() {
		out.overlay = at.String()
	}
	return out
}

func newRecord(id uuid.UUID, version uint64, body Body, s signed) *Record {
	sum := sha256.Sum256(s.Payload)
	return &Record{ID: id, Version: version, Body: body, signed: s, hash: [sumLen]byte(sum[:sumLen]), places: placesOf(body)}
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
	errVersion   = errors.New("of a protocol version that is too far from this peer's")
	errTooMany   = errors.New("there are too many peers")
)

// check holds a body to its limits, whoever wrote it.
func (b Body) check() error {
	if len(b.Name) > maxName || len(b.Software) > maxName || len(b.Prefixes) > maxPrefixes ||
		len(b.Token.Hash) > maxName || len(b.SealKey) > maxName || len(b.Token.Without) > maxWithout || max(b.Token.Held, b.Token.Used) > maxVersion ||
		len(b.Gossip) > maxList || len(b.Underlay) > maxList || len(b.Transports) > maxList ||
		len(b.Ports) > maxList || len(b.Trusted) > maxList || len(b.Subnets) > maxSubnets ||
		len(b.Seen) > maxList || len(b.Forwarded) > maxList || len(b.MTUs) > maxList ||
		len(b.FurtherBroken)+len(b.FurtherShaky) > maxShort ||
		len(b.Broken) > maxList || len(b.Shaky) > maxList || len(b.Mute) > maxList || len(b.Coordinate) > maxList ||
		len(b.Slots) > maxSlots || slices.ContainsFunc(b.Slots, func(s Slot) bool { return len(s.Key) > maxKey }) {
		return errOversized
	}
	invalid := func(p netip.Prefix) bool { return !p.IsValid() }
	if slices.ContainsFunc(slices.Concat(b.Prefixes, b.Trusted, b.Subnets), invalid) || b.UnderlayMTU < 0 || slices.ContainsFunc(b.MTUs, func(n int) bool { return n < 0 }) ||
		slices.ContainsFunc(b.Underlay, func(a netip.Addr) bool { return !a.IsValid() }) ||
		slices.ContainsFunc(b.Seen, func(s Seen) bool { return !s.At.IsValid() }) ||
		slices.ContainsFunc(b.Gossip, func(a netip.AddrPort) bool { return !a.IsValid() }) {
		return errMalformed
	}
	return nil
}

// sign makes this peer's record. It refuses what the others would refuse.
func (i Identity) sign(meshID uuid.UUID, version uint64, body Body) (*Record, error) {
	p := encode(payload{meshID, i.Key.Public().(ed25519.PublicKey), version, body})
	err := body.check()
	if err == nil && len(p) > maxRecord {
		err = errOversized
	}
	if err != nil {
		return nil, fmt.Errorf("sign own record of %d bytes: %w", len(p), err)
	}
	s := signed{Payload: p, Signature: ed25519.Sign(i.Key, append([]byte(recordContext), p...))}
	return newRecord(i.ID, version, body, s), nil
}

// verify believes a record only if its bounds, its mesh and its signature hold.
// Whose it is follows from the key in it, so a record cannot claim another id.
func verify(meshID uuid.UUID, s signed) (*Record, error) {
	refuse := func(err error) (*Record, error) { return nil, fmt.Errorf("record refused: %w", err) }
	if len(s.Payload) > maxRecord || len(s.Signature) > ed25519.SignatureSize {
		return refuse(errOversized)
	}
	var p payload
	if err := decoder.Unmarshal(s.Payload, &p); err != nil || len(p.Key) != ed25519.PublicKeySize {
		return refuse(errMalformed)
	}
	if p.Mesh != meshID {
		return refuse(errForeign)
	}
	if !ed25519.Verify(p.Key, append([]byte(recordContext), s.Payload...), s.Signature) {
		return refuse(errSignature)
	}
	if !speaks(p.Body.Protocol) || p.Version > maxVersion {
		return refuse(errVersion)
	}
	if err := p.Body.check(); err != nil {
		return refuse(err)
	}
	p.Body.Name, p.Body.Software = clip(p.Body.Name), clip(p.Body.Software)
	return newRecord(IDOf(p.Key), p.Version, p.Body, s), nil
}

// refusalReasons names the reasons for counting.
var refusalReasons = map[error]string{
	errOversized: "oversized", errMalformed: "malformed", errSignature: "bad-signature", errForeign: "foreign-mesh",
	errVersion: "version", errTooMany: "too-many",
}

// reason is the word under which what is refused is counted.
func reason(err error) string {
	for e, word := range refusalReasons {
		if errors.Is(err, e) {
			return word
		}
	}
	return Untimely
}
