package ipam

import (
	"maps"
	"slices"

	"github.com/google/uuid"

	"github.com/weft-net/weft/ipam/council"
)

// beginNode makes this peer the only voter of a state.
func (c *Core) beginNode(s council.State) error {
	disk := council.Begin(s)
	n, err := council.NewNode(c.self, disk)
	if err != nil {
		return err
	}
	c.node = n
	c.persistRaft(disk.Writes())
	return nil
}

// dropNode ends this peer's part in the council.
func (c *Core) dropNode() {
	c.node = nil
	var gone []council.Write
	for _, key := range slices.Sorted(maps.Keys(c.disk)) {
		gone = append(gone, council.Write{Key: key})
	}
	c.persistRaft(gone)
}

func (c *Core) persistRaft(ws []council.Write) {
	for _, w := range ws {
		if w.Value == nil {
			delete(c.disk, w.Key)
		} else {
			c.disk[w.Key] = w
		}
	}
	c.dirty.raft = append(c.dirty.raft, ws...)
}

// leads tells whether this peer leads the council.
func (c *Core) leads() bool { return c.node != nil && c.node.IsLeader() && c.node.IsVoter() }

// onRaft takes in a message of another voter. Who has never been one becomes
// one by it.
func (c *Core) onRaft(m *Msg) {
	if m.To != c.self || c.self == uuid.Nil || !c.view.IsAdmitted(m.FromID) {
		return
	}
	if c.node == nil {
		n, err := council.NewNode(c.self, council.Disk{})
		if err != nil {
			c.trouble(err)
			return
		}
		c.node = n
	}
	c.broken(c.node.Step(m.FromID, m.Raft.Raft))
	c.pumpRaft()
}

// broken deals with a node whose store contradicts what it said: it cannot be
// trusted with a vote, and so this peer not with its identity.
func (c *Core) broken(err error) {
	if err == nil || c.node == nil {
		return
	}
	c.trouble(err)
	if isBroken(err) {
		id := c.self
		c.dropNode()
		c.poison(id)
	}
}

// pumpRaft carries out what the node wants.
func (c *Core) pumpRaft() {
	if c.node == nil {
		return
	}
	before := c.node.State()
	out, err := c.node.Ready()
	if err != nil {
		c.broken(err)
		return
	}
	c.persistRaft(out.Writes)
	for _, m := range out.Messages {
		c.sendTo(m.To, &Msg{Kind: kindRaft, Raft: &m})
	}
	for _, d := range out.Decisions {
		switch {
		case d.Command.Kind == 0: // a snapshot
			if d.State.Index > c.view.Index && d.State.Domain.Hash() == c.domain {
				c.setView(d.State)
			}
		case d.Valid:
			c.decided(Decided{Prev: before.Hash, Index: d.Index, Command: d.Command})
		}
		if before = d.State; c.node == nil {
			return // the decision ended it
		}
	}
	// Only where two copies of a voter have decided apart is what follows from
	// this node's log not what is known; then the longer log is believed.
	if s := c.node.State(); s.Index > c.view.Index && s.Domain.Hash() == c.domain {
		c.setView(s)
	}
}
