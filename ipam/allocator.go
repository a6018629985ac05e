package ipam

import (
	"errors"
	"fmt"
	"net/netip"
	"sync"

	"github.com/google/uuid"
)

// Store keeps the plan. Commit makes all writes durable or none; Load returns
// all that was committed.
type Store interface {
	Commit([]Write) error
	Load() ([]Write, error)
}

// Network carries the plan's messages, and hears what they have brought. Send
// and Broadcast do not wait and may lose; Donors are the live peers with their
// free blocks; Moved is told of blocks that became this peer's, and of those
// that another's register took from it.
type Network interface {
	Send(to uuid.UUID, msg []byte)
	Broadcast(delta []byte)
	Donors() map[uuid.UUID]int
	Moved(granted, lost []netip.Prefix)
}

// Allocator is the plan in a running daemon: Core behind a lock, with every
// change durable before it is answered or sent. It owns no goroutine.
type Allocator struct {
	cfg     Config
	store   Store
	net     Network
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
	nonce     uint64
	donor     uuid.UUID            // who is asked for blocks
	questions map[uint64]*question // that wait for an answer, by nonce
	news      chan struct{}        // closed and replaced at every answer or change
}

// question is one that was put to a peer.
type question struct {
	to     uuid.UUID
	answer *Answer
}

// NewAllocator reads the plan from its store. The seed makes this process's
// requests different from an earlier one's: any number that is new each start.
func NewAllocator(cfg Config, store Store, net Network, seed uint64) (*Allocator, error) {
	a := &Allocator{cfg: cfg, store: store, net: net, nonce: seed,
		changed: make(chan struct{}, 1), asking: make(chan struct{}, 1),
		questions: map[uint64]*question{}, news: make(chan struct{})}
	if err := a.loadLocked(); err != nil {
		return nil, err
	}
	return a, nil
}

// loadLocked makes the core what was committed.
func (a *Allocator) loadLocked() error {
	saved, err := a.store.Load()
	if err != nil {
		return fmt.Errorf("read the address plan: %w", err)
	}
	core, err := New(a.cfg, saved)
	if err != nil {
		return err
	}
	if a.core != nil {
		core.leaving = a.core.leaving // the only thing that is not durable by intent
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
	for _, m := range e.Send {
		a.net.Send(m.To, m.Body)
	}
	if e.Gossip != nil {
		a.net.Broadcast(e.Gossip)
	}
	if len(e.Granted)+len(e.Lost) > 0 {
		a.net.Moved(e.Granted, e.Lost)
	}
	if len(e.Writes) > 0 {
		select {
		case a.changed <- struct{}{}:
		default:
		}
	}
	return nil
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
		if err := a.store.Commit(e.Writes); err != nil {
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

// Found makes this peer the owner of the whole range.
func (a *Allocator) Found() error { return a.do((*Core).Found) }

// Claim gives the owner a certain address; see Core.Claim.
func (a *Allocator) Claim(owner string, addr netip.Addr) error {
	return a.do(func(c *Core) (Effects, error) { return c.Claim(owner, addr) })
}

// Release frees an address of an owner.
func (a *Allocator) Release(owner string, addr netip.Addr) error {
	return a.do(func(c *Core) (Effects, error) { return c.Release(owner, addr), nil })
}

// Receive takes in a message of another peer's plan.
func (a *Allocator) Receive(from uuid.UUID, msg []byte) error {
	return a.do(func(c *Core) (Effects, error) { return c.Receive(from, msg) })
}

// Merge takes in a state or change of another peer's and returns what was
// news. The caller forwards it.
func (a *Allocator) Merge(state []byte) (news []byte, err error) {
	err = a.do(func(c *Core) (Effects, error) {
		e, err := c.Merge(state)
		news, e.Gossip = e.Gossip, nil
		return e, err
	})
	if err != nil {
		return nil, err // what is not durable must not be forwarded
	}
	return news, nil
}

// Changed announces, coalesced, that something durable has changed.
func (a *Allocator) Changed() <-chan struct{} { return a.changed }
