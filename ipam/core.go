package ipam

import (
	"fmt"
	"net/netip"

	"github.com/google/uuid"
)

// Config is what a plan is made of.
type Config struct {
	Self      uuid.UUID
	Range     netip.Prefix
	BlockBits int
}

// Message is to be given to one peer's plan.
type Message struct {
	To   uuid.UUID
	Body []byte
}

// Answer is what a peer said to a request, an offer or a hand-over of ours.
type Answer struct {
	By      uuid.UUID
	Nonce   uint64 // of the question
	Refused bool
	Reason  string // of a refusal
}

// Effects is what an operation asks of its caller: commit Writes in one
// transaction, and only then let anything else leave the process.
type Effects struct {
	Writes  []Write
	Send    []Message
	Gossip  []byte         // a change of the table for every peer; nil for none
	Granted []netip.Prefix // became this peer's
	Lost    []netip.Prefix // was this peer's, and another's register won
	Answer  *Answer        // what the message that was received answers
}

// Core is the plan as one peer knows it. It is not safe for concurrent use. An
// operation that fails has changed nothing.
type Core struct {
	space
	self  uuid.UUID
	table table
	// own is what this peer owns by the table.
	own []span
	// addrs holds who has which address. Each is in a block of ours, but for
	// those that a conflict has cut off.
	addrs map[netip.Addr]string
	// used counts the addresses in use of each block.
	used map[int]int
	// low: every allocatable address of our own below this offset is taken.
	low int
	// grants are the latest, oldest first.
	grants []grant
	// leaving: this peer looks for an heir, so it cannot be one.
	leaving bool
}

// New returns the plan with what was committed before. Errors: those of
// Validate, ErrForeign, ErrNewer, ErrCorrupt.
func New(cfg Config, saved []Write) (*Core, error) {
	if err := Validate(cfg.Range, cfg.BlockBits); err != nil {
		return nil, err
	}
	if cfg.Self == uuid.Nil {
		return nil, fmt.Errorf("new address plan: the peer has no id")
	}
	c := &Core{space: space{cfg.Range, cfg.BlockBits}, self: cfg.Self, addrs: map[netip.Addr]string{}, used: map[int]int{}}
	c.table = newTable(c.blocks())
	for _, w := range saved {
		if err := c.load(w); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// State is the whole table, for another peer's Merge.
func (c *Core) State() []byte { return encode(c.state(c.table)) }

// Found makes this peer the owner of the whole range, as the founder of a mesh.
// It fails if any block has an owner.
func (c *Core) Found() (Effects, error) {
	if len(c.table) != 1 || c.table[0].Owner != uuid.Nil {
		return Effects{}, fmt.Errorf("found: the range %s has owners already", c.rng)
	}
	return c.merge([]Row{{0, c.blocks(), Register{Epoch: 1, Version: 1, Owner: c.self}}}), nil
}

// Merge takes in a state or a change from another peer. Effects.Gossip is what
// of it was news. Errors: ErrForeign, ErrNewer, ErrCorrupt.
func (c *Core) Merge(state []byte) (Effects, error) {
	rows, err := c.decodeState(state)
	if err != nil {
		return Effects{}, fmt.Errorf("merge address plan: %w", err)
	}
	return c.merge(rows), nil
}

// merge takes in canonical rows and says what they mean for this peer.
func (c *Core) merge(rows []Row) Effects {
	merged, news := c.table.merge(rows)
	if len(news) == 0 {
		return Effects{}
	}
	before := c.own
	c.table, c.own, c.low = merged, merged.owned(c.self), 0
	return Effects{
		Writes: []Write{c.tableWrite()}, Gossip: encode(c.state(news)),
		Granted: c.prefixes(minus(c.own, before)), Lost: c.prefixes(minus(before, c.own)),
	}
}

// give takes in rows by which this peer gives blocks away.
func (c *Core) give(rows []Row) Effects {
	e := c.merge(rows)
	e.Lost = nil // given, not lost
	return e
}
