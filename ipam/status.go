package ipam

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/google/uuid"
)

// Share is what one member owns.
type Share struct {
	Member    ID
	Peer      uuid.UUID // zero if it is not known who that was
	Blocks    int
	Addresses int // reserved ones included
	Prefixes  []netip.Prefix
	Voter     bool
	Sealed    bool // what it owned is not inherited yet
}

// Pending is a member that was sealed, while what it had is not inherited yet.
type Pending struct {
	Member ID
	Peer   uuid.UUID
}

// Status is the plan in numbers.
type Status struct {
	Range      netip.Prefix
	BlockBits  int
	Blocks     int // of the range
	Unowned    int // blocks
	Members    []Share
	Used       int // addresses of this peer in use
	Free       int // addresses that it can give without asking
	FreeBlocks int // blocks of its own with no address in use

	Index       uint64 // of the council's last decision; 0 while none is known
	Generation  uint64 // of forced decisions
	Voters      []uuid.UUID
	Leader      uuid.UUID // zero if this peer does not know
	Pending     []Pending
	WaitingFor  []uuid.UUID    // whom the leader waits for before the pending is inherited; known to it alone
	Lodged      bool           // this peer is a member
	Wanted      []Wanted       // in use here once, and not allowed now
	Quarantined []netip.Prefix // owned by this peer, and not used, since who gave it had no right to
	LeasesOut   int            // addresses of ours that others use
	LeasesIn    int            // addresses of others that are used here
}

// Wanted is an address that an owner cannot use for now.
type Wanted struct {
	Addr    netip.Addr
	Owner   string
	Refused string // why, if the owner of the block has said so
}

// Status returns the plan in numbers, members in the order of their first block.
func (c *Core) Status() Status {
	s := Status{Range: c.rng, BlockBits: c.blockBits, Blocks: c.blocks(), Index: c.view.Index, Generation: c.view.Generation(),
		Lodged: c.Lodged(), LeasesOut: len(c.books[c.self].leases)}
	var order []ID
	owned := map[ID][]span{}
	for _, r := range c.table {
		if r.Owner == uuid.Nil {
			s.Unowned += r.Count
			continue
		}
		if owned[r.Owner] == nil {
			order = append(order, r.Owner)
		}
		owned[r.Owner] = appendSpan(owned[r.Owner], span{r.First, r.Count})
	}
	for _, id := range c.view.Members() {
		if owned[id] == nil {
			order = append(order, id)
		}
	}
	for _, id := range order {
		n := count(owned[id])
		who, _ := c.member(id)
		s.Members = append(s.Members, Share{Member: id, Peer: who.Peer, Blocks: n, Addresses: n * c.blockSize(),
			Prefixes: c.prefixes(owned[id]), Voter: slices.Contains(c.view.Voters, id), Sealed: c.isSealed(id)})
	}
	c.statusOfOwn(&s, owned[c.self])
	c.statusOfCouncil(&s)
	return s
}

// statusOfOwn is what this peer has.
func (c *Core) statusOfOwn(s *Status, owned []span) {
	s.FreeBlocks = count(c.own) - len(c.used)
	s.Free = count(c.own)*c.blockSize() - s.LeasesOut
	for _, sp := range c.own {
		if sp.first == 0 {
			s.Free--
		}
		if sp.end() == c.blocks() {
			s.Free--
		}
	}
	for _, a := range sortedAddrs(c.held) {
		switch h := c.held[a]; h.use {
		case useOwn:
			s.Used++
			s.Free--
		case useLeased:
			s.Used++
			s.LeasesIn++
		default:
			s.Wanted = append(s.Wanted, Wanted{a, h.owner, h.refused})
		}
	}
	if c.self != uuid.Nil {
		s.Quarantined = c.prefixes(minus(owned, c.own))
	}
}

func (c *Core) statusOfCouncil(s *Status) {
	peer := func(id ID) uuid.UUID {
		m, _ := c.member(id)
		return m.Peer
	}
	for _, v := range c.view.Voters {
		s.Voters = append(s.Voters, peer(v))
	}
	if c.node != nil {
		s.Leader = peer(c.node.Leader())
	}
	for _, id := range c.view.Pending() {
		s.Pending = append(s.Pending, Pending{id, peer(id)})
	}
	if c.leads() && c.round.acks != nil {
		for _, id := range c.missing() {
			s.WaitingFor = append(s.WaitingFor, peer(id))
		}
	}
}

// Prefixes are the fewest CIDR prefixes that cover what a peer may use, with
// the single addresses that others have leased to it, in order.
func (c *Core) Prefixes(peer uuid.UUID) []netip.Prefix {
	id, ok := c.MemberOf(peer)
	if !ok {
		return nil
	}
	own := c.own
	if id != c.self {
		own = c.table.owned(id)
	}
	out := c.prefixes(own)
	for _, a := range c.leasedTo(id) {
		out = append(out, netip.PrefixFrom(a, a.BitLen()))
	}
	slices.SortFunc(out, func(a, b netip.Prefix) int { return cmp.Or(a.Addr().Compare(b.Addr()), a.Bits()-b.Bits()) })
	return out
}

// owned are the addresses that one owner may use, in order.
func (c *Core) owned(owner string) (out []netip.Addr) {
	for addr, h := range c.held {
		if h.owner == owner && h.use != useWanted {
			out = append(out, addr)
		}
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return out
}

// leasedTo are the single addresses that a member uses in blocks of others.
func (c *Core) leasedTo(id ID) []netip.Addr {
	var out []netip.Addr
	if id == c.self {
		for addr, h := range c.held {
			if h.use == useLeased {
				out = append(out, addr)
			}
		}
		slices.SortFunc(out, netip.Addr.Compare)
		return out
	}
	for _, owner := range sortedIDs(c.books) {
		for _, l := range c.books[owner].leases {
			if l.Holder == id && c.table.at(c.blockOf(l.Addr)).Owner == owner {
				out = append(out, l.Addr)
			}
		}
	}
	return out
}

// Allocation is an address that somebody here uses or wants.
type Allocation struct {
	Addr  netip.Addr
	Owner string
	// Active: it may be used. Else it must not, and Refused says why, if the
	// owner of the block has said so.
	Active  bool
	Refused string
}

// Allocations are the addresses that are used or wanted here, in order.
func (c *Core) Allocations() []Allocation {
	out := make([]Allocation, 0, len(c.held))
	for _, a := range sortedAddrs(c.held) {
		h := c.held[a]
		out = append(out, Allocation{a, h.owner, h.use != useWanted, h.refused})
	}
	return out
}
