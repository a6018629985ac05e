package council

import (
	"maps"
	"net/netip"
	"slices"
)

// Kind of a command.
type Kind uint8

// Kinds of commands. The numbers are on disks and on the wire.
const (
	Admit     Kind = 1 // Member becomes one
	SetVoters Kind = 2 // Voters decide from now on
	Seal      Kind = 3 // ID is shut out for good
	Reclaim   Kind = 4 // what sealed members owned goes to heirs
)

// Command is what can be decided.
type Command struct {
	_      struct{} `cbor:",toarray"`
	Kind   Kind
	ID     ID
	Member Member
	Voters []ID // in order
	Estate Estate
}

// Estate is what a Reclaim gives to whom.
type Estate struct {
	_ struct{} `cbor:",toarray"`
	// Base is the index on which it was made up.
	Base uint64
	// Wards are members who were not admitted at Base, and told what they know.
	// All who were admitted at Base, and not sealed, have told it.
	Wards  []ID
	Shares []Share
	Leases []Lease
}

// Share is a run of blocks and its heir.
type Share struct {
	_            struct{} `cbor:",toarray"`
	First, Count uint32
	Heir         ID
}

// Apply decides a command at an index. A command that is void at this point,
// whatever it was when it was proposed, changes nothing, and ok is false. It
// depends on nothing but its arguments.
func (s State) Apply(index uint64, c Command) (next State, ok bool) {
	if index <= s.Index {
		return s, false
	}
	next = s
	switch c.Kind {
	case Admit:
		id := c.Member.ID()
		_, in := s.Admitted[id]
		_, sealed := s.Sealed[id]
		if in || sealed || !s.IsAdmitted(c.Member.Sponsor) {
			return s, false
		}
		next.Admitted = maps.Clone(s.Admitted)
		next.Admitted[id] = Admission{c.Member, index}
	case SetVoters:
		if len(c.Voters) == 0 || slices.Equal(c.Voters, s.Voters) || !slices.IsSortedFunc(c.Voters, compareIDs) {
			return s, false
		}
		if slices.ContainsFunc(c.Voters, func(id ID) bool { return !s.IsAdmitted(id) }) {
			return s, false
		}
		next.Voters = c.Voters
	case Seal:
		// A voter is removed first: else it could decide on what it is shut out of.
		if _, sealed := s.Sealed[c.ID]; sealed || slices.Contains(s.Voters, c.ID) {
			return s, false
		}
		next.Sealed = maps.Clone(s.Sealed)
		next.Sealed[c.ID] = index
	case Reclaim:
		if !s.holds(c.Estate) {
			return s, false
		}
		next.Reclaimed, next.Fence = c.Estate.Base, index
		next.Legacies = s.legacies(index, c.Estate)
	default:
		return s, false
	}
	next.Index = index
	next.Hash = Hash(sumOf(s.Hash, index, c))
	return next, true
}

// holds tells whether an estate is still right.
func (s State) holds(e Estate) bool {
	if e.Base < s.Fence {
		return false
	}
	for id, a := range s.Admitted {
		if _, sealed := s.Sealed[id]; !sealed && a.At > e.Base && !slices.Contains(e.Wards, id) {
			return false
		}
	}
	for _, share := range e.Shares {
		if !s.IsAdmitted(share.Heir) {
			return false
		}
	}
	return true
}

// legacies are those before without what is given anew, and those of the estate.
func (s State) legacies(index uint64, e Estate) []Legacy {
	given := map[netip.Addr]bool{}
	var out []Legacy
	for _, l := range e.Leases {
		given[l.Addr] = true
		out = append(out, Legacy{Epoch: s.Epoch(index), Lease: l})
	}
	for _, l := range s.Legacies {
		if _, sealed := s.Sealed[l.Lease.Holder]; !sealed && !given[l.Lease.Addr] {
			out = append(out, l)
		}
	}
	slices.SortFunc(out, func(a, b Legacy) int { return a.Lease.Addr.Compare(b.Lease.Addr) })
	return out
}
