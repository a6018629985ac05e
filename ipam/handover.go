package ipam

import (
	"fmt"
	"slices"

	"github.com/google/uuid"
)

// Offer asks a peer whether it would take everything that this one owns. From
// then until Stay this peer takes nothing from others that leave: two that
// leave together must not be each other's heirs.
func (c *Core) Offer(to uuid.UUID, nonce uint64) Effects {
	c.leaving = true
	c.send(to, &Msg{Kind: kindOffer, Nonce: nonce})
	return c.finish()
}

// Stay ends what Offer began, whether or not an heir was found.
func (c *Core) Stay() Effects {
	c.leaving = false
	return Effects{}
}

// HandOver gives everything that this peer owns to another, which answers when
// it is durable there. A repetition sends the same gifts again. It fails with
// ErrInUse while any address is in use here.
func (c *Core) HandOver(to uuid.UUID, nonce uint64) (Effects, error) {
	heir, ok := c.MemberOf(to)
	if !ok || heir == c.self {
		return Effects{}, fmt.Errorf("hand over: %w: %s", ErrUnknownPeer, to)
	}
	if n := len(c.held); n > 0 {
		return Effects{}, fmt.Errorf("hand over: %d %w", n, ErrInUse)
	}
	// Blocks of which addresses are leased stay: they are inherited, with their
	// leases, once this member is sealed.
	var gifts, sent []Row
	for _, r := range c.table {
		switch {
		case r.Owner == c.self:
			for _, s := range minus([]span{{r.First, r.Count}}, c.leasedBlocks()) {
				row := Row{s.first, s.count, r.Register}.given(heir)
				gifts, sent = appendRow(gifts, row), appendRow(sent, row)
			}
		case r.Owner == heir && r.From == c.self:
			sent = appendRow(sent, r) // the message that gave it may be lost
		}
	}
	c.give(slices.Clone(gifts))
	c.send(to, &Msg{Kind: kindHandOver, Nonce: nonce, Delta: &Delta{Rows: sent}, To: heir})
	return c.finish(), nil
}

// leasedBlocks are our blocks of which an address is leased.
func (c *Core) leasedBlocks() []span {
	var out []span
	for _, l := range c.books[c.self].leases {
		if b := c.blockOf(l.Addr); !inSpans(out, b) {
			out = appendSpan(out, span{b, 1})
		}
	}
	return out
}

func (c *Core) onOffer(m *Msg) {
	if c.leaving || !c.Lodged() {
		c.send(m.Peer, &Msg{Kind: kindRefusal, Nonce: m.Nonce, To: m.FromID, Reason: "it is leaving, too"})
		return
	}
	c.send(m.Peer, &Msg{Kind: kindAccepted, Nonce: m.Nonce, To: m.FromID})
}

func (c *Core) onHandOver(m *Msg) {
	if m.To != c.self || m.Delta == nil || !c.isGift(m.Delta.Rows, m.FromID) {
		return
	}
	c.merge(m.Delta.Rows)
	c.send(m.Peer, &Msg{Kind: kindAccepted, Nonce: m.Nonce, To: m.FromID})
}

func (c *Core) onAccepted(m *Msg) {
	if m.To == c.self && c.self != uuid.Nil {
		c.out.Answer = &Answer{By: m.Peer, Nonce: m.Nonce}
	}
}
