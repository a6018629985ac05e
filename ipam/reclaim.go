package ipam

import (
	"net/netip"
	"slices"

	"github.com/google/uuid"

	"github.com/weft-net/weft/ipam/council"
)

// round is a leader's collection of what everybody knows, before it gives the
// space of the sealed to heirs.
type round struct {
	seal  uint64 // the last seal that all must have applied
	acks  map[ID]*Ack
	asked int // the tick at which the missing were asked last
}

// askEvery is how often, in ticks, those that have not told are asked again.
const askEvery = 4

// tickReclaim collects what everybody knows and, when all have told, proposes
// who inherits.
func (c *Core) tickReclaim() {
	if len(c.view.Pending()) == 0 && !c.hasOrphans() {
		c.round = round{}
		return
	}
	if c.node.State().Index != c.view.Index {
		return // this leader is one of before, or has not caught up
	}
	if last := c.view.LastSeal(); c.round.acks == nil || c.round.seal != last {
		// Who has applied the later seal has applied all before it; who told
		// before may have learnt from the later sealed since.
		c.round = round{seal: last, acks: map[ID]*Ack{}}
	}
	if c.enforced >= c.fence {
		c.round.acks[c.self] = c.ack(nil) // the registers are its own
	}
	missing := c.missing()
	if len(missing) == 0 {
		c.propose(council.Command{Kind: council.Reclaim, Estate: c.estate()})
		c.round = round{}
		return
	}
	if c.round.asked == 0 || c.ticks-c.round.asked >= askEvery {
		c.round.asked = c.ticks
		digest := c.digestNow()
		for _, id := range missing {
			c.sendTo(id, &Msg{Kind: kindWantAck, Index: c.round.seal, Digest: digest})
		}
	}
}

// hasOrphans tells whether a block belongs to somebody who is shut out.
func (c *Core) hasOrphans() bool {
	return slices.ContainsFunc(c.table, func(r Row) bool { return c.isOrphan(r.Register) })
}

// isOrphan tells whether a block belongs to somebody who is shut out, or who
// nobody knows and who had it of one who is: of those that are not shut out, all
// are known once everybody has told. So is what each of them owns, and a block
// of which nobody knows anything was somebody's who is not among them.
func (c *Core) isOrphan(r Register) bool {
	return r.Owner == uuid.Nil || c.isSealed(r.Owner) || !c.isKnown(r.Owner) && c.isSealed(r.From)
}

// missing are those who must tell what they know, and have not: all admitted,
// and the wards that those name, and the wards of those.
func (c *Core) missing() []ID {
	var out []ID
	done := map[ID]bool{}
	queue := c.view.Members()
	for len(queue) > 0 {
		id := queue[0]
		queue = queue[1:]
		if done[id] || c.isSealed(id) {
			continue
		}
		done[id] = true
		a := c.round.acks[id]
		if a == nil {
			out = append(out, id)
			continue
		}
		for _, w := range a.Wards {
			c.learn([]council.Member{w})
			queue = append(queue, w.ID())
		}
	}
	return out
}

// ack is what this peer knows, with the rows that whoever asked does not have.
func (c *Core) ack(rows []Row) *Ack {
	a := &Ack{Index: c.view.LastSeal(), Rows: rows, Own: slices.Clone(c.own), Members: c.memberList()}
	for _, id := range sortedIDs(c.wards) {
		a.Wards = append(a.Wards, c.members[id])
	}
	for _, addr := range sortedAddrs(c.held) {
		if h := c.held[addr]; h.use == useLeased {
			a.Leases = append(a.Leases, lease{Addr: addr, Holder: c.self, Token: h.token})
		}
	}
	return a
}

// onWantAck tells the leader what this peer knows, once its data plane has shut
// out all who are sealed.
func (c *Core) onWantAck(m *Msg) {
	if m.Index > c.view.Index {
		c.send(m.Peer, c.digest()) // we are behind
		return
	}
	if c.enforced >= c.fence && c.view.LastSeal() >= m.Index && c.Lodged() {
		c.send(m.Peer, &Msg{Kind: kindAck, Ack: c.ack(c.rowsBeside(c.digestNow(), m.Digest))})
	}
}

func (c *Core) onAck(m *Msg) {
	if c.leads() && c.round.acks != nil && m.Ack.Index >= c.round.seal {
		c.learn(m.Ack.Members)
		if c.merge(m.Ack.Rows); c.round.acks == nil {
			return // they say that this peer was set back
		}
		c.round.acks[m.FromID] = m.Ack
		if len(c.missing()) == 0 {
			c.tickReclaim()
			c.pumpRaft()
		}
	}
}

// estate draws up who inherits what the sealed had, from what everybody knows.
func (c *Core) estate() council.Estate {
	e := council.Estate{Base: c.view.Index}
	all := c.table
	acked := sortedIDs(c.round.acks)
	for _, id := range acked {
		all, _ = all.merge(c.round.acks[id].Rows)
		if !c.view.IsAdmitted(id) && !c.isSealed(id) {
			e.Wards = append(e.Wards, id)
		}
	}
	heirs := newHeirs(c, all)
	var orphans []span
	for _, r := range all {
		switch {
		case c.isOrphan(r.Register):
			orphans = appendSpan(orphans, span{r.First, r.Count})
		case r.From != uuid.Nil && c.isSealed(r.From):
			// A gift of one who was sealed counts if its receiver had begun to use
			// it; else the council gives it, to the receiver if it can.
			a := c.round.acks[r.Owner]
			if a == nil {
				continue // let in since, by one who would take nothing of the sealed
			}
			for _, s := range minus([]span{{r.First, r.Count}}, a.Own) {
				if c.view.IsAdmitted(r.Owner) {
					e.Shares = append(e.Shares, share(s, r.Owner))
				} else {
					orphans = appendSpan(orphans, s)
				}
			}
		}
	}
	for _, s := range orphans {
		e.Shares = append(e.Shares, heirs.divide(s)...)
	}
	slices.SortFunc(e.Shares, func(a, b council.Share) int { return int(a.First) - int(b.First) })
	given := map[netip.Addr]bool{}
	for _, id := range acked {
		if !c.isMember(id) {
			continue
		}
		for _, l := range c.round.acks[id].Leases {
			if l.Holder == id && inShares(e.Shares, c.blockOf(l.Addr)) && !given[l.Addr] {
				given[l.Addr] = true
				e.Leases = append(e.Leases, l)
			}
		}
	}
	slices.SortFunc(e.Leases, func(a, b lease) int { return a.Addr.Compare(b.Addr) })
	return e
}

func share(s span, heir ID) council.Share {
	return council.Share{First: uint32(s.first), Count: uint32(s.count), Heir: heir}
}

func inShares(list []council.Share, block int) bool {
	return slices.ContainsFunc(list, func(s council.Share) bool {
		return int(s.First) <= block && block < int(s.First+s.Count)
	})
}

// heirs chooses who inherits, so that prefixes stay few and shares even.
type heirs struct {
	c     *Core
	all   table
	owned map[ID]int
	ids   []ID
}

func newHeirs(c *Core, all table) *heirs {
	h := &heirs{c: c, all: all, owned: map[ID]int{}, ids: c.view.Members()}
	for _, r := range all {
		h.owned[r.Owner] += r.Count
	}
	return h
}

// divide gives each aligned part of a span to whom the other half of the next
// larger prefix belongs, or else to the member with the least.
func (h *heirs) divide(s span) []council.Share {
	var out []council.Share
	for first := s.first; first < s.end(); {
		size := 1
		for size*2 <= s.end()-first && first%(size*2) == 0 {
			size *= 2
		}
		part := span{first, size}
		heir := h.of(part)
		h.owned[heir] += size
		if n := len(out); n > 0 && out[n-1].Heir == heir {
			out[n-1].Count += uint32(size)
		} else {
			out = append(out, share(part, heir))
		}
		first += size
	}
	return out
}

func (h *heirs) of(s span) ID {
	if buddy := s.first ^ s.count; buddy+s.count <= h.c.blocks() {
		rows := h.all.part(span{buddy, s.count})
		owner := rows[0].Owner
		whole := !slices.ContainsFunc(rows, func(r Row) bool { return r.Owner != owner })
		if whole && h.c.view.IsAdmitted(owner) {
			return owner
		}
	}
	best := h.ids[0]
	for _, id := range h.ids {
		if h.owned[id] < h.owned[best] {
			best = id
		}
	}
	return best
}
