package daemon

import (
	"cmp"
	"slices"

	"github.com/weft-net/weft/api"
	"github.com/weft-net/weft/encap"
	"github.com/weft-net/weft/mesh"
)

// theirSlot is the other end of a slot.
type theirSlot struct {
	epoch uint64
	port  uint16
	key   encap.PublicKey
}

// slotsOf are a peer's ends of WireGuard, by this host's device that meets them.
func (d *Daemon) slotsOf(r mesh.Body) map[string]theirSlot {
	out := map[string]theirSlot{}
	for _, s := range slotsIn(r) {
		device := d.slotDevice(s.Epoch)
		if old, ok := out[device]; ok && old.epoch > s.Epoch || len(s.Key) != len(encap.PublicKey{}) {
			continue
		}
		out[device] = theirSlot{s.Epoch, s.Port, encap.PublicKey(s.Key)}
	}
	return out
}

// slotsIn are the slots that a record tells of.
func slotsIn(r mesh.Body) []mesh.Slot {
	if len(r.Slots) == 0 && len(r.WireGuardKey) > 0 {
		return []mesh.Slot{{Port: r.Ports[encap.TransportWireGuard], Key: r.WireGuardKey}}
	}
	return r.Slots
}

func keysOf(r mesh.Body) (out []api.PublicKey) {
	for _, s := range slotsIn(r) {
		if len(s.Key) == len(encap.PublicKey{}) {
			out = append(out, api.PublicKey{Epoch: s.Epoch, Port: s.Port, Key: encap.PublicKey(s.Key).String()})
		}
	}
	return out
}

// ownSlots are what the others are told of this host's, and the key for a weft
// that knows of one slot only.
func (d *Daemon) ownSlots() (slots []mesh.Slot, old []byte) {
	if !d.hasKeys() {
		return nil, nil
	}
	for _, s := range d.keys.list() {
		if !s.Listed() {
			continue
		}
		key, index := s.Key.Public(), encap.SlotIndex(s.Epoch)
		slots = append(slots, mesh.Slot{Epoch: s.Epoch, Port: d.settings.slotPort(index, d.opts.Port), Key: key[:]})
		if index == 0 {
			old = key[:]
		}
	}
	return slots, old
}

// preferred are those of this host's ends of a transport by which traffic to a
// peer may go, the newest first. One that the others are not told of any more is
// left out, unless there is no other.
func (d *Daemon) preferred(slots []encap.Slot, p tunnelPeer, held []encap.Instance) []encap.Instance {
	if len(held) == 0 || held[0].Transport != encap.TransportWireGuard {
		return held
	}
	var listed, rest []encap.Instance
	age := map[string]uint64{}
	for _, i := range held {
		there, ok := p.slots[i.Device]
		if !ok {
			continue
		}
		own, _ := slotAt(slots, slices.Index(d.opts.tunnelDevices()[encap.TransportWireGuard], i.Device))
		age[i.Device] = min(own.Epoch, there.epoch)
		if own.Listed() {
			listed = append(listed, i)
		} else {
			rest = append(rest, i)
		}
	}
	if len(listed) == 0 {
		return rest
	}
	slices.SortFunc(listed, func(a, b encap.Instance) int { return cmp.Compare(age[b.Device], age[a.Device]) })
	return listed
}
