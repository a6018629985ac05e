package council

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"maps"
	"net/netip"
	"slices"

	"github.com/google/uuid"
)

// Hash stands for all decisions up to one, or for a domain.
type Hash [16]byte

// Force is a mesh that somebody took out of another whose majority was gone.
type Force struct {
	_         struct{} `cbor:",toarray"`
	Base      uint64   // the parent's last decision that counts
	Survivors []ID     // in order
	Nonce     uint64
}

// compare orders children of one parent: the larger wins where they meet.
func (f Force) compare(o Force) int {
	return cmp.Or(cmp.Compare(len(f.Survivors), len(o.Survivors)), cmp.Compare(f.Nonce, o.Nonce))
}

// Domain is within what members believe one another: a mesh, and the forced
// decisions since it was founded.
type Domain struct {
	_    struct{} `cbor:",toarray"`
	Mesh uuid.UUID
	// Founder tells meshes of one name apart that were founded independently.
	Founder ID
	Forces  []Force
}

// Hash tells domains apart.
func (d Domain) Hash() Hash {
	if len(d.Forces) == 0 {
		d.Forces = nil // which is encoded otherwise than an empty list
	}
	return Hash(sumOf(d))
}

// Relation is how one domain stands to another.
type Relation int

// Relations.
const (
	Same       Relation = iota
	Descendant          // forced out of the other, or of one that was
	Ancestor
	Winner // both were forced out of one that the other was forced out of, too
	Loser
	Stranger // of another mesh
)

// To is how d stands to o. Of a descendant and of rivals, force is the first
// that was not o's.
func (d Domain) To(o Domain) (r Relation, force Force) {
	if d.Mesh != o.Mesh || d.Founder != o.Founder {
		return Stranger, Force{}
	}
	for i, f := range d.Forces {
		switch {
		case i == len(o.Forces):
			return Descendant, f
		case f.compare(o.Forces[i]) > 0:
			return Winner, f
		case f.compare(o.Forces[i]) < 0:
			return Loser, f
		}
	}
	if len(d.Forces) < len(o.Forces) {
		return Ancestor, Force{}
	}
	return Same, Force{}
}

// Lease is one address of a block that another than its owner uses.
type Lease struct {
	_      struct{} `cbor:",toarray"`
	Addr   netip.Addr
	Holder ID
	Token  uint64 // which use of it
}

// Legacy is a lease that an heir takes over with its block.
type Legacy struct {
	_     struct{} `cbor:",toarray"`
	Epoch uint64   // of the register that gave the block to the heir
	Lease Lease
}

// Admission is a member, and the index of the decision that admitted it.
type Admission struct {
	Member Member
	At     uint64
}

// State is what follows from all decisions up to Index. It is a value: nothing
// that it refers to is ever changed.
type State struct {
	Domain Domain
	Index  uint64 // of the last decision that changed it
	Hash   Hash   // of all decisions up to it
	// Reclaimed is the base of the last Reclaim: all that was sealed up to
	// there has been inherited.
	Reclaimed uint64
	// Fence is the index of the last Reclaim, or of the Force that began the
	// domain. No Reclaim that was made up before it counts.
	Fence    uint64
	Voters   []ID // in order
	Admitted map[ID]Admission
	Sealed   map[ID]uint64 // the index of the decision
	Legacies []Legacy      // in the order of addresses
}

// Found is the State with which a mesh begins: one member, who decides alone.
func Found(mesh uuid.UUID, founder Member) State {
	id := founder.ID()
	s := State{Domain: Domain{Mesh: mesh, Founder: id}, Index: 1, Fence: 1, Voters: []ID{id},
		Admitted: map[ID]Admission{id: {founder, 1}}, Sealed: map[ID]uint64{}}
	s.Hash = Hash(sumOf(s.Domain, id))
	return s
}

// Fork is the State with which the child of a mesh begins whose majority is
// gone for good: the first survivor decides alone, and the admitted who did not
// survive are sealed. Survivors that were not admitted are so now.
func (s State) Fork(nonce uint64, survivors ...Member) State {
	out := s
	out.Index = s.Index + 1
	out.Admitted, out.Sealed = maps.Clone(s.Admitted), maps.Clone(s.Sealed)
	force := Force{Base: s.Index, Nonce: nonce}
	for _, m := range survivors {
		id := m.ID()
		force.Survivors = append(force.Survivors, id)
		if _, in := s.Admitted[id]; !in {
			out.Admitted[id] = Admission{m, out.Index}
		}
	}
	slices.SortFunc(force.Survivors, compareIDs)
	for id := range s.Admitted {
		if _, sealed := s.Sealed[id]; !sealed && !slices.Contains(force.Survivors, id) {
			out.Sealed[id] = out.Index
		}
	}
	out.Domain.Forces = append(slices.Clone(s.Domain.Forces), force)
	out.Hash = Hash(sumOf(out.Domain, survivors))
	out.Fence = out.Index
	out.Voters = []ID{survivors[0].ID()}
	return out
}

// Generation counts the forced decisions; an epoch of a later one is larger.
func (s State) Generation() uint64 { return uint64(len(s.Domain.Forces)) }

// Epoch is that of the registers that the decision of an index makes.
func (s State) Epoch(index uint64) uint64 { return s.Generation()<<32 | index }

// IsAdmitted tells whether a member is admitted and not sealed.
func (s State) IsAdmitted(id ID) bool {
	_, in := s.Admitted[id]
	_, sealed := s.Sealed[id]
	return in && !sealed
}

// Pending are the seals whose space has not been inherited yet, in order.
func (s State) Pending() []ID {
	var out []ID
	for id, at := range s.Sealed {
		if at > s.Reclaimed {
			out = append(out, id)
		}
	}
	slices.SortFunc(out, compareIDs)
	return out
}

// LastSeal is the index of the last seal.
func (s State) LastSeal() uint64 {
	var last uint64
	for _, at := range s.Sealed {
		last = max(last, at)
	}
	return last
}

// Members are the admitted and unsealed, in order.
func (s State) Members() []ID {
	var out []ID
	for id := range s.Admitted {
		if _, sealed := s.Sealed[id]; !sealed {
			out = append(out, id)
		}
	}
	slices.SortFunc(out, compareIDs)
	return out
}

func compareIDs(a, b ID) int { return bytes.Compare(a[:], b[:]) }

// sumOf is a hash of values that encode in one way only.
func sumOf(values ...any) []byte {
	h := sha256.New()
	for _, v := range values {
		b := Encode(v)
		_ = binary.Write(h, binary.BigEndian, uint64(len(b))) // a hash takes everything
		h.Write(b)
	}
	return h.Sum(nil)[:16]
}
