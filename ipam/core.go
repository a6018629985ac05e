package ipam

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/google/uuid"
)

// Config is what a plan is made of.
type Config struct {
	Self      uuid.UUID
	Range     netip.Prefix
	BlockBits int
}

// Write is one change of what has to be durable; Value nil deletes the key.
type Write struct {
	Bucket     string
	Key, Value []byte
}

// Buckets of Writes.
const (
	bucketTable = "table" // one key: the whole table of registers
	bucketAddrs = "addrs" // an address: its owner
)

// Message is to be given to one peer's plan.
type Message struct {
	To   uuid.UUID
	Body []byte
}

// Effects is what an operation asks of its caller: commit Writes in one
// transaction, and only then let anything else leave the process.
type Effects struct {
	Writes   []Write
	Send     []Message
	Gossip   []byte         // a change of the table for every peer; nil for none
	Granted  []netip.Prefix // became this peer's
	Lost     []netip.Prefix // was this peer's, and another's register won
	Refused  *Refusal       // the answer to a request
	Accepted bool           // the answer to a hand-over
	Nonce    uint64         // of the request that was answered
}

// Core is the plan as one peer knows it. It is not safe for concurrent use.
type Core struct {
	space
	self  uuid.UUID
	table table
	// addrs holds who has which address. Each is in a block of ours, but for
	// those that a conflict has cut off.
	addrs map[netip.Addr]string
	// used counts the addresses in use of each block.
	used map[int]int
	// low: every allocatable address below this offset is taken.
	low int
	// grants remembers the latest answers to requests, so that a request that
	// arrives twice is not granted twice.
	grants []granted
}

type granted struct {
	peer  uuid.UUID
	nonce uint64
	rows  []Row
}

// grantsKept bounds the memory of grants; a request is repeated within seconds.
const grantsKept = 64

// New returns the plan with what was committed before.
func New(cfg Config, saved []Write) (*Core, error) {
	if err := Validate(cfg.Range, cfg.BlockBits); err != nil {
		return nil, err
	}
	c := &Core{space: space{cfg.Range, cfg.BlockBits}, self: cfg.Self, addrs: map[netip.Addr]string{}, used: map[int]int{}}
	c.table = newTable(c.blocks())
	for _, w := range saved {
		switch w.Bucket {
		case bucketTable:
			rows, err := c.decodeState(w.Value)
			if err != nil {
				return nil, fmt.Errorf("stored table: %w", err)
			}
			for _, r := range rows {
				c.table.set(r)
			}
		case bucketAddrs:
			a, ok := netip.AddrFromSlice(w.Key)
			if !ok || !c.rng.Contains(a) {
				return nil, fmt.Errorf("stored address %x is not in %s", w.Key, c.rng)
			}
			c.addrs[a] = string(w.Value)
			c.used[c.blockOf(a)]++
		default:
			return nil, fmt.Errorf("stored value in bucket %q, which this version does not know", w.Bucket)
		}
	}
	return c, nil
}

// write is the durable form of the table.
func (c *Core) write() Write {
	return Write{bucketTable, []byte("rows"), c.State()}
}

// State is the whole table, for another peer's Merge.
func (c *Core) State() []byte { return encode(c.state(c.table.rows)) }

// Found makes this peer the owner of the whole range, as the founder of a mesh.
func (c *Core) Found() (Effects, error) {
	if len(c.table.rows) != 1 || c.table.rows[0].Owner != uuid.Nil {
		return Effects{}, fmt.Errorf("found: the range %s has owners already", c.rng)
	}
	return c.change([]Row{{0, c.blocks(), Register{Epoch: 1, Version: 1, Owner: c.self}}}), nil
}

// change writes rows that are known to be news and says what that means.
func (c *Core) change(rows []Row) Effects {
	if len(rows) == 0 {
		return Effects{}
	}
	before := c.table.owned(c.self)
	for _, r := range rows {
		c.table.set(r)
	}
	after := c.table.owned(c.self)
	c.low = 0
	return Effects{
		Writes: []Write{c.write()}, Gossip: encode(c.state(rows)),
		Granted: c.prefixes(minus(after, before)), Lost: c.prefixes(minus(before, after)),
	}
}

// minus returns the blocks of a that are not in b; both are sorted.
func minus(a, b []span) []span {
	var out []span
	for _, s := range a {
		first, end := s.first, s.first+s.count
		for _, o := range b {
			if o.first+o.count <= first || o.first >= end {
				continue
			}
			if o.first > first {
				out = append(out, span{first, o.first - first})
			}
			first = o.first + o.count
		}
		if first < end {
			out = append(out, span{first, end - first})
		}
	}
	return out
}

// Merge takes in a state or a change from another peer. Effects.Gossip is what
// of it was news.
func (c *Core) Merge(state []byte) (Effects, error) {
	rows, err := c.decodeState(state)
	if err != nil {
		return Effects{}, err
	}
	return c.merge(rows), nil
}

func (c *Core) merge(rows []Row) Effects {
	var news []Row
	for _, r := range rows {
		news = append(news, c.table.newer(r)...)
	}
	// Rows of one message may overlap: in ascending order of their registers
	// the largest is written last, and stands.
	slices.SortStableFunc(news, func(a, b Row) int { return a.Register.compare(b.Register) })
	return c.change(news)
}

// Prefixes are the fewest CIDR prefixes that cover what a peer owns.
func (c *Core) Prefixes(peer uuid.UUID) []netip.Prefix { return c.prefixes(c.table.owned(peer)) }

// Share is what one peer owns.
type Share struct {
	Peer     uuid.UUID
	Blocks   int
	Prefixes []netip.Prefix
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
	FreeBlocks int          // blocks that it could give away
	CutOff     []netip.Addr // in use here, and in a block that another peer's register won
}

// Status returns the plan in numbers, peers in the order of their first block.
func (c *Core) Status() Status {
	s := Status{Range: c.rng, BlockBits: c.blockBits, Blocks: c.blocks(), Used: len(c.addrs)}
	seen := map[uuid.UUID]bool{}
	for _, r := range c.table.rows {
		if r.Owner == uuid.Nil {
			s.Unowned += r.Count
			continue
		}
		if seen[r.Owner] {
			continue
		}
		seen[r.Owner] = true
		spans := c.table.owned(r.Owner)
		s.Peers = append(s.Peers, Share{r.Owner, count(spans), c.prefixes(spans)})
	}
	own := c.table.owned(c.self)
	s.FreeBlocks = count(own)
	for block := range c.used {
		if c.table.at(block).Owner == c.self {
			s.FreeBlocks--
		}
	}
	s.Free = count(own) * c.blockSize()
	for _, sp := range own {
		if sp.first == 0 {
			s.Free--
		}
		if sp.first+sp.count == c.blocks() {
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

// validOwner keeps owners printable and bounded; they end up in messages.
func validOwner(owner string) error {
	if owner == "" || len(owner) > 256 || strings.ContainsFunc(owner, func(r rune) bool { return r < ' ' }) {
		return fmt.Errorf("owner %q is empty, longer than 256 bytes or not printable", owner)
	}
	return nil
}
