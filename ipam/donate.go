package ipam

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"

	"github.com/google/uuid"
)

// Request asks a peer for blocks; 0 asks for a newcomer's share. The nonce is
// new for each request, and the same when one is repeated.
func (c *Core) Request(to uuid.UUID, blocks int, nonce uint64) Effects {
	return c.message(to, wireMessage{Kind: kindRequest, Nonce: nonce, Blocks: uint32(blocks)})
}

func (c *Core) message(to uuid.UUID, m wireMessage) Effects {
	m.Version = wireVersion
	if m.State.Version == 0 {
		m.State = c.state(nil)
	}
	return Effects{Send: []Message{{to, encode(m)}}}
}

// HandOver gives everything that this peer owns to another, which answers when
// it is durable there. It fails with ErrInUse while any address is in use.
func (c *Core) HandOver(to uuid.UUID, nonce uint64) (Effects, error) {
	if len(c.addrs) > 0 {
		return Effects{}, fmt.Errorf("hand over: %d %w", len(c.addrs), ErrInUse)
	}
	var rows []Row
	for _, r := range c.table.rows {
		switch {
		case r.Owner == c.self:
			rows = append(rows, r.given(to))
		case r.Owner == to && r.From == c.self:
			rows = append(rows, r) // a repetition: the first message may be lost
		}
	}
	e := c.change(ownedBy(rows, to, c))
	e.Lost = nil // given, not lost
	e.Send = c.message(to, wireMessage{Kind: kindHandOver, Nonce: nonce, State: c.state(rows)}).Send
	return e, nil
}

// ownedBy keeps the rows that the table does not have yet.
func ownedBy(rows []Row, to uuid.UUID, c *Core) []Row {
	return slices.DeleteFunc(slices.Clone(rows), func(r Row) bool { return c.table.at(r.First).Owner == to })
}

// given is the row after its owner gave it away.
func (r Row) given(to uuid.UUID) Row {
	r.Version++
	r.From, r.Owner = r.Owner, to
	return r
}

// Receive takes in a message of another peer's plan.
func (c *Core) Receive(from uuid.UUID, msg []byte) (Effects, error) {
	m, err := decodeMessage(msg)
	if err != nil {
		return Effects{}, err
	}
	rows, err := c.fromWire(m.State)
	if err != nil {
		return Effects{}, err
	}
	switch m.Kind {
	case kindRequest:
		return c.donate(from, int(m.Blocks), m.Nonce), nil
	case kindGrant:
		e := c.merge(rows)
		e.Nonce = m.Nonce
		return e, nil
	case kindRefusal:
		return Effects{Refused: &Refusal{from, clip(m.Reason)}, Nonce: m.Nonce}, nil
	case kindHandOver:
		e := c.merge(rows)
		e.Send = c.message(from, wireMessage{Kind: kindAccepted, Nonce: m.Nonce}).Send
		return e, nil
	case kindAccepted:
		return Effects{Accepted: true, Nonce: m.Nonce}, nil
	}
	return Effects{}, fmt.Errorf("message of unknown kind %d", m.Kind)
}

// clip bounds what a peer can put on our user's screen.
func clip(s string) string { return s[:min(len(s), 200)] }

// donate answers a request.
func (c *Core) donate(to uuid.UUID, blocks int, nonce uint64) Effects {
	for _, g := range c.grants {
		if g.peer == to && g.nonce == nonce {
			return c.message(to, wireMessage{Kind: kindGrant, Nonce: nonce, State: c.state(g.rows)})
		}
	}
	sp, ok := c.spare(blocks)
	if !ok || to == c.self {
		reason := fmt.Sprintf("none of its %d blocks is to spare", count(c.table.owned(c.self)))
		return c.message(to, wireMessage{Kind: kindRefusal, Nonce: nonce, Reason: reason})
	}
	var rows []Row
	for i := c.table.find(sp.first); i < len(c.table.rows) && c.table.rows[i].First < sp.first+sp.count; i++ {
		r := c.table.rows[i]
		first := max(r.First, sp.first)
		part := Row{first, min(r.First+r.Count, sp.first+sp.count) - first, r.Register}
		rows = append(rows, part.given(to))
	}
	e := c.change(rows)
	e.Send = c.message(to, wireMessage{Kind: kindGrant, Nonce: nonce, State: c.state(rows)}).Send
	e.Lost = nil // given, not lost
	if c.grants = append(c.grants, granted{to, nonce, rows}); len(c.grants) > grantsKept {
		c.grants = c.grants[1:]
	}
	return e
}

// spare chooses what to give: the largest aligned run of wholly free blocks
// that is at most half of all that this peer owns and, unless a newcomer's
// share is asked for, not more than is wanted; of those the highest, since
// allocation packs low. What stays is then as aligned as what goes, which
// keeps a peer at about one CIDR prefix.
func (c *Core) spare(want int) (span, bool) {
	own := c.table.owned(c.self)
	size := floorPow2(count(own) / 2)
	if want > 0 {
		for size/2 >= want {
			size /= 2
		}
	}
	for ; size > 0; size /= 2 {
		for _, sp := range slices.Backward(own) {
			for first := (sp.first + sp.count - size) / size * size; first >= sp.first; first -= size {
				if c.unused(first, size) {
					return span{first, size}, true
				}
			}
		}
	}
	return span{}, false
}

// unused tells whether no address of these blocks is in use. It looks at the
// shorter of both lists.
func (c *Core) unused(first, n int) bool {
	if n < len(c.used) {
		for b := first; b < first+n; b++ {
			if c.used[b] > 0 {
				return false
			}
		}
		return true
	}
	for b := range c.used {
		if b >= first && b < first+n {
			return false
		}
	}
	return true
}

// Donors orders peers by whom to ask first for space: the one with the most
// free blocks, and the smaller id among equals.
func Donors(free map[uuid.UUID]int) []uuid.UUID {
	out := make([]uuid.UUID, 0, len(free))
	for id := range free {
		out = append(out, id)
	}
	slices.SortFunc(out, func(a, b uuid.UUID) int {
		return cmp.Or(cmp.Compare(free[b], free[a]), bytes.Compare(a[:], b[:]))
	})
	return out
}
