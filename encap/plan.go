package encap

import (
	"crypto/sha256"
	"net/netip"
	"slices"

	"github.com/google/uuid"

	"github.com/weft-net/weft/internal/nl"
)

// VTEPMAC is the hardware address of a peer's tunnel device: unicast, locally
// administered, and known to everybody who knows the peer's id.
func VTEPMAC(id uuid.UUID) nl.MAC {
	sum := sha256.Sum256(append([]byte("weft vtep\x00"), id[:]...))
	mac := nl.MAC(sum[:6])
	mac[0] = mac[0]&0xfc | 0x02
	return mac
}

// plan is everything that a VXLAN device needs: for n peers n neighbours, n
// forwarding entries, and a route for each prefix.
type plan struct {
	neighbours []nl.Neighbour
	fdb        []nl.FDB
	routes     []nl.Route // Device is filled in when it is known
	links      []Link
}

// planVXLAN computes the plan. Each peer's end is known by its hardware address.
func planVXLAN(local Local, peers []Peer) plan {
	var p plan
	for _, j := range judge(local, peers, VTEPMAC(local.ID), vtepOf) {
		if j.usable() {
			p.neighbours = append(p.neighbours, nl.Neighbour{Addr: j.peer.VTEP, MAC: j.end})
			p.fdb = append(p.fdb, nl.FDB{MAC: j.end, Dst: j.peer.Underlay})
			p.routes = append(p.routes, routesTo(j.peer, j.peer.VTEP, local.Source)...)
		}
		p.links = append(p.links, j.link)
	}
	return p
}

// routesTo are the routes to what lies behind a peer, by a next hop or, if there
// is none, by the device alone.
func routesTo(peer Peer, via, src netip.Addr) []nl.Route {
	var out []nl.Route
	if peer.Metric < 0 {
		return nil
	}
	for _, prefix := range peer.Prefixes {
		out = append(out, nl.Route{Dst: prefix, Via: via, Src: src, MTU: peer.MTU, Metric: peer.Metric})
	}
	return out
}

// onDevice completes routes with the device that they are on, and links with
// what fits.
func onDevice(index, mtu int, routes []nl.Route, links []Link) {
	for i := range routes {
		routes[i].Device = index
	}
	for i := range links {
		links[i].MTU = mtu
	}
}

func vtepOf(peer Peer) (mac nl.MAC, reason string) {
	// Outside of its own prefixes it could be another peer's next hop.
	if !slices.ContainsFunc(peer.Prefixes, func(p netip.Prefix) bool { return p.Contains(peer.VTEP) }) {
		reason = "it has said no address of its bridge that is in its own prefixes"
	}
	return VTEPMAC(peer.ID), reason
}
