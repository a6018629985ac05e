package ipam

import (
	"fmt"
	"net/netip"

	"github.com/google/uuid"

	"github.com/weft-net/weft/ipam/council"
)

// setView makes a state the one that is known, and draws the consequences.
func (c *Core) setView(s council.State) {
	fenced := len(s.Sealed) != len(c.view.Sealed)
	if domain := s.Domain.Hash(); domain != c.domain { // of a rival, it may be no longer than ours
		c.domain = domain
		fenced = true
	}
	c.view, c.dirty.view = s, true
	if fenced {
		c.fence++
	}
	c.afterCouncil()
}

// decided takes in a decision that follows the view or the voter's own state.
func (c *Core) decided(d Decided) {
	if d.Index > c.view.Index && d.Prev == c.view.Hash {
		next, ok := c.view.Apply(d.Index, d.Command)
		if !ok {
			return
		}
		c.news.Decisions = append(c.news.Decisions, d)
		c.setView(next)
	}
	if d.Command.Kind == council.Reclaim && d.Index <= c.view.Index {
		c.inherit(d.Index, d.Command.Estate)
	}
}

// inherit takes in the registers that a Reclaim makes.
func (c *Core) inherit(index uint64, e council.Estate) {
	var rows []Row
	for _, s := range e.Shares {
		if uint64(s.First)+uint64(s.Count) > uint64(c.blocks()) || s.Count == 0 {
			continue
		}
		rows = append(rows, Row{int(s.First), int(s.Count), Register{Epoch: c.view.Epoch(index), Version: 1, Owner: s.Heir}})
	}
	c.merge(rows)
}

// afterCouncil draws the consequences of a new view. All of it is safe to do
// again.
func (c *Core) afterCouncil() {
	if c.view.Index == 0 {
		return
	}
	if c.self != uuid.Nil && (c.isSealed(c.self) || c.poisoned[c.self]) {
		c.renounce()
	}
	for _, id := range sortedIDs(c.wards) {
		if _, in := c.view.Admitted[id]; in || c.isSealed(id) {
			delete(c.wards, id)
			c.dirty.wards = true
		}
	}
	for id := range c.poisoned {
		if _, sealed := c.view.Sealed[id]; sealed {
			delete(c.poisoned, id)
			c.dirty.poisoned = true
		}
	}
	for id := range c.wishes {
		if _, sealed := c.view.Sealed[id]; sealed {
			delete(c.wishes, id)
		}
	}
	former := c.former[:0:0]
	for _, id := range c.former {
		if _, sealed := c.view.Sealed[id]; !sealed {
			former = append(former, id)
		}
	}
	if len(former) != len(c.former) {
		c.former, c.dirty.self = former, true
	}
	c.dropBooks()
	c.adopt()
	c.forget()
}

// renounce ends this life: the member is no more, its containers are cut off,
// and their addresses are wanted by whichever member this peer becomes.
func (c *Core) renounce() {
	old := c.self
	if _, sealed := c.view.Sealed[old]; !sealed {
		c.former = append(c.former, old)
	}
	c.out.Lost = append(c.out.Lost, c.prefixes(c.own)...)
	c.out.Renounced = true
	for _, a := range sortedAddrs(c.held) {
		c.want(a)
	}
	c.me, c.self, c.lodged = council.Member{}, uuid.Nil, false
	c.own, c.used, c.low = nil, map[int]int{}, 0
	c.grants, c.wards, c.releases = nil, map[ID]bool{}, map[netip.Addr]uint64{}
	delete(c.books, old)
	mark(&c.dirty.books, old)
	c.dropNode()
	c.round = round{}
	c.fence++
	c.dirty.self, c.dirty.own, c.dirty.grants, c.dirty.wards, c.dirty.releases = true, true, true, true, true
}

// Fence counts the changes of who may send and receive. When the data plane
// follows the plan as it was at a count, the caller says so by Enforced.
func (c *Core) Fence() uint64 { return c.fence }

// Enforced tells that the data plane follows the plan as it was at a Fence.
func (c *Core) Enforced(fence uint64) Effects {
	c.enforced = max(c.enforced, min(fence, c.fence))
	return c.finish()
}

// meet deals with one from another domain: a mesh that was forced out of ours,
// or out of which ours was forced.
func (c *Core) meet(m *Msg) {
	if m.Kind == kindSync && m.State != nil && c.shouldMove(*m.State) {
		c.move(*m.State)
		return
	}
	if m.Kind != kindSync || m.State == nil {
		c.send(m.Peer, c.everything())
		return
	}
	switch r, _ := c.view.Domain.To(m.State.Domain); r {
	case council.Descendant, council.Winner:
		// They may have to come over to us: answer with our state, but only that once.
		c.send(m.Peer, c.everything())
	case council.Stranger:
		c.trouble(ErrStrangers)
	}
}

// shouldMove: a survivor goes over to what was forced out of its own mesh, if
// nothing was decided since that is not known there, and a member of a smaller
// forced mesh to a larger one of the same origin. Who is no member anywhere
// goes along with either.
func (c *Core) shouldMove(s council.State) bool {
	switch r, force := s.Domain.To(c.view.Domain); r {
	case council.Descendant:
		return !c.lodged || c.view.Index <= force.Base
	case council.Winner:
		return true
	}
	return false
}

// move goes over to another domain. Who is a member there stays one; who is not
// begins anew.
func (c *Core) move(s council.State) {
	r, _ := s.Domain.To(c.view.Domain)
	rival := r == council.Winner
	c.dropNode()
	c.round = round{}
	if rival || !c.lodged { // who is no member may know decisions that this domain is without
		// What was decided on the other side is void here, and so is what this
		// member owns by it.
		if c.self != uuid.Nil {
			c.renounce()
		}
		for id := range c.books {
			mark(&c.dirty.books, id)
		}
		c.table, c.books, c.members = newTable(c.blocks()), map[ID]book{}, map[ID]council.Member{}
		if rival {
			c.former = nil
		}
		c.dirty.table, c.dirty.members = true, true
	}
	// Who was admitted after the parent's last decision that counts here is shut
	// out here with its sponsor, and blocks may be its.
	for id, a := range c.view.Admitted {
		if _, in := s.Admitted[id]; !in && !rival {
			c.members[id], c.dirty.members = a.Member, true
		}
	}
	c.setView(s)
	c.send(c.anyPeer(), c.digest())
}

// anyPeer is one that answers.
func (c *Core) anyPeer() uuid.UUID {
	for _, id := range c.view.Members() {
		if m, ok := c.member(id); ok && m.Peer != c.cfg.Peer && c.has(m.Peer) {
			return m.Peer
		}
	}
	return uuid.Nil
}

func (c *Core) has(peer uuid.UUID) bool {
	_, live := c.live[peer]
	return live
}

// hearsMajority tells whether a majority of the voters answers, this one included.
func (c *Core) hearsMajority() bool {
	n := 0
	for _, v := range c.view.Voters {
		if m, known := c.member(v); v == c.self || known && c.has(m.Peer) {
			n++
		}
	}
	return 2*n > len(c.view.Voters)
}

// Force takes a mesh out of this one whose majority of voters is gone for good:
// this peer decides alone, and the members that are not named are sealed. It
// cannot be undone. The nonce is any number that is new.
func (c *Core) Force(survivors []ID, nonce uint64) (Effects, error) {
	if !c.isMember(c.self) || !c.lodged {
		return Effects{}, fmt.Errorf("force: this host is no member")
	}
	list := []council.Member{c.me}
	for _, id := range survivors {
		m, known := c.member(id)
		if !known || !c.isMember(id) {
			return Effects{}, fmt.Errorf("force: %s is no member", id)
		}
		if id != c.self {
			list = append(list, m)
		}
	}
	next := c.view.Fork(nonce, list...)
	c.dropNode()
	c.round = round{}
	if err := c.beginNode(next); err != nil {
		return Effects{}, err
	}
	c.setView(next)
	for _, id := range next.Members() {
		c.sendTo(id, c.everything())
	}
	return c.finish(), nil
}
