package ipam

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"

	"github.com/google/uuid"

	"github.com/weft-net/weft/ipam/council"
)

// grant is an answer to a request, kept so that a request that arrives twice
// is answered alike and granted once.
type grant struct {
	to    ID
	nonce uint64
	rows  []Row
}

// grantsKept bounds the memory of grants; a request is repeated within seconds.
const grantsKept = 64

// Join asks a peer to let this one in as its ward, and for a newcomer's share
// of blocks, or so many if share is not 0. Whoever is asked becomes the sponsor:
// to ask another is to begin another life, since both may let this peer in.
// The nonce of a request is new, and the same when it is repeated; that of a
// life grows from life to life. It fails with ErrUnknownPeer for a peer that is
// no member as far as is known.
func (c *Core) Join(sponsor uuid.UUID, share int, nonce, life uint64) (Effects, error) {
	by, ok := c.MemberOf(sponsor)
	if !ok || sponsor == c.cfg.Peer {
		return Effects{}, fmt.Errorf("join by peer %s: %w", sponsor, ErrUnknownPeer)
	}
	if c.Lodged() {
		return Effects{}, errMember
	}
	if c.enforced < c.fence {
		return Effects{}, ErrNotEnforced
	}
	if c.self == uuid.Nil || c.me.Sponsor != by {
		if c.self != uuid.Nil {
			c.former = append(c.former, c.self)
		}
		c.me = council.Member{Peer: c.cfg.Peer, Sponsor: by, Nonce: life}
		c.self, c.dirty.self = c.me.ID(), true
	}
	c.sendTo(by, &Msg{Kind: kindRequest, Nonce: nonce, Blocks: uint32(share)})
	return c.finish(), nil
}

// Request asks a peer for so many blocks.
func (c *Core) Request(to uuid.UUID, blocks int, nonce uint64) Effects {
	c.send(to, &Msg{Kind: kindRequest, Nonce: nonce, Blocks: uint32(max(blocks, 1))})
	return c.finish()
}

// onRequest answers a request for blocks.
func (c *Core) onRequest(m *Msg) {
	if !c.Lodged() || !c.isMember(c.self) {
		return // whoever asks will ask another
	}
	if c.superseded(m.From) {
		return // of an earlier life
	}
	if m.From.Sponsor == c.self && !c.view.IsAdmitted(m.FromID) && !c.wards[m.FromID] {
		c.wards[m.FromID], c.dirty.wards = true, true
		c.learn([]council.Member{m.From})
	}
	if !c.isMember(m.FromID) {
		c.refuse(m, "it does not know this host yet")
		return
	}
	share := int(m.Blocks)
	for _, g := range c.grants {
		if g.to == m.FromID && g.nonce == m.Nonce {
			c.answer(m, &Msg{Kind: kindGrant, Delta: &Delta{Rows: g.rows}})
			return
		}
	}
	sp, ok := c.spare(share)
	if !ok || c.leaving {
		c.refuse(m, fmt.Sprintf("none of its %d blocks is to spare", count(c.own)))
		return
	}
	var rows []Row
	for _, r := range c.table.part(sp) {
		rows = appendRow(rows, r.given(m.FromID))
	}
	if c.grants = append(c.grants, grant{m.FromID, m.Nonce, rows}); len(c.grants) > grantsKept {
		c.grants = slices.Clone(c.grants[1:])
	}
	c.dirty.grants = true
	c.give(rows)
	c.answer(m, &Msg{Kind: kindGrant, Delta: &Delta{Rows: rows}})
}

// superseded tells whether a later life of the same peer is known.
func (c *Core) superseded(m council.Member) bool {
	id, ok := c.MemberOf(m.Peer)
	if !ok || id == m.ID() {
		return false
	}
	now, _ := c.member(id)
	return now.Nonce > m.Nonce
}

// answer sends an answer with what a newcomer must know before it begins.
func (c *Core) answer(to, m *Msg) {
	m.Nonce = to.Nonce
	if c.wards[to.FromID] || to.Index < c.view.Index {
		view := c.view
		m.State = &view
		m.Welcome = true
	}
	m.To = to.FromID
	c.send(to.Peer, m)
}

func (c *Core) refuse(to *Msg, reason string) {
	c.answer(to, &Msg{Kind: kindRefusal, Reason: reason})
}

// onAnswer takes in a grant or a refusal.
func (c *Core) onAnswer(m *Msg) {
	if m.To != c.self || c.self == uuid.Nil {
		return // to an earlier life
	}
	if m.Welcome && m.FromID == c.me.Sponsor && !c.lodged {
		c.lodged, c.dirty.self = true, true
		c.send(m.Peer, c.digest()) // so that it hears that we know
	}
	if m.Delta != nil && m.Kind == kindGrant {
		if !c.isGift(m.Delta.Rows, m.FromID) {
			return
		}
		c.merge(m.Delta.Rows)
	}
	c.out.Answer = &Answer{By: m.Peer, Nonce: m.Nonce, Refused: m.Kind == kindRefusal, Reason: printable(m.Reason, mostReason)}
}

// isGift tells whether each row is a gift of the sender's to this member.
func (c *Core) isGift(rows []Row, from ID) bool {
	return !slices.ContainsFunc(rows, func(r Row) bool { return r.Owner != c.self || r.From != from })
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

// giver is the one peer that can give a newcomer's share as a whole and keep as
// much: while a mesh is being founded, whoever founded it. What is said of free
// blocks may be older than the plan, and would lead to one that has its share
// and no more.
func (c *Core) giver(share int) (uuid.UUID, bool) {
	if share == 0 {
		return uuid.Nil, false
	}
	owned := map[ID]int{}
	var most ID
	for _, r := range c.table {
		if r.Owner == uuid.Nil {
			continue
		}
		if owned[r.Owner] += r.Count; owned[r.Owner] > owned[most] {
			most = r.Owner
		}
	}
	m, ok := c.member(most)
	return m.Peer, ok && owned[most] >= 2*share
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
