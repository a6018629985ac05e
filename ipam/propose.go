package ipam

import (
	"errors"
	"slices"

	"github.com/google/uuid"

	"github.com/weft-net/weft/ipam/council"
)

// proposeEvery is how often, in ticks, a peer repeats what it asks of the
// council.
const proposeEvery = 4

func isBroken(err error) bool { return errors.Is(err, council.ErrBroken) }

// Seal asks the council, for as long as this process runs, to shut a member out
// for good. It fails for one that is not known.
func (c *Core) Seal(id ID) (Effects, error) { return c.wish(id, true) }

// Expire is Seal for a member that has not answered for long: if the leader
// hears from it, nothing happens.
func (c *Core) Expire(id ID) (Effects, error) { return c.wish(id, false) }

func (c *Core) wish(id ID, firm bool) (Effects, error) {
	if !c.isKnown(id) {
		return Effects{}, ErrUnknownPeer
	}
	if was, asked := c.wishes[id]; !c.isSealed(id) && (!asked || firm && !was) { // else it is asked for at every few ticks
		c.wishes[id] = firm
		if firm {
			c.tickProposals(true)
			c.pumpRaft()
		}
	}
	return c.finish(), nil
}

// Unseal withdraws what Seal asked for, if it has not been decided.
func (c *Core) Unseal(id ID) { delete(c.wishes, id) }

// proposal is what somebody wants decided; soft ones do not count against a
// member that the leader hears from.
type proposal struct {
	council.Command
	soft bool
}

// proposals are what this peer wants decided, in order.
func (c *Core) proposals() []proposal {
	var out []proposal
	for _, id := range sortedIDs(c.wards) {
		if c.heard[id] && c.view.IsAdmitted(c.self) {
			out = append(out, proposal{council.Command{Kind: council.Admit, Member: c.members[id]}, false})
		}
	}
	seal := func(id ID, soft bool) {
		out = append(out, proposal{council.Command{Kind: council.Seal, ID: id}, soft})
	}
	for _, id := range c.former {
		seal(id, false)
	}
	for _, id := range sortedIDs(c.wishes) {
		seal(id, !c.wishes[id])
	}
	for _, id := range sortedIDs(c.poisoned) {
		seal(id, false)
	}
	return out
}

// tickProposals has the leader decide what this peer wants.
func (c *Core) tickProposals(now bool) {
	if c.view.Index == 0 || c.self == uuid.Nil || !now && c.ticks%proposeEvery != 0 {
		return
	}
	for _, p := range c.proposals() {
		if c.leads() {
			if !p.soft || !c.hears(p.ID) {
				c.propose(p.Command)
			}
			continue
		}
		for _, v := range c.advisers() {
			c.sendTo(v, &Msg{Kind: kindPropose, Command: &p.Command, Soft: p.soft})
		}
	}
}

// hears tells whether a member answers this peer.
func (c *Core) hears(id ID) bool {
	m, known := c.member(id)
	return known && (id == c.self || c.has(m.Peer))
}

// advisers are the voters to ask: the leader, if this peer knows it, else all.
func (c *Core) advisers() []ID {
	if c.node != nil {
		if l := c.node.Leader(); l != uuid.Nil && l != c.self && slices.Contains(c.view.Voters, l) {
			return []ID{l}
		}
	}
	return slices.DeleteFunc(slices.Clone(c.view.Voters), func(v ID) bool { return v == c.self })
}

// onPropose takes in what another wants decided.
func (c *Core) onPropose(m *Msg) {
	cmd := *m.Command
	if cmd.Kind != council.Admit && cmd.Kind != council.Seal {
		return
	}
	if m.Soft && c.hears(cmd.ID) {
		return
	}
	if !c.leads() {
		if cmd.Kind == council.Seal && c.node != nil && cmd.ID == c.node.Leader() {
			c.sealing[cmd.ID] = c.ticks // it may be gone: another should stand soon
		}
		return
	}
	c.propose(cmd)
	c.pumpRaft()
}

// propose puts a command before the council, if it would count now. A voter
// that is to be sealed is replaced first.
func (c *Core) propose(cmd council.Command) {
	if cmd.Kind == council.Seal {
		c.sealing[cmd.ID] = c.ticks
		if c.node.Changing() || slices.Contains(c.view.Voters, cmd.ID) {
			return // tickVoters finds another
		}
	}
	if _, ok := c.node.State().Apply(c.node.State().Index+1, cmd); ok {
		c.broken(c.node.Propose(cmd))
	}
}

// Times in ticks until a member counts as stable, and as down.
const (
	stableAfter = 3
	downAfter   = 120
)

// tickVoters proposes the voters that there should be. A leader that is new
// listens for a while first: two voters that are both to be sealed would hand
// the lead to each other for ever.
func (c *Core) tickVoters() {
	if c.node.Changing() || c.ticks-c.ledSince < proposeEvery || len(c.sealing) == 0 && c.ticks%proposeEvery != 0 {
		return
	}
	want := c.bestVoters()
	switch _, out := c.sealing[c.self]; {
	case len(want) == 0:
	case !slices.Equal(want, c.view.Voters):
		c.propose(council.Command{Kind: council.SetVoters, Voters: want})
	case out && len(want) > 1:
		// A leader that removed itself could take with it what only it has: the
		// news that the removal was agreed.
		c.broken(c.node.Yield(c.firstOther(want)))
	}
}

// firstOther is the most stable of some voters that is not this one.
func (c *Core) firstOther(voters []ID) ID {
	for _, id := range c.candidates() {
		if id != c.self && slices.Contains(voters, id) {
			return id
		}
	}
	return c.self
}

// bestVoters are those that should decide: more as the mesh grows, the present
// ones before others, and none that has been down for long or is to be sealed.
// They change in one step, so that no even number, which one failure could stop,
// comes in between; only a leader that is to go is one more until another leads.
func (c *Core) bestVoters() []ID {
	var list []ID
	add := func(id ID, ok bool) {
		if _, out := c.sealing[id]; ok && !out && !slices.Contains(list, id) {
			list = append(list, id)
		}
	}
	add(c.self, true)
	stable := c.candidates()
	for _, id := range stable {
		add(id, slices.Contains(c.view.Voters, id))
	}
	for _, id := range c.view.Voters {
		add(id, c.up[id] > -downAfter && !c.poisoned[id])
	}
	for _, id := range stable {
		add(id, true)
	}
	list = list[:min(len(list), wantedVoters(len(list)))]
	if !slices.Contains(list, c.self) && len(list) > 0 {
		list = append(list, c.self) // until another leads
	}
	slices.SortFunc(list, compareIDs)
	return list
}

// wantedVoters of so many who could.
func wantedVoters(candidates int) int {
	switch {
	case candidates >= 5:
		return 5
	case candidates >= 3:
		return 3
	}
	return 1
}

// candidates are the members that could be voters now, the most stable first.
func (c *Core) candidates() []ID {
	var out []ID
	for _, id := range c.view.Members() {
		if id == c.self || c.up[id] >= stableAfter && !c.poisoned[id] {
			out = append(out, id)
		}
	}
	slices.SortStableFunc(out, func(a, b ID) int { return c.up[b] - c.up[a] })
	return out
}
