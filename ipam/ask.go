package ipam

import (
	"bytes"
	"context"
	"errors"
	"fmt"
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
	for {
		a.mu.Lock()
		answer, news := q.answer, a.news
		if answer == nil && enough(a.core) {
			answer = &Answer{By: to, Nonce: nonce}
		}
		a.mu.Unlock()
		if answer != nil {
			return answer, nil
		}
		select {
		case <-news:
		case <-ctx.Done():
			return nil, nil
		}
	}
}

// Allocate gives the owner a free address: of this peer's own blocks, else it
// asks the other peers for blocks, one after the other, until ctx ends. Where
// none is to be had the error is a *SpaceError.
func (a *Allocator) Allocate(ctx context.Context, owner string) (netip.Addr, error) {
	addr, err := a.own(owner)
	if !errors.Is(err, ErrNoSpace) {
		return addr, err
	}
	select {
	case a.asking <- struct{}{}:
		defer func() { <-a.asking }()
		return a.allocateAsking(ctx, owner)
	case <-ctx.Done():
		e := &SpaceError{Range: a.cfg.Range, Err: ctx.Err()}
		a.mu.Lock()
		if a.donor != uuid.Nil {
			e.Asked = []Refusal{{a.donor, noAnswer}}
		}
		a.mu.Unlock()
		return netip.Addr{}, e
	}
}

func (a *Allocator) own(owner string) (addr netip.Addr, err error) {
	err = a.do(func(c *Core) (e Effects, err error) {
		addr, e, err = c.Allocate(owner)
		return e, err
	})
	if err != nil {
		return netip.Addr{}, err // not durable, so not given
	}
	return addr, nil
}

// allocateAsking asks each peer once, and again those that did not answer.
func (a *Allocator) allocateAsking(ctx context.Context, owner string) (netip.Addr, error) {
	defer a.setDonor(uuid.Nil)
	refused, silent := map[uuid.UUID]string{}, map[uuid.UUID]string{}
	asked := map[uuid.UUID]bool{} // in this round
	for {
		addr, err := a.own(owner)
		if !errors.Is(err, ErrNoSpace) {
			return addr, err
		}
		donors := slices.DeleteFunc(Donors(a.net.Donors()), func(id uuid.UUID) bool {
			_, no := refused[id]
			return no || id == a.cfg.Self
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
			return c.Request(donor, count(c.own)/2, nonce), nil
		}, (*Core).hasFree)
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

// HandOver gives everything to the first of the heirs that says it will take
// it, and returns once that heir has made it durable. No address may be in use.
// Until an heir has agreed nothing is given, so that a silent one costs only
// time; from then on the blocks are that heir's, and no other is asked.
func (a *Allocator) HandOver(ctx context.Context, heirs []uuid.UUID) (uuid.UUID, error) {
	defer a.do(func(c *Core) (Effects, error) { return c.Stay(), nil })
	never := func(*Core) bool { return false }
	var asked []Refusal
	for _, heir := range heirs {
		answer, err := a.ask(ctx, heir, func(c *Core, nonce uint64) (Effects, error) { return c.Offer(heir, nonce), nil }, never)
		switch {
		case err != nil:
			return uuid.Nil, err
		case answer == nil:
			asked = append(asked, Refusal{heir, noAnswer})
			continue
		case answer.Refused:
			asked = append(asked, Refusal{heir, answer.Reason})
			continue
		}
		for ctx.Err() == nil {
			answer, err := a.ask(ctx, heir, func(c *Core, nonce uint64) (Effects, error) { return c.HandOver(heir, nonce) }, never)
			if err != nil {
				return uuid.Nil, err
			}
			// What a third peer gave us meanwhile goes the same way.
			if answer != nil && look(a, func(c *Core) bool { return len(c.own) == 0 }) {
				return heir, nil
			}
		}
		return heir, fmt.Errorf("hand over address space: no answer from peer %s: %w", heir, ctx.Err())
	}
	if len(asked) == 0 {
		return uuid.Nil, errors.New("hand over address space: no heir")
	}
	return uuid.Nil, fmt.Errorf("hand over address space: no peer takes it: %s", describe(asked, uuid.UUID.String))
}
