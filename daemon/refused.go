package daemon

import (
	"net/netip"
	"slices"

	"github.com/weft-net/weft/internal/nl"
)

// refuse says by which hardware addresses on the underlay's device nothing of the
// network may come: those of hosts that are known and behind which nothing lies
// any more. One that was removed may not have heard of it, and go on sending
// directly by addresses that its heir may use. What was found before stays,
// since the kernel
// forgets neighbours, of which known are those of the underlay's device.
func (d *Daemon) refuse(known map[netip.Addr]nl.MAC, peers []tunnelPeer, plan *linkPlan) {
	inUse := map[netip.Addr]bool{d.advertise: true}
	for _, p := range peers {
		inUse[p.Underlay] = true
	}
	refused := map[netip.Addr]nl.MAC{}
	for _, p := range d.mesh.Peers() {
		if u := p.Record.Underlay; len(u) > 0 && !inUse[u[0]] {
			refused[u[0]] = d.refused[u[0]]
		}
	}
	d.refused = refused
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
