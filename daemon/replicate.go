package daemon

import (
	"fmt"
	"sync/atomic"
	"time"

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
	// When a message that was refused was last noted, in nanoseconds; 0 if none is.
	badMerge, badMessage atomic.Int64
	// enforce says that somebody waits for the kernel to follow the plan.
	enforce chan struct{}
}

// Name of the channel in the gossip.
func (r *replicate) Name() string { return "ipam" }

// State is what this host knows of the address plan, for an exchange with
// another peer.
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
	defer r.enforceSoon(p)
	news, err := p.Merge(state)
	r.noteMessage("plan-merge", &r.badMerge, err)
	return news
}

// Receive takes in a message of another peer's address plan.
func (r *replicate) Receive(from uuid.UUID, msg []byte) {
	p := r.plan.Load()
	if p == nil {
		return
	}
	defer r.enforceSoon(p)
	err := p.Receive(from, msg)
	if err != nil {
		err = fmt.Errorf("from %s: %w", r.d.nameOf(from), err)
	}
	r.noteMessage("plan-receive", &r.badMessage, err)
}

// refusedShown is how long a refused message is a warning, and how long others
// that are refused after it are not logged.
const refusedShown = time.Minute

// noteMessage is note of messages: one peer's that are refused come among others
// that are not, and neither may fill the log.
func (r *replicate) noteMessage(what string, at *atomic.Int64, err error) {
	last := at.Load()
	if err == nil && last == 0 {
		return
	}
	now := r.d.now().UnixNano()
	if last != 0 && now-last < int64(refusedShown) {
		return
	}
	if err == nil {
		now = 0
	}
	at.Store(now)
	r.d.note(what, err)
}

func (r *replicate) enforceSoon(p *ipam.Allocator) {
	if r.d.enforced.Load() == p.Fence() {
		return
	}
	select {
	case r.enforce <- struct{}{}:
	default:
	}
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

// Moved says in the log which address space came and went. The kernel follows
// by the loop, which hears of every change.
func (r *replicate) Moved(m ipam.Moved) {
	log := r.d.log
	if len(m.Granted) > 0 {
		log.Info("address space granted", "prefixes", m.Granted)
	}
	if m.Renounced {
		log.Warn("this host was removed from the mesh; it joins again, and claims the addresses of its containers", "lost", m.Lost)
	} else if len(m.Lost) > 0 {
		log.Error("address space lost to another host", "prefixes", m.Lost)
	}
	if len(m.Cut) > 0 {
		log.Warn("containers cut off until their addresses are given again", "addresses", m.Cut)
	}
	if m.Trouble != "" {
		r.d.health.trouble(m.Trouble, r.d.now())
		log.Error("address plan", "err", m.Trouble)
	}
}

// Live are the other peers that answer, true for those that may be voters.
func (r *replicate) Live() map[uuid.UUID]bool {
	out := map[uuid.UUID]bool{}
	for _, p := range r.alive() {
		out[p.ID] = !p.Record.Observer
	}
	return out
}

// Donors are the live peers with the number of blocks that each has to spare.
func (r *replicate) Donors() map[uuid.UUID]int {
	out := map[uuid.UUID]int{}
	for _, p := range r.alive() {
		out[p.ID] = p.Record.FreeBlocks
	}
	return out
}

func (r *replicate) alive() []mesh.Peer {
	m := r.mesh.Load()
	if m == nil {
		return nil
	}
	var out []mesh.Peer
	for _, p := range m.Peers() {
		if !p.Self && p.State == mesh.StateAlive {
			out = append(out, p)
		}
	}
	return out
}
