package ipam

import (
	"fmt"

	"github.com/google/uuid"
)

// Offer asks a peer whether it would take everything that this one owns. From
// then until Stay this peer takes nothing from others that leave: two that
// leave together must not be each other's heirs.
func (c *Core) Offer(to uuid.UUID, nonce uint64) Effects {
	c.leaving = true
	return Effects{Send: c.message(to, wireMessage{Kind: kindOffer, Nonce: nonce}, nil)}
}

// Stay ends what Offer began, whether or not an heir was found.
func (c *Core) Stay() Effects {
	c.leaving = false
	return Effects{}
}

// HandOver gives everything that this peer owns to another, which answers when
// it is durable there. A repetition sends the same gifts again. It fails with
// ErrInUse while any address is in use.
func (c *Core) HandOver(to uuid.UUID, nonce uint64) (Effects, error) {
	if to == uuid.Nil || to == c.self {
		return Effects{}, fmt.Errorf("hand over: %s is no other peer", to)
	}
	if len(c.addrs) > 0 {
		return Effects{}, fmt.Errorf("hand over: %d %w", len(c.addrs), ErrInUse)
	}
	var gifts []Row
	for _, r := range c.table {
		switch {
		case r.Owner == c.self:
			gifts = appendRow(gifts, r.given(to))
		case r.Owner == to && r.From == c.self:
			gifts = appendRow(gifts, r) // the message that gave it may be lost
		}
	}
	e := c.give(gifts)
	e.Send = c.message(to, wireMessage{Kind: kindHandOver, Nonce: nonce}, gifts)
	return e, nil
}
