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
// gives no cause for either, so the other says so.
func planVXLAN(local Local, peers []Peer) plan {
	peers = slices.Clone(peers)
	slices.SortFunc(peers, func(a, b Peer) int { return bytes.Compare(a.ID[:], b.ID[:]) })
	var p plan
	macs := map[nl.MAC]bool{VTEPMAC(local.ID): true}
	var taken []netip.Prefix
	for _, peer := range peers {
		if peer.ID == local.ID {
			continue
		}
		link := Link{Peer: peer.ID, Device: local.Device, Underlay: peer.Underlay}
		mac := VTEPMAC(peer.ID)
		if link.Reason = unusable(local, peer, macs[mac], taken); link.Reason == "" {
			macs[mac] = true
			p.neighbours = append(p.neighbours, nl.Neighbour{Addr: peer.VTEP, MAC: mac})
			p.fdb = append(p.fdb, nl.FDB{MAC: mac, Dst: peer.Underlay})
			for _, prefix := range peer.Prefixes {
				p.routes = append(p.routes, nl.Route{Dst: prefix, Via: peer.VTEP, Src: local.Source})
			}
			taken = append(taken, peer.Prefixes...)
		}
		p.links = append(p.links, link)
	}
	return p
}

// unusable says why there can be no link to a peer, "" if there can.
func unusable(local Local, peer Peer, macTaken bool, taken []netip.Prefix) string {
	switch {
	case len(peer.Prefixes) == 0:
		return "it holds no address space yet"
	case !peer.Underlay.IsValid():
		return "it has said no underlay address"
	case peer.Underlay.Is4() != local.Underlay.Is4():
		return fmt.Sprintf("its underlay address %s is not of the family of this host's %s", peer.Underlay, local.Underlay)
	case peer.Underlay == local.Underlay:
		return fmt.Sprintf("its underlay address %s is this host's own", peer.Underlay)
	case !peer.VTEP.IsValid():
		return "it has said no address of its bridge that is in its own prefixes"
	case macTaken:
		return "its tunnel's hardware address is another peer's"
	}
	for _, prefix := range peer.Prefixes {
		if i := slices.IndexFunc(taken, prefix.Overlaps); i >= 0 {
			return fmt.Sprintf("its prefix %s overlaps %s of another peer", prefix, taken[i])
		}
		// Longest match wins: a route that covers the underlay would draw the
		// tunnels into themselves.
		if prefix.Contains(local.Underlay) || prefix.Contains(peer.Underlay) {
			return fmt.Sprintf("its prefix %s contains an underlay address", prefix)
		}
	}
	return ""
}
