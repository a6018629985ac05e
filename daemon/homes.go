package daemon

import (
	"net/netip"

	"github.com/weft-net/weft/internal/nl"
)

// homes are the devices that this host's addresses on the underlay were on first, by
// whether they are of IPv4. An address on another device stands in: where the one of a
// host goes for a moment (DHCP that is renewed, an interface that is set up anew), its
// routes go too, and what is left then is no better for being there.
type homes map[bool]string

// settle notes the devices of those addresses. A bridge without an uplink is none
// to come back to.
func (h homes) settle(list []netip.Addr, local map[netip.Addr]string, inner map[string]bool) {
	for _, a := range list {
		if dev := local[a]; dev != "" && !inner[dev] && h[a.Is4()] == "" {
			h[a.Is4()] = dev
		}
	}
}

// leaves tells whether an address makes way for another of its family, which would be
// taken now.
func (h homes) leaves(was, now netip.Addr, local map[netip.Addr]string, inner map[string]bool) bool {
	if was.Is4() != now.Is4() || local[was] == local[now] {
		return false
	}
	home := h[was.Is4()]
	return inner[local[was]] && !inner[local[now]] || home != "" && local[now] == home
}

// innerBridges are those that nothing but containers and virtual machines are on. The
// others are on no segment of theirs, whatever address they have: Docker's is the same
// on each host.
func innerBridges(links []nl.Link) map[string]bool {
	uplinks := map[int]bool{} // by the bridge's index
	for _, l := range links {
		switch l.Kind {
		case nl.KindVeth, nl.KindTUN, nl.KindDummy:
		default:
			uplinks[l.Master] = true
		}
	}
	out := map[string]bool{}
	for _, l := range links {
		if l.Kind == nl.KindBridge && !uplinks[l.Index] {
			out[l.Name] = true
		}
	}
	return out
}

// only is the one address of a family that is not on these devices, if it is one.
func only(ipv4 bool, local map[netip.Addr]string, but map[string]bool) (one netip.Addr, ok bool) {
	for a, dev := range local {
		if a.Is4() != ipv4 || but[dev] {
			continue
		}
		if one.IsValid() {
			return netip.Addr{}, false
		}
		one = a
	}
	return one, one.IsValid()
}
