package encap

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"
)

// judged is a peer, and whether there can be a link to it.
type judged[End comparable] struct {
	peer Peer
	end  End // by which its tunnel's end is told from the others'
	link Link
}

func (j judged[End]) usable() bool { return j.link.Reason == "" }

// judge says to which of the peers there can be a link, in the order of their
// ids. The result depends on the set of peers and not on their order. Of two
// peers that claim an overlapping prefix, or the same end, the one with the
// smaller id keeps it: the address plan gives no cause for either, so the other
// says so. A peer that cannot have a link takes nothing from the others: the
// kernel is asked for nothing that it would refuse. What ends are, and which
// peer has none, is the transport's: own is this host's end.
func judge[End comparable](local Local, peers []Peer, own End, endOf func(Peer) (end End, reason string)) []judged[End] {
	peers = slices.Clone(peers)
	slices.SortFunc(peers, func(a, b Peer) int { return bytes.Compare(a.ID[:], b.ID[:]) })
	ends := map[End]bool{own: true}
	taken := newSpace()
	var out []judged[End]
	for _, peer := range peers {
		if peer.ID == local.ID {
			continue
		}
		end, reason := endOf(peer)
		if r := unusable(local, peer, taken); r != "" {
			reason = r
		}
		if reason == "" && ends[end] {
			reason = fmt.Sprintf("its tunnel says that it is %v, which is another peer's", end)
		}
		if reason == "" {
			ends[end] = true
			for _, prefix := range peer.Carries() {
				taken.add(prefix)
			}
		}
		out = append(out, judged[End]{peer, end, Link{Peer: peer.ID, Device: local.Device, Underlay: peer.Underlay, Reason: reason}})
	}
	for i := range out {
		if out[i].usable() {
			out[i].link.Reason = drawnIn(out[i].peer, taken)
		}
	}
	return out
}

// unusable says why there can be no link to a peer by any transport, "" if
// there can.
func unusable(local Local, peer Peer, taken space) string {
	switch {
	case len(peer.Prefixes) == 0:
		return "it holds no address space yet"
	case !peer.Underlay.IsValid():
		return "it has said no underlay address"
	case !peer.Underlay.IsGlobalUnicast() || peer.Underlay.Is4In6() || peer.Underlay.Zone() != "":
		return fmt.Sprintf("its underlay address %s is not one that other hosts can reach", peer.Underlay)
	case peer.Underlay.Is4() != local.Underlay.Is4() && (!local.Also.IsValid() || peer.Underlay.Is4() != local.Also.Is4()):
		return fmt.Sprintf("its underlay address %s is not of the family of this host's %s", peer.Underlay, local.Underlay)
	case local.IPv6.Contains(peer.Underlay):
		return fmt.Sprintf("its underlay address %s is inside of the network", peer.Underlay)
	case peer.Underlay == local.Underlay || peer.Underlay == local.Also:
		return fmt.Sprintf("its underlay address %s is this host's own", peer.Underlay)
	}
	for _, prefix := range peer.Carries() {
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
