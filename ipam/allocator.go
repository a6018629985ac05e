package ipam

import (
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/google/uuid"
)

// Record is one change of what has to be durable, as bytes; Value nil deletes
// the key.
type Record struct {
	Bucket, Key string
	Value       []byte
}

// Store keeps the plan. Commit makes all records durable or none; Load returns
// all that was committed.
type Store interface {
	Commit([]Record) error
	Load() ([]Record, error)
}

// Network carries the plan's messages, and hears what they have brought. Send
// and Broadcast do not wait and may lose. Live are the other peers that answer,
// true for those that may be voters; Donors are those with their free blocks.
type Network interface {
	Send(to uuid.UUID, msg []byte)
	Broadcast(delta []byte)
	Live() map[uuid.UUID]bool
	Donors() map[uuid.UUID]int
	Moved(Moved)
}

// Moved is what a peer gained or lost by what it was told.
type Moved struct {
	Granted, Lost []netip.Prefix
	Cut           []netip.Addr // in use until now
	Renounced     bool         // it was shut out, and begins anew
	Trouble       string       // what should not have happened
}

// Allocator is the plan in a running daemon: Core behind a lock, with every
// change durable before it is answered or sent. It owns no goroutine.
type Allocator struct {
	cfg     Config
	store   Store
	net     Network
	now     func() time.Time
	changed chan struct{}
	// asking holds a token while a caller asks for blocks. One at a time: a
	// newcomer whose first containers come all at once must get one share, not
	// a share for each.
	asking chan struct{}

	mu   sync.Mutex
	core *Core
	// stale: a commit failed, and what was committed could not be read again;
	// the core may be one operation ahead of it, and nothing more is done to it.
	stale     bool
	start     uint64
	nonce     uint64
	share     int       // of a newcomer, in blocks; 0 for what it is given
	idle      bool      // an observer, until an address is asked for or used there
	sponsor   uuid.UUID // who is asked to let this peer in
	asked     time.Time // since when
	joining   uint64    // the nonce of that question
	donor     uuid.UUID // who is asked for blocks
	questions map[uint64]*question
	news      chan struct{} // closed and replaced at every answer or change
}

// question is one that was put to a peer.
type question struct {
	to     uuid.UUID
	answer *Answer
}

// NewAllocator reads the plan from its store. The start makes this process
// different from an earlier one: any number that was never used before.
func NewAllocator(cfg Config, store Store, net Network, start uint64) (*Allocator, error) {
	a := &Allocator{cfg: cfg, store: store, net: net, now: time.Now, start: start, nonce: start,
		changed: make(chan struct{}, 1), asking: make(chan struct{}, 1),
		questions: map[uint64]*question{}, news: make(chan struct{})}
	if err := a.loadLocked(); err != nil {
		return nil, err
	}
	return a, a.do(func(c *Core) (Effects, error) { return c.Start(), nil })
}

// Readable tells whether the records of a store are a plan of this peer.
// Errors: ErrForeign, ErrNewer, ErrCorrupt.
func Readable(cfg Config, saved []Record) error {
	_, err := open(cfg, saved, 1)
	return err
}

func open(cfg Config, saved []Record, start uint64) (*Core, error) {
	writes := make([]Write, len(saved))
	for i, r := range saved {
		var err error
		if writes[i], err = DecodeWrite(r.Bucket, r.Key, r.Value); err != nil {
			return nil, err
		}
	}
	sortWrites(writes)
	return New(cfg, writes, start)
}

// loadLocked makes the core what was committed.
func (a *Allocator) loadLocked() error {
	saved, err := a.store.Load()
	if err != nil {
		return fmt.Errorf("read the address plan: %w", err)
	}
	core, err := open(a.cfg, saved, a.start)
	if err != nil {
		return err
	}
	if a.core != nil {
		core.begun, core.volatile = a.core.begun, a.core.volatile
		core.enforced = 0 // what the data plane follows may be ahead of this
	}
	a.core, a.stale = core, false
	return nil
}

// do runs one operation of the core, commits, and lets the rest out.
func (a *Allocator) do(op func(*Core) (Effects, error)) error {
	e, err := a.durably(op)
	if err != nil {
		return err
	}
	a.letOut(e, true)
	return nil
}

// letOut carries out what may happen once an operation is durable.
func (a *Allocator) letOut(e Effects, gossip bool) {
	for _, m := range e.Send {
		a.net.Send(m.To, a.cfg.space().EncodeMsg(m.Body))
	}
	if e.Gossip != nil && gossip {
		a.net.Broadcast(a.cfg.space().EncodeMsg(e.Gossip))
	}
	if len(e.Granted)+len(e.Lost)+len(e.Cut) > 0 || e.Renounced || e.Trouble != "" {
		a.net.Moved(Moved{e.Granted, e.Lost, e.Cut, e.Renounced, e.Trouble})
	}
	if len(e.Writes) > 0 {
		select {
		case a.changed <- struct{}{}:
		default:
		}
	}
}

// durably runs one operation of the core and commits it. If the commit fails,
// the core goes back to what is durable.
func (a *Allocator) durably(op func(*Core) (Effects, error)) (Effects, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.stale {
		if err := a.loadLocked(); err != nil {
			return Effects{}, err
		}
	}
	e, err := op(a.core)
	if err != nil {
		return Effects{}, err
	}
	if len(e.Writes) > 0 {
		records := make([]Record, len(e.Writes))
		for i, w := range e.Writes {
			records[i] = Record{w.Bucket, w.Key, EncodeWrite(w)}
		}
		if err := a.store.Commit(records); err != nil {
			a.stale = true
			return Effects{}, errors.Join(fmt.Errorf("commit the address plan: %w", err), a.loadLocked())
		}
	}
	if e.Answer != nil {
		// What nobody asked, or another was asked, is not kept.
		if q := a.questions[e.Answer.Nonce]; q != nil && q.to == e.Answer.By {
			q.answer = e.Answer
		}
	}
	if e.Answer != nil || len(e.Writes) > 0 {
		close(a.news)
		a.news = make(chan struct{})
	}
	return e, nil
}

// Found makes this peer the first member and the owner of the whole range.
func (a *Allocator) Found() error {
	return a.do(func(c *Core) (Effects, error) { return c.Found(a.life()) })
}

// life is a number for a new life of this peer: later ones are larger, if the
// clock is not set back by more than the time in between; nothing that matters
// to the safety of addresses depends on it.
func (a *Allocator) life() uint64 { return uint64(a.now().UnixNano()) }

// Release frees an address of an owner.
func (a *Allocator) Release(owner string, addr netip.Addr) error {
	return a.do(func(c *Core) (Effects, error) { return c.Release(owner, addr), nil })
}

// Receive takes in a message of another peer's plan.
func (a *Allocator) Receive(from uuid.UUID, msg []byte) error {
	m, err := a.cfg.space().DecodeMsg(msg)
	if err != nil {
		return err
	}
	return a.do(func(c *Core) (Effects, error) { return c.Receive(from, m) })
}

// Merge takes in a state or change of another peer's and returns what was
// news. The caller forwards it.
func (a *Allocator) Merge(state []byte) (news []byte, err error) {
	m, err := a.cfg.space().DecodeMsg(state)
	if err != nil {
		return nil, err
	}
	e, err := a.durably(func(c *Core) (Effects, error) { return c.Merge(m) })
	if err != nil {
		return nil, err // what is not durable must not be forwarded
	}
	a.letOut(e, false)
	if e.Gossip != nil {
		news = a.cfg.space().EncodeMsg(e.Gossip)
	}
	return news, nil
}

// State is what this peer knows, in short, for another peer's Merge; nil while
// it is not known what of it is durable.
func (a *Allocator) State() []byte {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.stale {
		return nil
	}
	return a.cfg.space().EncodeMsg(a.core.State())
}

// Tick is to be called every TickEvery or so.
func (a *Allocator) Tick() error {
	live := a.net.Live()
	err := a.do(func(c *Core) (Effects, error) { return c.Tick(live), nil })
	return errors.Join(err, a.join(false))
}

// TickEvery is the time between two calls of Tick.
const TickEvery = 250 * time.Millisecond

// Fence counts the changes of who may send and receive; see Enforced.
func (a *Allocator) Fence() uint64 { return look(a, (*Core).Fence) }

// Enforced tells that the data plane follows the plan as it was when Fence was
// asked. Without it nothing is inherited in the whole mesh.
func (a *Allocator) Enforced(fence uint64) error {
	if look(a, func(c *Core) bool { return c.enforced >= fence }) {
		return nil
	}
	err := a.do(func(c *Core) (Effects, error) { return c.Enforced(fence), nil })
	return errors.Join(err, a.join(false))
}

// Changed announces, coalesced, that something durable has changed.
func (a *Allocator) Changed() <-chan struct{} { return a.changed }

func look[T any](a *Allocator, fn func(*Core) T) T {
	a.mu.Lock()
	defer a.mu.Unlock()
	return fn(a.core)
}

// Status is the plan in numbers.
func (a *Allocator) Status() Status { return look(a, (*Core).Status) }

// Allocations are the addresses that are used or wanted here, in order.
func (a *Allocator) Allocations() []Allocation { return look(a, (*Core).Allocations) }

// Prefixes are the fewest CIDR prefixes that cover what a peer may use, with
// the single addresses that others have leased to it.
func (a *Allocator) Prefixes(peer uuid.UUID) []netip.Prefix {
	return look(a, func(c *Core) []netip.Prefix { return c.Prefixes(peer) })
}

// Held tells whether an owner may use an address, and why not, if that is known.
func (a *Allocator) Held(owner string, addr netip.Addr) (ok bool, refused string) {
	return look2(a, func(c *Core) (bool, string) { return c.Held(owner, addr) })
}

// Owned are the addresses that one owner may use, in order.
func (a *Allocator) Owned(owner string) []netip.Addr {
	return look(a, func(c *Core) []netip.Addr { return c.owned(owner) })
}
