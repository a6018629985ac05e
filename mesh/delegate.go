package mesh

import (
	"bytes"
	"slices"

	"github.com/hashicorp/memberlist"
)

// delegate is the side of a Mesh that memberlist calls: it takes notes and
// returns at once, and never calls memberlist, whose locks may be held.
type delegate Mesh

// NodeMeta tells the version of this peer's record, so that who has missed it
// can ask.
func (d *delegate) NodeMeta(int) []byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.records.of(d.cfg.Identity.ID).digest().encode()
}

// NotifyMsg takes a message in.
func (d *delegate) NotifyMsg(b []byte) { d.take(b) }

// GetBroadcasts hands out what is to be spread.
func (d *delegate) GetBroadcasts(overhead, limit int) [][]byte {
	d.spreading.Store(int64(d.queue.NumQueued() - 1)) // see newQueue
	return d.queue.GetBroadcasts(overhead, limit)
}

// LocalState is what there is for one of memberlist's exchanges.
func (d *delegate) LocalState(join bool) []byte { return (*Mesh)(d).state(join) }

// MergeRemoteState takes another peer's LocalState in.
func (d *delegate) MergeRemoteState(b []byte, _ bool) { d.take(b) }

// Bounds of what waits to be handled. What is over is dropped, since the
// periodic exchange repairs it.
const (
	inboxMessages = 1024
	inboxBytes    = 64 << 20
)

// delivery is a message to be handled, or the news that all before it were.
type delivery struct {
	msg  []byte
	done chan struct{}
}

func (d *delegate) take(b []byte) {
	size := int64(len(b))
	if d.waiting.Add(size) <= inboxBytes {
		select {
		case d.inbox <- delivery{msg: slices.Clone(b)}: // memberlist uses its own again
			return
		default:
		}
	}
	d.waiting.Add(-size)
	d.counts.dropped.Add(1)
}

// NotifyJoin notes that a member is up.
func (d *delegate) NotifyJoin(n *memberlist.Node) { (*Mesh)(d).memberUp(n) }

// NotifyUpdate notes that a member's metadata has changed.
func (d *delegate) NotifyUpdate(n *memberlist.Node) { (*Mesh)(d).memberUpdated(n) }

// NotifyLeave notes that a member has failed or left.
func (d *delegate) NotifyLeave(n *memberlist.Node) { (*Mesh)(d).memberDown(n) }

// copyNode is a node that memberlist does not change behind our back.
func copyNode(n *memberlist.Node) *memberlist.Node {
	c := *n
	c.Addr, c.Meta = bytes.Clone(n.Addr), bytes.Clone(n.Meta)
	return &c
}
