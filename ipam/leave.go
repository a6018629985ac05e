package ipam

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/google/uuid"
)

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
			if answer != nil && look(a, func(c *Core) bool { return len(minus(c.own, c.leasedBlocks())) == 0 }) {
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

// Leave asks the council to shut this peer out, and waits until it has: nobody
// waits for this peer's word any more. What it owns should be handed over first.
func (a *Allocator) Leave(ctx context.Context) error {
	self := look(a, (*Core).Self)
	if self == uuid.Nil {
		return nil
	}
	return a.seal(ctx, self)
}

// Knows tells whether a peer is a member, or was one.
func (a *Allocator) Knows(peer uuid.UUID) bool {
	_, ok := look2(a, func(c *Core) (ID, bool) { return c.lastLife(peer) })
	return ok
}

// ShutOut has the council shut peers out for good, and waits until it has. Errors:
// ErrUnknownPeer, *PendingError.
func (a *Allocator) ShutOut(ctx context.Context, peers ...uuid.UUID) error {
	_, err := a.shutOut(ctx, peers)
	return err
}

// Remove is ShutOut that waits until the space of these peers is inherited. For those
// that are shut out already it only waits.
func (a *Allocator) Remove(ctx context.Context, peers ...uuid.UUID) error {
	ids, err := a.shutOut(ctx, peers)
	if err != nil {
		return err
	}
	for i, id := range ids {
		if !a.wait(ctx, func(c *Core) bool { return !slices.Contains(c.view.Pending(), id) && !c.owns(id) }) {
			return &PendingError{Peer: peers[i], Sealed: true, Voters: look(a, (*Core).Status).Voters, Err: ctx.Err()}
		}
	}
	return nil
}

func (a *Allocator) shutOut(ctx context.Context, peers []uuid.UUID) (ids []ID, err error) {
	for _, peer := range peers {
		id, ok := look2(a, func(c *Core) (ID, bool) { return c.lastLife(peer) })
		if !ok {
			return nil, fmt.Errorf("remove %s: %w", peer, ErrUnknownPeer)
		}
		ids = append(ids, id)
	}
	// All before any is waited for: what one had is not inherited before every
	// other has answered or is shut out.
	return ids, a.seal(ctx, ids...)
}

func (a *Allocator) seal(ctx context.Context, ids ...ID) error {
	for _, id := range ids {
		if err := a.do(func(c *Core) (Effects, error) { return c.Seal(id) }); err != nil {
			return err
		}
	}
	for _, id := range ids {
		if a.wait(ctx, func(c *Core) bool { return c.isSealed(id) }) {
			continue
		}
		peer := look(a, func(c *Core) uuid.UUID {
			for _, id := range ids {
				c.Unseal(id)
			}
			m, _ := c.member(id)
			return m.Peer
		})
		return &PendingError{Peer: peer, Voters: look(a, (*Core).Status).Voters, Err: ctx.Err()}
	}
	return nil
}

// Expire asks the council, without waiting, to shut a peer out that has left, or
// has been gone for long; in the latter case the leader may know better.
func (a *Allocator) Expire(peer uuid.UUID, left bool) error {
	return a.do(func(c *Core) (Effects, error) {
		id, ok := c.MemberOf(peer)
		switch {
		case !ok:
			return Effects{}, nil
		case left:
			return c.Seal(id)
		}
		return c.Expire(id)
	})
}

// Spare withdraws what Expire asked for, since the peer is back.
func (a *Allocator) Spare(peer uuid.UUID) {
	look(a, func(c *Core) struct{} {
		if id, ok := c.MemberOf(peer); ok {
			c.Unseal(id)
		}
		return struct{}{}
	})
}

// HearsMajority tells whether a majority of the voters answered at the last Tick.
func (a *Allocator) HearsMajority() bool { return look(a, (*Core).hearsMajority) }

// Force takes a mesh of this peer and some others out of one whose majority of
// voters is gone for good; see Core.Force.
func (a *Allocator) Force(survivors []uuid.UUID) error {
	return a.do(func(c *Core) (Effects, error) {
		var ids []ID
		for _, peer := range survivors {
			id, ok := c.MemberOf(peer)
			if !ok {
				return Effects{}, fmt.Errorf("force: %s: %w", peer, ErrUnknownPeer)
			}
			ids = append(ids, id)
		}
		a.nonce++
		return c.Force(ids, a.nonce)
	})
}
