package ipam

import (
	"net/netip"
	"slices"

	"github.com/google/uuid"
)

// Share is what one peer owns.
type Share struct {
	Peer      uuid.UUID
	Blocks    int
	Addresses int // reserved ones included
	Prefixes  []netip.Prefix
}

// Status is the plan in numbers.
type Status struct {
	Range      netip.Prefix
	BlockBits  int
	Blocks     int // of the range
	Unowned    int // blocks
	Peers      []Share
	Used       int          // addresses of this peer in use
	Free       int          // addresses that it can give without asking
	FreeBlocks int          // blocks of its own with no address in use
	CutOff     []netip.Addr // in use here, and in a block that another peer's register won
}

// Status returns the plan in numbers, peers in the order of their first block.
func (c *Core) Status() Status {
	s := Status{Range: c.rng, BlockBits: c.blockBits, Blocks: c.blocks(), Used: len(c.addrs)}
	var order []uuid.UUID
	owned := map[uuid.UUID][]span{}
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
	for _, id := range order {
		n := count(owned[id])
		s.Peers = append(s.Peers, Share{id, n, n * c.blockSize(), c.prefixes(owned[id])})
	}
	s.FreeBlocks = count(c.own)
	for block := range c.used {
		if c.table.at(block).Owner == c.self {
			s.FreeBlocks--
		}
	}
	s.Free = count(c.own) * c.blockSize()
	for _, sp := range c.own {
		if sp.first == 0 {
			s.Free--
		}
		if sp.end() == c.blocks() {
			s.Free--
		}
	}
	for a := range c.addrs {
		if c.table.at(c.blockOf(a)).Owner == c.self {
			s.Free--
		} else {
			s.CutOff = append(s.CutOff, a)
		}
	}
	slices.SortFunc(s.CutOff, netip.Addr.Compare)
	return s
}

// Prefixes are the fewest CIDR prefixes that cover what a peer owns.
func (c *Core) Prefixes(peer uuid.UUID) []netip.Prefix { return c.prefixes(c.table.owned(peer)) }

// Allocation is an address in use.
type Allocation struct {
	Addr  netip.Addr
	Owner string
}

// Allocations are the addresses in use, in order.
func (c *Core) Allocations() []Allocation {
	out := make([]Allocation, 0, len(c.addrs))
	for a, owner := range c.addrs {
		out = append(out, Allocation{a, owner})
	}
	slices.SortFunc(out, func(x, y Allocation) int { return x.Addr.Compare(y.Addr) })
	return out
}
