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
	return Effects{Send: c.message(to, wireMessage{Kind: kindRequest, Nonce: nonce, Blocks: uint32(blocks)}, nil)}
}

// donate answers a request.
func (c *Core) donate(to uuid.UUID, blocks int, nonce uint64) Effects {
	answer := wireMessage{Kind: kindGrant, Nonce: nonce}
	for _, g := range c.grants {
		if g.peer == to && g.nonce == nonce {
			return Effects{Send: c.message(to, answer, g.rows)}
		}
	}
	sp, ok := c.spare(blocks)
	if !ok {
		return c.refuse(to, nonce, fmt.Sprintf("none of its %d blocks is to spare", count(c.own)))
	}
	var rows []Row
	for _, r := range c.table.part(sp) {
		rows = appendRow(rows, r.given(to))
	}
	if c.grants = append(c.grants, grant{to, nonce, rows}); len(c.grants) > grantsKept {
		c.grants = c.grants[1:]
	}
	e := c.give(rows)
	e.Writes = append(e.Writes, c.grantsWrite())
	e.Send = c.message(to, answer, rows)
	return e
}

func (c *Core) refuse(to uuid.UUID, nonce uint64, reason string) Effects {
	return Effects{Send: c.message(to, wireMessage{Kind: kindRefusal, Nonce: nonce, Reason: reason}, nil)}
}

// spare chooses what to give: the largest aligned run of wholly free blocks
// that is at most half of all that this peer owns and, unless a newcomer's
// share is asked for, not more than is wanted; of those the highest, since
// allocation packs low. What stays is then as aligned as what goes, which
// keeps a peer at about one CIDR prefix. A peer's last block is never given.
func (c *Core) spare(want int) (span, bool) {
	size := floorPow2(count(c.own) / 2)
	if want > 0 {
		for size/2 >= want {
			size /= 2
		}
	}
	for ; size > 0; size /= 2 {
		for _, sp := range slices.Backward(c.own) {
			// The division must not see a span that is too short: it rounds a
			// negative start up to 0, into the blocks of others.
			if sp.count < size {
				continue
			}
			for first := (sp.end() - size) / size * size; first >= sp.first; first -= size {
				if c.unused(span{first, size}) {
					return span{first, size}, true
				}
			}
		}
	}
	return span{}, false
}

// unused tells whether no address of these blocks is in use. It looks at the
// shorter of both lists.
func (c *Core) unused(sp span) bool {
	if sp.count < len(c.used) {
		for b := sp.first; b < sp.end(); b++ {
			if c.used[b] > 0 {
				return false
			}
		}
		return true
	}
	for b := range c.used {
		if b >= sp.first && b < sp.end() {
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
