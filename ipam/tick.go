package ipam

import (
	"slices"

	"github.com/google/uuid"

	"github.com/weft-net/weft/ipam/council"
)

// Tick is a unit of time, a quarter of a second or so: nothing depends on how
// long it is but how soon something is tried again. Live are the peers that
// answer, true for those that may be voters.
func (c *Core) Tick(live map[uuid.UUID]bool) Effects {
	c.ticks++
	c.live = live
	c.tickUp()
	for id, at := range c.sealing {
		if c.ticks-at > 3*proposeEvery || c.isSealed(id) {
			delete(c.sealing, id)
		}
	}
	if c.node != nil {
		gone := false
		if lead := c.node.Leader(); lead != uuid.Nil && lead != c.self {
			m, _ := c.member(lead)
			_, alive := live[m.Peer]
			_, sealing := c.sealing[lead]
			gone = !alive || sealing || c.wishes[lead]
		}
		c.broken(c.node.Tick(gone))
		c.pumpRaft()
	}
	if c.Lodged() && !c.view.IsAdmitted(c.self) && c.ticks%proposeEvery == 0 {
		c.sendTo(c.me.Sponsor, c.digest()) // it vouches for this member once it hears from it
	}
	c.checkLog()
	c.tickClaims()
	c.tickProposals(false)
	if c.leads() {
		c.tickLeader()
	} else {
		c.round, c.ledSince = round{}, c.ticks
	}
	c.pumpRaft()
	return c.finish()
}

// checkLog finds out that this peer leads by a log that lacks what was decided:
// its disk was set back. A leader that is cut off from the other voters may lag
// for a while, and one that decides alone may not.
func (c *Core) checkLog() {
	if c.isOutvoted() {
		c.poison(c.self)
		return
	}
	if !c.leads() || c.node.State().Index >= c.view.Index {
		c.lags = 0
		return
	}
	if c.lags++; c.lags > downAfter {
		c.trouble(ErrForked)
		c.poison(c.self)
	}
}

// tickUp counts how long members have been live, or not.
func (c *Core) tickUp() {
	older := c.olderLives()
	for _, id := range c.view.Members() {
		m, _ := c.member(id)
		switch may, alive := c.live[m.Peer]; {
		case slices.Contains(older, id):
			c.up[id] = -downAfter
		case alive && may:
			c.up[id] = max(c.up[id], 0) + 1
		case alive:
			c.up[id] = 0
		default:
			c.up[id] = min(c.up[id], 0) - 1
		}
	}
	for id := range c.up {
		if !c.view.IsAdmitted(id) {
			delete(c.up, id)
		}
	}
}

// tickLeader does what is a leader's to do.
func (c *Core) tickLeader() {
	for _, id := range c.olderLives() {
		c.propose(council.Command{Kind: council.Seal, ID: id})
	}
	c.tickVoters()
	c.tickReclaim()
}

// olderLives are members whose peer has begun a later life.
func (c *Core) olderLives() []ID {
	latest := map[uuid.UUID]uint64{}
	all := map[ID]council.Member{}
	for id, a := range c.view.Admitted {
		if _, sealed := c.view.Sealed[id]; !sealed {
			all[id] = a.Member
		}
	}
	for id, m := range c.members {
		if c.isMember(id) {
			all[id] = m
		}
	}
	for _, m := range all {
		latest[m.Peer] = max(latest[m.Peer], m.Nonce)
	}
	var out []ID
	for _, id := range sortedIDs(all) {
		if all[id].Nonce < latest[all[id].Peer] {
			out = append(out, id)
		}
	}
	return out
}
