package ipam

import (
	"fmt"

	"github.com/google/uuid"
)

// mostReason bounds what a peer can put on our user's screen, in characters.
const mostReason = 200

// Receive takes in a message of another peer's plan. Errors: ErrForeign,
// ErrNewer, ErrCorrupt.
func (c *Core) Receive(from uuid.UUID, msg []byte) (Effects, error) {
	var m wireMessage
	if err := decode(msg, &m); err != nil {
		return Effects{}, fmt.Errorf("read message of the address plan: %w", err)
	}
	rows, err := c.rows(m.State)
	if err != nil {
		return Effects{}, fmt.Errorf("read message of the address plan: %w", err)
	}
	if from == uuid.Nil || from == c.self {
		return Effects{}, fmt.Errorf("message of the address plan from %s, which is no other peer", from)
	}
	switch m.Kind {
	case kindRequest:
		return c.donate(from, int(m.Blocks), m.Nonce), nil
	case kindGrant:
		if len(rows) == 0 || !c.isGift(rows, from) {
			return Effects{}, fmt.Errorf("%w: a grant of nothing, or of what is not the sender's to give", ErrCorrupt)
		}
		e := c.merge(rows)
		e.Answer = &Answer{By: from, Nonce: m.Nonce}
		return e, nil
	case kindRefusal:
		return Effects{Answer: &Answer{By: from, Nonce: m.Nonce, Refused: true, Reason: printable(m.Reason, mostReason)}}, nil
	case kindOffer:
		if c.leaving {
			return c.refuse(from, m.Nonce, "it is leaving, too"), nil
		}
		return c.accept(from, m.Nonce), nil
	case kindHandOver:
		if !c.isGift(rows, from) {
			return Effects{}, fmt.Errorf("%w: a hand-over of what is not the sender's to give", ErrCorrupt)
		}
		e := c.merge(rows)
		e.Send = c.accept(from, m.Nonce).Send
		return e, nil
	case kindAccepted:
		return Effects{Answer: &Answer{By: from, Nonce: m.Nonce}}, nil
	}
	return Effects{}, fmt.Errorf("%w: a message of unknown kind %d", ErrCorrupt, m.Kind)
}

// isGift tells whether each row is a gift of the sender's to this peer.
func (c *Core) isGift(rows []Row, from uuid.UUID) bool {
	for _, r := range rows {
		if r.Owner != c.self || r.From != from {
			return false
		}
	}
	return true
}

func (c *Core) accept(to uuid.UUID, nonce uint64) Effects {
	return Effects{Send: c.message(to, wireMessage{Kind: kindAccepted, Nonce: nonce}, nil)}
}
