package ipam

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/google/uuid"
)

// answerTime is how long one peer is waited for before the next is asked.
const answerTime = 2 * time.Second

const noAnswer = "no answer"

// ask puts a question to a peer and waits for its answer, or until enough is
// there by another way. It returns nil if neither came in time.
func (a *Allocator) ask(ctx context.Context, to uuid.UUID, op func(*Core, uint64) (Effects, error), enough func(*Core) bool) (*Answer, error) {
	q := &question{to: to}
	a.mu.Lock()
	a.nonce++
	nonce := a.nonce
	a.questions[nonce] = q
	a.mu.Unlock()
	defer func() {
		a.mu.Lock()
		delete(a.questions, nonce)
		a.mu.Unlock()
	}()
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	if err := a.do(func(c *Core) (Effects, error) { return op(c, nonce) }); err != nil {
		return nil, err
	}
	var answer *Answer
	a.wait(ctx, func(c *Core) bool {
		answer = q.answer // an answer that comes later is written to q only
		if answer == nil && enough(c) {
			answer = &Answer{By: to, Nonce: nonce}
		}
		return answer != nil
	})
	return answer, nil
}

// wait waits for something to become true of the core.
func (a *Allocator) wait(ctx context.Context, done func(*Core) bool) bool {
	for {
		a.mu.Lock()
		ok, news := done(a.core), a.news
		a.mu.Unlock()
		if ok {
			return true
		}
		select {
		case <-news:
		case <-ctx.Done():
			return false
		}
	}
}

// patience is how long one peer is asked to let this one in before another is, and
// giverPatience the same of the only one that can give a founder its share whole.
const (
	patience      = 4 * time.Second
	giverPatience = 30 * time.Second
)

// join asks a peer to let this one in, if it is no member. Whoever was asked is
// asked again for a while: to ask another is to begin another life.
func (a *Allocator) join(needed bool) error {
	free := a.net.Donors()
	a.mu.Lock()
	c := a.core
	if c.Lodged() || a.idle && !needed && len(c.held) == 0 || c.view.Index == 0 || a.stale {
		a.mu.Unlock()
		return nil
	}
	now := a.now()
	if a.asked.IsZero() {
		a.asked = now
	}
	limit := patience
	if giver, ok := c.giver(a.share); ok {
		limit = giverPatience
		if _, live := free[giver]; live {
			free[giver] = c.blocks()
		} else if a.sponsor == uuid.Nil && now.Sub(a.asked) < limit {
			// The plan is heard of before all peers are.
			a.mu.Unlock()
			return nil
		}
	}
	donors := Donors(free)
	if known := slices.Contains(donors, a.sponsor); !known || now.Sub(a.asked) > limit {
		next := slices.DeleteFunc(donors, func(id uuid.UUID) bool {
			_, member := c.MemberOf(id)
			return !member || id == a.sponsor && known
		})
		if len(next) > 0 {
			a.nonce++
			// The same question until another is asked, so that it is granted once.
			a.sponsor, a.asked, a.joining = next[0], now, a.nonce
		}
	}
	sponsor, share, nonce, life := a.sponsor, a.share, a.joining, a.life()
	a.mu.Unlock()
	err := a.do(func(c *Core) (Effects, error) { return c.Join(sponsor, share, nonce, life) })
	if errors.Is(err, ErrUnknownPeer) || errors.Is(err, ErrNotEnforced) || errors.Is(err, errMember) {
		return nil // later
	}
	return err
}

// SetShare says how many blocks this peer asks for as a newcomer, instead of
// what it is given: the share of one of several that found a mesh together.
func (a *Allocator) SetShare(blocks int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.share = blocks
}

// SetIdle keeps this peer from becoming a member until it needs an address.
func (a *Allocator) SetIdle(idle bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.idle = idle
}

// Prime waits until addresses can be given: until this peer is a member and has
// blocks of its own. The error is a *SpaceError that says what is missing.
func (a *Allocator) Prime(ctx context.Context) error {
	if err := a.lodge(ctx); err != nil {
		return err
	}
	if look(a, func(c *Core) bool { _, ok := c.free(c.rng); return ok }) {
		return nil
	}
	_, err := a.allocateAsking(ctx, "", a.cfg.Range)
	return err
}

// Hear waits until this peer has heard of the mesh's plan, and tells whether it has.
func (a *Allocator) Hear(ctx context.Context) bool {
	return a.wait(ctx, func(c *Core) bool { return c.view.Index > 0 })
}

// lodge waits until this peer is a member.
func (a *Allocator) lodge(ctx context.Context) error {
	a.SetIdle(false)
	if err := a.join(true); err != nil {
		return err
	}
	if a.wait(ctx, (*Core).Lodged) {
		return nil
	}
	e := &SpaceError{Range: a.cfg.Range, Err: ctx.Err()}
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case a.core.view.Index == 0:
		e.Waiting = "nobody has founded the mesh's address plan yet, or none who knows it has answered"
	case a.sponsor != uuid.Nil:
		e.Asked = []Refusal{{a.sponsor, noAnswer}}
	}
	return e
}

// Allocate gives the owner a free address in a part of the range: of this
// peer's own blocks, else it asks the other peers for blocks, one after the
// other, until ctx ends. Where none is to be had the error is a *SpaceError.
func (a *Allocator) Allocate(ctx context.Context, owner string, part netip.Prefix) (netip.Addr, error) {
	addr, err := a.own(owner, part)
	if !errors.Is(err, ErrNoSpace) {
		return addr, err
	}
	if err := a.lodge(ctx); err != nil {
		return netip.Addr{}, err
	}
	if part != a.cfg.Range {
		return a.claimIn(ctx, owner, part)
	}
	return a.allocateAsking(ctx, owner, part)
}

func (a *Allocator) own(owner string, part netip.Prefix) (addr netip.Addr, err error) {
	err = a.do(func(c *Core) (e Effects, err error) {
		if owner == "" { // to find out whether there is one is enough
			if _, ok := c.free(part); !ok {
				err = ErrNoSpace
			}
			return Effects{}, err
		}
		addr, e, err = c.AllocateIn(owner, part)
		return e, err
	})
	if err != nil {
		return netip.Addr{}, err // not durable, so not given
	}
	return addr, nil
}

// allocateAsking asks each peer once, and again those that did not answer.
func (a *Allocator) allocateAsking(ctx context.Context, owner string, part netip.Prefix) (netip.Addr, error) {
	select {
	case a.asking <- struct{}{}:
		defer func() { <-a.asking }()
	case <-ctx.Done():
		e := &SpaceError{Range: a.cfg.Range, Err: ctx.Err()}
		a.mu.Lock()
		defer a.mu.Unlock()
		if a.donor != uuid.Nil {
			e.Asked = []Refusal{{a.donor, noAnswer}}
		}
		return netip.Addr{}, e
	}
	defer a.setDonor(uuid.Nil)
	refused, silent := map[uuid.UUID]string{}, map[uuid.UUID]string{}
	asked := map[uuid.UUID]bool{} // in this round
	for {
		addr, err := a.own(owner, part)
		if !errors.Is(err, ErrNoSpace) {
			return addr, err
		}
		donors := slices.DeleteFunc(Donors(a.net.Donors()), func(id uuid.UUID) bool {
			_, no := refused[id]
			return no || id == a.cfg.Peer
		})
		if len(donors) == 0 {
			return netip.Addr{}, a.spaceError(ErrExhausted, refused, silent)
		}
		i := slices.IndexFunc(donors, func(id uuid.UUID) bool { return !asked[id] })
		if i < 0 {
			clear(asked)
			i = 0
		}
		donor := donors[i]
		asked[donor] = true
		a.setDonor(donor)
		answer, err := a.ask(ctx, donor, func(c *Core, nonce uint64) (Effects, error) {
			return c.Request(donor, max(1, count(c.own)/2), nonce), nil
		}, func(c *Core) bool { _, ok := c.free(part); return ok })
		switch {
		case err != nil:
			return netip.Addr{}, err
		case answer == nil:
			silent[donor] = noAnswer
		case answer.Refused:
			delete(silent, donor)
			refused[donor] = answer.Reason
		default:
			continue // it gave something: our own blocks first, whatever the time
		}
		if ctx.Err() != nil {
			return netip.Addr{}, a.spaceError(ctx.Err(), refused, silent)
		}
	}
}

func (a *Allocator) setDonor(id uuid.UUID) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.donor = id
}

func (a *Allocator) spaceError(cause error, asked ...map[uuid.UUID]string) error {
	e := &SpaceError{Range: a.cfg.Range, Err: cause}
	for _, reasons := range asked {
		for _, id := range slices.SortedFunc(maps.Keys(reasons), func(x, y uuid.UUID) int { return bytes.Compare(x[:], y[:]) }) {
			e.Asked = append(e.Asked, Refusal{id, reasons[id]})
		}
	}
	return e
}

// Claim gives the owner a certain address. If it is in a block of another peer
// it is asked for, until ctx ends; then the claim is withdrawn. Errors:
// ErrOutside, ErrReserved, ErrTaken, ErrUnowned, *ElsewhereError.
func (a *Allocator) Claim(ctx context.Context, owner string, addr netip.Addr) error {
	before, _ := look2(a, func(c *Core) (bool, string) { return c.Held(owner, addr) })
	if before {
		return nil
	}
	if !look(a, (*Core).Lodged) {
		if err := a.lodge(ctx); err != nil {
			return err
		}
	}
	if err := a.do(func(c *Core) (Effects, error) { return c.Claim(owner, addr) }); err != nil {
		return err
	}
	var ok bool
	var refused string
	done := a.wait(ctx, func(c *Core) bool {
		ok, refused = c.Held(owner, addr)
		return ok || refused != ""
	})
	if ok {
		return nil
	}
	elsewhere := &ElsewhereError{Addr: addr, Peer: look(a, func(c *Core) uuid.UUID { return c.ownerOf(addr) }), Reason: refused}
	if !done {
		elsewhere.Err = ctx.Err()
	}
	return errors.Join(elsewhere, a.Release(owner, addr))
}

// claimIn gives the owner an address of a part of the range in which this peer
// has none free: it asks those who own the part for one address after the other,
// from the highest on, since they give the lowest to their own. Who does not
// answer is left out from then on.
func (a *Allocator) claimIn(ctx context.Context, owner string, part netip.Prefix) (netip.Addr, error) {
	tried := 0
	silent := map[uuid.UUID]string{}
	last := fromUint(toUint(part.Addr()) + 1<<(32-part.Bits()) - 1)
	for addr := last.Prev(); part.Contains(addr) && part.Contains(addr.Prev()); addr = addr.Prev() {
		of, free := look2(a, func(c *Core) (uuid.UUID, bool) { return c.ownerOf(addr), c.looksFree(addr) })
		if _, no := silent[of]; no || !free {
			continue
		}
		once, cancel := context.WithTimeout(ctx, answerTime)
		err := a.Claim(once, owner, addr)
		cancel()
		if err == nil {
			return addr, nil
		}
		var elsewhere *ElsewhereError
		if ctx.Err() != nil || !errors.As(err, &elsewhere) && !errors.Is(err, ErrTaken) {
			return netip.Addr{}, err
		}
		if elsewhere != nil && elsewhere.Err != nil {
			silent[of] = noAnswer
			continue
		}
		if tried++; tried > mostTried {
			break
		}
	}
	if len(silent) > 0 {
		return netip.Addr{}, a.spaceError(context.DeadlineExceeded, silent)
	}
	return netip.Addr{}, &SpaceError{Range: part, Err: ErrExhausted}
}

// mostTried bounds the addresses of others that are asked for, one by one.
const mostTried = 64

func look2[A, B any](a *Allocator, fn func(*Core) (A, B)) (A, B) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return fn(a.core)
}

// errMember: a peer joins once.
var errMember = errors.New("this host is a member already")
