package ipam

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

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

// answerTime is how long one peer is waited for before the next is asked.
const answerTime = 2 * time.Second

// Allocator is the plan in a running daemon: Core behind a lock, with every
// change durable before it is answered or sent. It owns no goroutine.
type Allocator struct {
	cfg     Config
	store   Store
	net     Network
	changed chan struct{}

	mu      sync.Mutex
	core    *Core
	nonce   uint64
	answers map[uint64]*Refusal // by nonce; nil: granted or accepted
	news    chan struct{}       // closed and replaced at every answer or change
}

// NewAllocator reads the plan from its store. The seed makes this process's
// requests different from an earlier one's: any number that is new each start.
func NewAllocator(cfg Config, store Store, net Network, seed uint64) (*Allocator, error) {
	a := &Allocator{cfg: cfg, store: store, net: net, nonce: seed, changed: make(chan struct{}, 1),
		answers: map[uint64]*Refusal{}, news: make(chan struct{})}
	return a, a.load()
}

func (a *Allocator) load() error {
	saved, err := a.store.Load()
	if err != nil {
		return err
	}
	a.core, err = New(a.cfg, saved)
	return err
}

// do runs one operation of the core, commits, and lets the rest out. If the
// commit fails the core goes back to what is durable.
func (a *Allocator) do(op func(*Core) (Effects, error)) (Effects, error) {
	a.mu.Lock()
	e, err := op(a.core)
	if err == nil && len(e.Writes) > 0 {
		if err = a.store.Commit(e.Writes); err != nil {
			err = errors.Join(err, a.load())
		}
	}
	if err != nil {
		a.mu.Unlock()
		return Effects{}, err
	}
	if e.Nonce != 0 {
		a.answers[e.Nonce] = e.Refused
	}
	if e.Nonce != 0 || len(e.Writes) > 0 {
		close(a.news)
		a.news = make(chan struct{})
	}
	a.mu.Unlock()

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
	return e, nil
}

// ask sends a request and waits for its answer, or until what was asked for is
// there by another way; answered is false if neither came in time.
func (a *Allocator) ask(ctx context.Context, wait time.Duration, op func(*Core, uint64) (Effects, error), there func(*Core) bool) (refused *Refusal, answered bool, err error) {
	a.mu.Lock()
	a.nonce++
	nonce := a.nonce
	a.mu.Unlock()
	defer func() {
		a.mu.Lock()
		delete(a.answers, nonce)
		a.mu.Unlock()
	}()
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	if _, err := a.do(func(c *Core) (Effects, error) { return op(c, nonce) }); err != nil {
		return nil, false, err
	}
	for {
		a.mu.Lock()
		if refused, answered = a.answers[nonce]; !answered {
			answered = there(a.core)
		}
		news := a.news
		a.mu.Unlock()
		if answered {
			return refused, true, nil
		}
		select {
		case <-news:
		case <-ctx.Done():
			return nil, false, nil
		}
	}
}

// Found makes this peer the owner of the whole range.
func (a *Allocator) Found() error {
	_, err := a.do((*Core).Found)
	return err
}

// Allocate gives the owner a free address: of this peer's own blocks, else it
// asks the other peers for blocks, one after the other, until ctx ends. Where
// none is to be had the error is a *SpaceError.
func (a *Allocator) Allocate(ctx context.Context, owner string) (netip.Addr, error) {
	asked := map[uuid.UUID]string{}
	for {
		addr, err := a.own(owner)
		if !errors.Is(err, ErrNoSpace) {
			return addr, err
		}
		free := a.net.Donors()
		maps.DeleteFunc(free, func(id uuid.UUID, _ int) bool { return asked[id] != "" && asked[id] != noAnswer })
		donors := Donors(free)
		if len(donors) == 0 {
			return addr, a.spaceError(asked, ErrExhausted)
		}
		for _, donor := range donors {
			blocks := a.Status().ownBlocks(a.cfg.Self) / 2
			refused, answered, err := a.ask(ctx, answerTime, func(c *Core, nonce uint64) (Effects, error) {
				return c.Request(donor, blocks, nonce), nil
			}, (*Core).hasFree)
			switch {
			case err != nil:
				return addr, err
			case ctx.Err() != nil:
				asked[donor] = noAnswer
				return addr, a.spaceError(asked, ctx.Err())
			case !answered:
				asked[donor] = noAnswer
			case refused != nil:
				asked[donor] = refused.Reason
			}
			if answered && refused == nil {
				break
			}
		}
	}
}

const noAnswer = "no answer"

func (s Status) ownBlocks(self uuid.UUID) int {
	for _, p := range s.Peers {
		if p.Peer == self {
			return p.Blocks
		}
	}
	return 0
}

func (a *Allocator) own(owner string) (addr netip.Addr, err error) {
	_, err = a.do(func(c *Core) (e Effects, err error) {
		addr, e, err = c.Allocate(owner)
		return e, err
	})
	return addr, err
}

func (a *Allocator) spaceError(asked map[uuid.UUID]string, cause error) error {
	e := &SpaceError{Range: a.cfg.Range, Err: cause}
	for _, id := range slices.SortedFunc(maps.Keys(asked), func(x, y uuid.UUID) int { return slices.Compare(x[:], y[:]) }) {
		e.Asked = append(e.Asked, Refusal{id, asked[id]})
	}
	return e
}

// Claim gives the owner a certain address; see Core.Claim.
func (a *Allocator) Claim(owner string, addr netip.Addr) error {
	_, err := a.do(func(c *Core) (Effects, error) { return c.Claim(owner, addr) })
	return err
}

// Release frees an address of an owner.
func (a *Allocator) Release(owner string, addr netip.Addr) error {
	_, err := a.do(func(c *Core) (Effects, error) { return c.Release(owner, addr), nil })
	return err
}

// HandOver gives everything to the first of the heirs that takes it, and
// returns once that heir has made it durable. No address may be in use.
func (a *Allocator) HandOver(ctx context.Context, heirs []uuid.UUID) (uuid.UUID, error) {
	if len(heirs) == 0 {
		return uuid.Nil, errors.New("hand over: no heir")
	}
	// The first message already gives the blocks to this heir, so that asking
	// another one instead of asking again would give them twice.
	heir := heirs[0]
	for ctx.Err() == nil {
		_, answered, err := a.ask(ctx, answerTime, func(c *Core, nonce uint64) (Effects, error) { return c.HandOver(heir, nonce) },
			func(*Core) bool { return false })
		if err != nil || answered {
			return heir, err
		}
	}
	return heir, fmt.Errorf("hand over address space: no answer from peer %s: %w", heir, ctx.Err())
}

// Receive takes in a message of another peer's plan.
func (a *Allocator) Receive(from uuid.UUID, msg []byte) error {
	_, err := a.do(func(c *Core) (Effects, error) { return c.Receive(from, msg) })
	return err
}

// Merge takes in a state or change of another peer's and returns what was
// news. The caller forwards it.
func (a *Allocator) Merge(state []byte) (news []byte, err error) {
	_, err = a.do(func(c *Core) (Effects, error) {
		e, err := c.Merge(state)
		news, e.Gossip = e.Gossip, nil
		return e, err
	})
	return news, err
}

// Changed announces, coalesced, that something durable has changed.
func (a *Allocator) Changed() <-chan struct{} { return a.changed }

func look[T any](a *Allocator, fn func(*Core) T) T {
	a.mu.Lock()
	defer a.mu.Unlock()
	return fn(a.core)
}

// State is the whole table, for another peer's Merge.
func (a *Allocator) State() []byte { return look(a, (*Core).State) }

// Status is the plan in numbers.
func (a *Allocator) Status() Status { return look(a, (*Core).Status) }

// Allocations are the addresses in use, in order.
func (a *Allocator) Allocations() []Allocation { return look(a, (*Core).Allocations) }

// Prefixes are the fewest CIDR prefixes that cover what a peer owns.
func (a *Allocator) Prefixes(peer uuid.UUID) []netip.Prefix {
	return look(a, func(c *Core) []netip.Prefix { return c.Prefixes(peer) })
}

// Owned are the addresses of one owner, in order.
func (a *Allocator) Owned(owner string) []netip.Addr {
	var out []netip.Addr
	for _, al := range a.Allocations() {
		if al.Owner == owner {
			out = append(out, al.Addr)
		}
	}
	return out
}
