package encap

import (
	"bytes"
	"crypto/sha256"
	"fmt"
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

// planVXLAN computes the plan. The result depends on the set of peers and not
// on their order. Of two peers that claim an overlapping prefix, or the same
// hardware address, the one with the smaller id keeps it: the address plan
// gives no cause for either, so the other says so. A peer that cannot have a
// link takes nothing from the others: the kernel is asked for nothing that it
// would refuse.
func planVXLAN(local Local, peers []Peer) plan {
	peers = slices.Clone(peers)
	slices.SortFunc(peers, func(a, b Peer) int { return bytes.Compare(a.ID[:], b.ID[:]) })
	reasons := make([]string, len(peers))
	macs := map[nl.MAC]bool{VTEPMAC(local.ID): true}
	taken := newSpace()
	for i, peer := range peers {
		mac := VTEPMAC(peer.ID)
		if reasons[i] = unusable(local, peer, macs[mac], taken); reasons[i] == "" {
			macs[mac] = true
			for _, prefix := range peer.Prefixes {
				taken.add(prefix)
			}
		}
	}
	var p plan
	for i, peer := range peers {
		if peer.ID == local.ID {
			continue
		}
		link := Link{Peer: peer.ID, Device: local.Device, Underlay: peer.Underlay, Reason: reasons[i]}
		if link.Reason == "" {
			link.Reason = drawnIn(peer, taken)
		}
		if link.Reason == "" {
			mac := VTEPMAC(peer.ID)
			p.neighbours = append(p.neighbours, nl.Neighbour{Addr: peer.VTEP, MAC: mac})
			p.fdb = append(p.fdb, nl.FDB{MAC: mac, Dst: peer.Underlay})
			for _, prefix := range peer.Prefixes {
				p.routes = append(p.routes, nl.Route{Dst: prefix, Via: peer.VTEP, Src: local.Source})
			}
		}
		p.links = append(p.links, link)
	}
	return p
}

// unusable says why there can be no link to a peer, "" if there can.
func unusable(local Local, peer Peer, macTaken bool, taken space) string {
	switch {
	case peer.ID == local.ID:
		return "it is this host itself"
	case len(peer.Prefixes) == 0:
		return "it holds no address space yet"
	case !peer.Underlay.IsValid():
		return "it has said no underlay address"
	case !peer.Underlay.IsGlobalUnicast():
		return fmt.Sprintf("its underlay address %s is not one that other hosts can reach", peer.Underlay)
	case peer.Underlay.Is4() != local.Underlay.Is4():
		return fmt.Sprintf("its underlay address %s is not of the family of this host's %s", peer.Underlay, local.Underlay)
	case peer.Underlay == local.Underlay:
		return fmt.Sprintf("its underlay address %s is this host's own", peer.Underlay)
	// Outside of its own prefixes it could be another peer's next hop.
	case !slices.ContainsFunc(peer.Prefixes, func(p netip.Prefix) bool { return p.Contains(peer.VTEP) }):
		return "it has said no address of its bridge that is in its own prefixes"
	case macTaken:
		return "its tunnel's hardware address is another peer's"
	}
	for _, prefix := range peer.Prefixes {
		if !prefix.Addr().Is4() || prefix != prefix.Masked() {
			return fmt.Sprintf("its prefix %s is not an IPv4 network", prefix)
		}
		if other, ok := taken.overlapping(prefix); ok {
			return fmt.Sprintf("its prefix %s overlaps %s of another peer", prefix, other)
		}
		// Longest match wins: a route that covers the underlay would draw the
		// tunnels into themselves.
		if prefix.Contains(local.Underlay) {
			return fmt.Sprintf("its prefix %s contains this host's underlay address %s", prefix, local.Underlay)
		}
	}
	return ""
}

// drawnIn says so if a route would draw the tunnel to a peer into a tunnel. The
// fault is the peer's and not the one's who holds the prefix: nobody can take
// another's routes away by what it says of itself.
func drawnIn(peer Peer, taken space) string {
	prefix, ok := taken.covering(netip.PrefixFrom(peer.Underlay, peer.Underlay.BitLen()))
	if !ok {
		return ""
	}
	return fmt.Sprintf("its underlay address %s is inside of the network, in %s", peer.Underlay, prefix)
}
