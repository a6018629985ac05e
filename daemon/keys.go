package daemon

import (
	"slices"
	"sync"

	"github.com/google/uuid"

	"github.com/weft-net/weft/encap"
	"github.com/weft-net/weft/encap/probe"
	"github.com/weft-net/weft/mesh"
)

// keys are this host's of WireGuard. What becomes of them is encap.Slots's.
type keys struct {
	mu    sync.Mutex
	slots encap.Slots
	begun chan struct{} // has a word when a change was begun here
}

// list is the slots as they are.
func (k *keys) list() []encap.Slot { return k.now().List }

func (k *keys) turning() bool { return k.now().Turning() }

func (k *keys) now() encap.Slots {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.slots
}

// slotAt finds the slot of a place.
func slotAt(slots []encap.Slot, index int) (encap.Slot, bool) {
	i := slices.IndexFunc(slots, func(s encap.Slot) bool { return encap.SlotIndex(s.Epoch) == index })
	if i < 0 {
		return encap.Slot{}, false
	}
	return slots[i], true
}

// hasKeys tells whether this host does WireGuard.
func (d *Daemon) hasKeys() bool { return slices.Contains(d.can, encap.TransportWireGuard) }

// slotDevice is the device of the slot of an epoch.
func (d *Daemon) slotDevice(epoch uint64) string {
	return d.opts.tunnelDevices()[encap.TransportWireGuard][encap.SlotIndex(epoch)]
}

// turnKeys takes the next step of a change of keys, and tells whether there was one.
func (d *Daemon) turnKeys() bool {
	if !d.hasKeys() {
		return false
	}
	d.keys.mu.Lock()
	defer d.keys.mu.Unlock()
	peers := d.slotPeers(d.keys.slots)
	next, changed := d.keys.slots.Next(peers, d.now())
	if !changed && d.holdsSpace() && next.Due(d.opts.RotateKeys, d.identity.ID, d.now()) {
		next, changed = next.Begin(peers, d.now())
	}
	if !changed {
		d.keys.slots = next
		return false
	}
	err := d.keepSlots(next)
	d.note("keys", err)
	return err == nil
}

// keepSlots makes slots this host's: durable first, so that nothing is told to
// the others that a restart would not know. The holder of the lock calls it.
func (d *Daemon) keepSlots(next encap.Slots) (err error) {
	for i, s := range next.List {
		if s.Key == (encap.PrivateKey{}) {
			if next.List[i].Key, err = encap.NewPrivateKey(); err != nil {
				return err
			}
		}
	}
	if err := d.keep.saveSlots(next.List); err != nil {
		return err
	}
	d.keys.slots = next
	d.log.Info("keys of WireGuard", "epoch", next.Newest().Epoch, "slots", len(next.List), "older is listed", next.List[0].Listed())
	return nil
}

func (d *Daemon) holdsSpace() bool { return len(d.plan.Prefixes(d.identity.ID)) > 0 }

// slotPeers are the other hosts with address space, as a change of keys sees them.
func (d *Daemon) slotPeers(own encap.Slots) []encap.SlotPeer {
	views := map[uuid.UUID]linkView{}
	for _, l := range d.tunnel.Load().links {
		views[l.Peer] = l
	}
	quality := d.qualities()
	newest, older := d.slotDevice(own.Newest().Epoch), d.slotDevice(own.List[0].Epoch)
	var out []encap.SlotPeer
	for _, p := range d.mesh.Peers() {
		if p.Self || p.State == mesh.StateDeparted || len(d.plan.Prefixes(p.ID)) == 0 {
			continue
		}
		s := encap.SlotPeer{ID: p.ID, Live: p.State == mesh.StateAlive, Linked: true, Heard: true}
		for _, k := range keysOf(p.Record) {
			s.Epochs = append(s.Epochs, k.Epoch)
		}
		s.Old = len(p.Record.Slots) == 0
		// Of one that no pass has looked at nothing is known that would let go.
		if l, ok := views[p.ID]; ok {
			s.Linked = slices.ContainsFunc(l.verdicts, func(v encap.Verdict) bool { return v.Transport == encap.TransportWireGuard && v.Allowed })
			s.Heard = l.heard[older]
			s.Moved = l.detour != nil || quality[probe.Path{Peer: p.ID, Device: newest}].Works && (l.choice.Transport != encap.TransportWireGuard || l.choice.Device == newest)
		}
		out = append(out, s)
	}
	return out
}
