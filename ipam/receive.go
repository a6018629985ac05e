package ipam

import (
	"errors"
	"fmt"
	"slices"

	"github.com/google/uuid"

	"github.com/weft-net/weft/ipam/council"
)

// mostReason bounds what a peer can put on our user's screen, in characters.
const mostReason = 200

// Receive takes in a message from a peer. Errors: ErrCorrupt.
func (c *Core) Receive(from uuid.UUID, m *Msg) (Effects, error) {
	if from == uuid.Nil || from == c.cfg.Peer || m.Peer != from {
		return Effects{}, fmt.Errorf("%w: a message of the address plan in the name of %s from %s", ErrCorrupt, m.Peer, from)
	}
	return c.receive(m)
}

// Merge takes in a state or a change that was spread to everybody. What of it
// was news is in Effects.Gossip. Errors: ErrCorrupt.
func (c *Core) Merge(m *Msg) (Effects, error) {
	if m.Kind != kindDelta && m.Kind != kindDigest {
		return Effects{}, fmt.Errorf("%w: a message of kind %d for everybody", ErrCorrupt, m.Kind)
	}
	if m.Peer == c.cfg.Peer {
		return Effects{}, nil
	}
	return c.receive(m)
}

func (c *Core) receive(m *Msg) (Effects, error) {
	if err := c.check(m); err != nil {
		return Effects{}, err
	}
	if m.Domain != c.domain {
		c.foreign(m)
		return c.finish(), nil
	}
	if m.FromID != uuid.Nil {
		if c.isSealed(m.FromID) {
			// What it says counts no more; what the council says, it should know.
			c.send(m.Peer, c.everything())
			return c.finish(), nil
		}
		c.remember(m)
		if m.Kind != kindRequest {
			if c.forgotWard(m.From) {
				c.poison(c.self)
				return c.finish(), nil
			}
			c.learn([]council.Member{m.From})
			if c.wards[m.FromID] {
				c.heard[m.FromID] = true
			}
		}
		if !c.isMember(m.FromID) && m.Kind != kindRequest && m.Kind != kindDigest && m.Kind != kindSeen {
			return c.finish(), nil
		}
	} else if m.Kind != kindDigest {
		return c.finish(), nil // who is no member has nothing to say
	}
	err := c.handle(m)
	return c.finish(), err
}

// foreign deals with a message from another domain, or from one who knows of none.
func (c *Core) foreign(m *Msg) {
	switch {
	case c.view.Index == 0:
		// We know nothing: who knows more tells us, if we ask.
		if m.State != nil && m.Kind == kindSync && m.State.Domain.Mesh == c.cfg.Mesh {
			c.setView(*m.State)
			c.takeIn(m)
		} else if m.Domain != (council.Hash{}) {
			c.send(m.Peer, c.digest())
		}
	case m.Domain == council.Hash{}:
		if m.Kind == kindDigest {
			c.send(m.Peer, c.everything())
		}
	default:
		c.meet(m)
	}
}

func (c *Core) handle(m *Msg) error {
	if m.To != uuid.Nil && m.To != c.self && m.Kind != kindDigest && m.Kind != kindSync {
		return nil // for an earlier life
	}
	switch m.Kind {
	case kindRequest:
		c.onRequest(m)
	case kindGrant, kindRefusal:
		c.takeState(m)
		c.onAnswer(m)
	case kindHandOver:
		c.onHandOver(m)
	case kindAccepted:
		c.onAccepted(m)
	case kindOffer:
		c.onOffer(m)
	case kindClaim:
		c.onClaim(m)
	case kindLeased:
		c.onLeased(m)
	case kindNoLease:
		c.onNoLease(m)
	case kindRelease:
		c.onRelease(m)
	case kindReleased:
		c.onReleased(m)
	case kindAudit:
		c.onAudit(m)
	case kindRaft:
		c.onRaft(m)
	case kindPropose:
		c.onPropose(m)
	case kindWantAck:
		c.onWantAck(m)
	case kindAck:
		c.onAck(m)
	case kindDigest:
		c.onDigest(m)
	case kindSync, kindDelta:
		c.takeIn(m)
	case kindSeen:
		c.onSeen(m)
	default:
		return fmt.Errorf("%w: a message of unknown kind %d", ErrCorrupt, m.Kind)
	}
	return nil
}

// check finds what is wrong with a message before anything believes it.
func (c *Core) check(m *Msg) error {
	if m.FromID != uuid.Nil && m.From.Peer != m.Peer {
		return fmt.Errorf("%w: a message in another member's name", ErrCorrupt)
	}
	if m.Delta != nil {
		if err := c.checkRows(m.Delta.Rows); err != nil {
			return err
		}
		for _, b := range m.Delta.Books {
			if err := c.checkLeases(b.leases); err != nil {
				return err
			}
		}
	}
	if needs := needs[m.Kind]; needs != nil && !needs(m) {
		return fmt.Errorf("%w: a message of kind %d without what it is about", ErrCorrupt, m.Kind)
	}
	if m.Kind >= kindClaim && m.Kind <= kindAudit && !c.rng.Contains(m.Addr) {
		return fmt.Errorf("%w: a message about address %s", ErrCorrupt, m.Addr)
	}
	if m.Ack != nil {
		return c.checkAck(m.Ack)
	}
	return nil
}

// needs are the parts that a message of a kind must have.
var needs = map[kind]func(*Msg) bool{
	kindRaft:    func(m *Msg) bool { return m.Raft != nil && m.Raft.Raft != nil },
	kindPropose: func(m *Msg) bool { return m.Command != nil },
	kindWantAck: func(m *Msg) bool { return m.Digest != nil },
	kindAck:     func(m *Msg) bool { return m.Ack != nil },
	kindDigest:  func(m *Msg) bool { return m.Digest != nil },
	kindDelta:   func(m *Msg) bool { return m.Delta != nil },
}

func (c *Core) checkAck(a *Ack) error {
	if err := c.checkRows(a.Rows); err != nil {
		return err
	}
	for _, s := range a.Own {
		if s.first < 0 || s.count <= 0 || s.end() > c.blocks() {
			return fmt.Errorf("%w: blocks %d+%d of %d", ErrCorrupt, s.first, s.count, c.blocks())
		}
	}
	return c.checkLeases(a.Leases)
}

func (c *Core) checkRows(rows []Row) error {
	for _, r := range rows {
		if r.First < 0 || r.Count <= 0 || r.end() > c.blocks() || !r.valid() {
			return fmt.Errorf("%w: a row of blocks %d+%d of %d", ErrCorrupt, r.First, r.Count, c.blocks())
		}
	}
	return nil
}

func (c *Core) checkLeases(list []lease) error {
	for _, l := range list {
		if !c.rng.Contains(l.Addr) {
			return fmt.Errorf("%w: a lease of %s", ErrCorrupt, l.Addr)
		}
	}
	return nil
}

// takeState takes in a newer state of the council, of our own domain.
func (c *Core) takeState(m *Msg) {
	if s := m.State; s != nil && s.Index > c.view.Index && s.Domain.Hash() == c.domain {
		c.setView(*s)
	}
}

// takeIn takes in what another knows.
func (c *Core) takeIn(m *Msg) {
	c.takeState(m)
	d := m.Delta
	if d == nil {
		return
	}
	behind := false
	for _, x := range d.Decisions {
		before := c.view.Index
		c.decided(x)
		behind = behind || c.view.Index == before && x.Index > before
	}
	if slices.ContainsFunc(d.Members, c.forgotWard) {
		c.poison(c.self)
	}
	c.learn(d.Members)
	c.merge(d.Rows)
	for _, b := range d.Books {
		c.mergeBook(b)
	}
	for _, id := range d.Poisoned {
		c.poison(id)
	}
	if behind {
		c.send(m.Peer, c.digest())
	}
}

// trouble notes what should not have happened.
func (c *Core) trouble(err error) {
	if err != nil && !errors.Is(err, ErrCorrupt) {
		c.out.Trouble = err.Error()
	}
}
