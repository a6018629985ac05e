package daemon

import (
	"maps"
	"net/netip"
	"slices"

	"github.com/weft-net/weft/encap"
	"github.com/weft-net/weft/internal/nl"
	"github.com/weft-net/weft/mesh"
)

// neighbours says by which hardware addresses of the underlay packets may come
// directly, and by which not.
func (d *Daemon) neighbours(u underlay, peers []tunnelPeer, plan *linkPlan) error {
	if !slices.ContainsFunc(plan.instances, func(i encap.Instance) bool { return i.Transport == encap.TransportDirect }) {
		return nil
	}
	known := map[netip.Addr]nl.MAC{}
	for _, dev := range u {
		there, err := d.conn.Neighbours(dev)
		if err != nil {
			return err
		}
		maps.Copy(known, there)
	}
	for i, p := range peers {
		for _, e := range p.ends {
			if mac, ok := known[e.theirs]; ok {
				plan.guarded[i].NICs = append(plan.guarded[i].NICs, mac)
			}
		}
	}
	d.refuse(known, peers, plan)
	return nil
}

// refuse says by which hardware addresses on the underlay's device nothing of the
// network may come: those of hosts that are known and behind which nothing lies
// any more. One that was removed may not have heard of it, and go on sending
// directly by addresses that its heir may use. What was found before stays, since
// the kernel forgets neighbours, of which known are those on the underlay, and the
// mesh those that were removed long ago.
func (d *Daemon) refuse(known map[netip.Addr]nl.MAC, peers []tunnelPeer, plan *linkPlan) {
	inUse := map[netip.Addr]bool{}
	for _, addr := range d.underlays() {
		inUse[addr] = true
	}
	for _, p := range peers {
		for _, addr := range p.all {
			inUse[addr] = true
		}
	}
	refused := behindNothing(d.refused, d.mesh.Peers(), inUse)
	d.refused = refused
	if len(refused) == 0 {
		return
	}
	// Behind a switch that answers for others, all have one address.
	shared := map[nl.MAC]bool{{}: true}
	for addr := range inUse {
		shared[known[addr]] = true
	}
	for addr := range refused {
		if mac, ok := known[addr]; ok {
			refused[addr] = mac
		}
		if mac := refused[addr]; !shared[mac] && !slices.Contains(plan.refused, mac) {
			plan.refused = append(plan.refused, mac)
		}
	}
	slices.SortFunc(plan.refused, func(a, b nl.MAC) int { return slices.Compare(a[:], b[:]) })
}

// behindNothing are the addresses of hosts behind which nothing lies, with the hardware
// addresses that were found before.
func behindNothing(before map[netip.Addr]nl.MAC, peers []mesh.Peer, inUse map[netip.Addr]bool) map[netip.Addr]nl.MAC {
	out := map[netip.Addr]nl.MAC{}
	for addr, mac := range before {
		if !inUse[addr] && mac != (nl.MAC{}) {
			out[addr] = mac
		}
	}
	for _, p := range peers {
		for _, addr := range p.Record.Underlay {
			if !inUse[addr] {
				out[addr] = before[addr]
			}
		}
	}
	return out
}
