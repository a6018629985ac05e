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

// LinkRange is a part of IPv4 that nothing else uses.
var LinkRange = netip.MustParsePrefix("240.0.0.0/5")

// LinkAddr is the address by which the links of a peer are probed while others lead
// to its prefixes; it is of LinkRange. Everybody who knows the id knows it.
func LinkAddr(id uuid.UUID) netip.Addr {
	sum := sha256.Sum256(append([]byte("weft link\x00"), id[:]...))
	return netip.AddrFrom4([4]byte{0xf0 | sum[0]&0x07, sum[1], sum[2], sum[3]})
}

// Carries are the prefixes that a link leads to.
func (p Peer) Carries() []netip.Prefix {
	if p.Relayed {
		return p.Behind
	}
	return slices.Concat(p.Prefixes, p.Behind)
}

// linkPrefix is what the link leads to besides, none where it is not probed so.
func (p Peer) linkPrefix() []netip.Prefix {
	if !p.Link.IsValid() {
		return nil
	}
	return []netip.Prefix{netip.PrefixFrom(p.Link, p.Link.BitLen())}
}

// linkLocal is the address that goes with a hardware address (RFC 4291, appendix
// A): the next hop of a peer's IPv6 prefixes. Its gateway's address will not do,
// since the kernel refuses a next hop to which another device has the route.
func linkLocal(mac nl.MAC) netip.Addr {
	return netip.AddrFrom16([16]byte{0: 0xfe, 1: 0x80, 8: mac[0] ^ 2, 9: mac[1], 10: mac[2], 11: 0xff, 12: 0xfe, 13: mac[3], 14: mac[4], 15: mac[5]})
}

// plan is everything that a VXLAN device needs: for n peers n neighbours
// of each family, n forwarding entries, and a route for each prefix.
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
			six := linkLocal(j.end)
			p.neighbours = append(p.neighbours, nl.Neighbour{Addr: j.peer.VTEP, MAC: j.end})
			if local.IPv6.IsValid() {
				p.neighbours = append(p.neighbours, nl.Neighbour{Addr: six, MAC: j.end})
			}
			p.fdb = append(p.fdb, nl.FDB{MAC: j.end, Dst: j.peer.Underlay})
			p.routes = append(p.routes, routesTo(local, j.peer, hop{via: j.peer.VTEP}, hop{via: six})...)
		}
		p.links = append(p.links, j.link)
	}
	return p
}

// hop is how the routes to a peer leave: by a next hop, or by the device alone
// where there is none.
type hop struct {
	via  netip.Addr
	none bool // the transport cannot carry the family
}

// routesTo are the routes to what lies behind a peer, in both families, and to the
// peer's end of the link itself.
func routesTo(local Local, peer Peer, four, six hop) []nl.Route {
	var out []nl.Route
	if peer.Metric < 0 {
		return nil
	}
	if !four.none {
		for _, prefix := range peer.linkPrefix() {
			out = append(out, nl.Route{Dst: prefix, Via: four.via, Src: LinkAddr(local.ID), Metric: peer.Metric})
		}
	}
	for _, prefix := range peer.Carries() {
		if !four.none {
			out = append(out, nl.Route{Dst: prefix, Via: four.via, Src: local.Source, MTU: peer.MTU, Metric: peer.Metric})
		}
		if dst := local.IPv6.Prefix(prefix); dst.IsValid() && !six.none {
			out = append(out, nl.Route{Dst: dst, Via: six.via, Src: local.IPv6.Addr(local.Source), MTU: atLeastIPv6(peer.MTU), Metric: peer.Metric})
		}
	}
	return out
}

// atLeastIPv6 is the MTU of a route in IPv6, which knows none that is smaller
// than its own least: what does not fit the path travels in fragments outside.
func atLeastIPv6(mtu int) int {
	if mtu == 0 {
		return 0
	}
	return max(mtu, ipv6MTU)
}

// onDevice completes routes with the device that they are on, and links with
// what fits.
func (l Local) onDevice(index, mtu int, routes []nl.Route, links []Link) {
	for i, r := range routes {
		routes[i].Device = index
		if r.MTU == 0 && r.Dst.Addr().Is4() && mtu < l.deviceMTU(mtu) {
			routes[i].MTU = mtu
		}
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
