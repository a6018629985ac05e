package daemon

import (
	"fmt"
	"net/netip"
	"sync/atomic"

	"github.com/google/uuid"

	"github.com/weft-net/weft/ipam"
	"github.com/weft-net/weft/mesh"
)

// replicate joins the address plan to the mesh: neither knows the other. It is
// a mesh.Channel and an ipam.Network. It exists before both, since each wants
// the other when it is made.
type replicate struct {
	mesh atomic.Pointer[mesh.Mesh]
	plan atomic.Pointer[ipam.Allocator]
	d    *Daemon
}

// Name of the channel in the gossip.
func (r *replicate) Name() string { return "ipam" }

// State is the whole address plan, for an exchange with another peer.
func (r *replicate) State() []byte {
	if p := r.plan.Load(); p != nil {
		return p.State()
	}
	return nil
}

// Merge takes in what another peer knows of the plan and returns what is news.
func (r *replicate) Merge(state []byte) []byte {
	p := r.plan.Load()
	if p == nil {
		return nil
	}
	news, err := p.Merge(state)
	r.d.note("plan-merge", err)
	return news
}

// Receive takes in a message of another peer's address plan.
func (r *replicate) Receive(from uuid.UUID, msg []byte) {
	p := r.plan.Load()
	if p == nil {
		return
	}
	err := p.Receive(from, msg)
	if err != nil {
		err = fmt.Errorf("from %s: %w", r.d.nameOf(from), err)
	}
	r.d.note("plan-receive", err)
}

// Send gives a message to one peer's address plan.
func (r *replicate) Send(to uuid.UUID, msg []byte) {
	if m := r.mesh.Load(); m != nil {
		m.Send(to, r.Name(), msg)
	}
}

// Broadcast gives a change of the plan to every peer.
func (r *replicate) Broadcast(delta []byte) {
	if m := r.mesh.Load(); m != nil {
		m.Broadcast(r.Name(), delta)
	}
}

// Moved says in the log which address space came and went. What was lost to a
// conflict is a health warning, too, for as long as it is in use.
func (r *replicate) Moved(granted, lost []netip.Prefix) {
	if len(granted) > 0 {
		r.d.log.Info("address space granted", "prefixes", granted)
	}
	if len(lost) > 0 {
		r.d.log.Error("address space lost to another host's claim", "prefixes", lost)
	}
}

// Donors are the live peers with the number of blocks that each has to spare.
func (r *replicate) Donors() map[uuid.UUID]int {
	out := map[uuid.UUID]int{}
	m := r.mesh.Load()
	if m == nil {
		return out
	}
	for _, p := range m.Peers() {
		if !p.Self && p.State == mesh.StateAlive {
			out[p.ID] = p.Record.FreeBlocks
		}
	}
	return out
}
