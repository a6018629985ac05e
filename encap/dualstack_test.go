package encap

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/weft-net/weft/internal/nl"
	"github.com/weft-net/weft/internal/ula"
)

var (
	six  = ula.Of(uuid.UUID{9})
	dual = func() Local { l := self; l.IPv6 = six; return l }()
)

func TestEveryRouteHasACounterpartInIPv6(t *testing.T) {
	peer := Peer{ID: uuid.UUID{2}, Underlay: addr("192.0.2.2"), VTEP: addr("10.40.0.0"), Key: PublicKey{2}, MTU: 1250, Metric: 200, MetricIPv6: 300,
		Prefixes: prefixes("10.40.0.0/13", "10.36.0.7/32")}
	hop := linkLocal(VTEPMAC(peer.ID))
	src := six.Addr(dual.Source)
	vxlan, wg := planVXLAN(dual, []Peer{peer}), planWireGuard(dual, []Peer{peer})
	for _, p := range peer.Prefixes {
		// IPv6 has no MTU that is less than 1280.
		want := nl.Route{Dst: six.Prefix(p), Via: hop, Src: src, MTU: 1280, Metric: 300}
		if !slices.Contains(vxlan.routes, want) {
			t.Errorf("VXLAN: %+v is not in %+v", want, vxlan.routes)
		}
		want.Via = netip.Addr{}
		if !slices.Contains(wg.routes, want) {
			t.Errorf("WireGuard: %+v is not in %+v", want, wg.routes)
		}
		if !slices.Contains(wg.ends[0].allowed, want.Dst) {
			t.Errorf("%s may not come from %+v", want.Dst, wg.ends[0])
		}
	}
	if n := (nl.Neighbour{Addr: hop, MAC: VTEPMAC(peer.ID)}); !slices.Contains(vxlan.neighbours, n) || len(vxlan.routes) != 4 || len(wg.routes) != 4 {
		t.Errorf("neighbours %+v; %d and %d routes", vxlan.neighbours, len(vxlan.routes), len(wg.routes))
	}
}

func TestDirectRoutesByIPv6TakeBothFamiliesAndThoseByIPv4OneAlone(t *testing.T) {
	local, peer := dual, Peer{ID: uuid.UUID{2}, Underlay: addr("192.0.2.2"), Prefixes: prefixes("10.40.0.0/13")}
	for underlay, want := range map[string][]netip.Prefix{
		"192.0.2.2":   {peer.Prefixes[0]},
		"2001:db8::2": {peer.Prefixes[0], six.Prefix(peer.Prefixes[0])},
	} {
		local.Also, peer.Underlay = addr("2001:db8::1"), addr(underlay)
		routes, links := planDirect(local, []Peer{peer})
		var got []netip.Prefix
		for _, r := range routes {
			if got = append(got, r.Dst); r.Via != peer.Underlay {
				t.Errorf("by %s: %+v", underlay, r)
			}
		}
		if !slices.Equal(got, want) || links[0].Reason != "" {
			t.Errorf("by %s: routes to %v, want %v; %+v", underlay, got, want, links)
		}
	}
	if peer.MetricIPv6 = -1; len(func() []nl.Route { r, _ := planDirect(local, []Peer{peer}); return r }()) > 1 {
		t.Error("a route in IPv6 where there is to be none")
	}
}

func TestWireGuardAloneTakesBothFamiliesOfTheUnderlay(t *testing.T) {
	local, peer := dual, Peer{ID: uuid.UUID{2}, Underlay: addr("2001:db8::2"), VTEP: addr("10.40.0.0"), Key: PublicKey{2}, Prefixes: prefixes("10.40.0.0/13")}
	local.Also = addr("2001:db8::1")
	if p := planWireGuard(local, []Peer{peer}); len(p.ends) != 1 || p.links[0].Reason != "" {
		t.Errorf("WireGuard: %+v", p.links)
	}
	if p := planVXLAN(local.single(), []Peer{peer}); p.links[0].Reason == "" {
		t.Errorf("VXLAN: %+v", p.links)
	}
	for _, bad := range []netip.Addr{local.Also, six.Addr(addr("10.40.0.1"))} {
		peer.Underlay = bad
		if p := planWireGuard(local, []Peer{peer}); len(p.ends) != 0 || !strings.Contains(p.links[0].Reason, bad.String()) {
			t.Errorf("underlay %s: %+v", bad, p.links)
		}
	}
}

func TestNextHopsOfIPv6AreLinkLocalAndOfOnePeer(t *testing.T) {
	if got := linkLocal(nl.MAC{0x02, 0x11, 0x22, 0x33, 0x44, 0x55}); got != addr("fe80::11:22ff:fe33:4455") {
		t.Errorf("next hop %s", got)
	}
}

func TestDeviceIsWideEnoughForIPv6AndRoutesSayWhatFitsIPv4(t *testing.T) {
	narrow, wide := 1200, 1440
	if dual.deviceMTU(narrow) != 1280 || dual.deviceMTU(wide) != wide || self.deviceMTU(narrow) != narrow {
		t.Errorf("MTUs of devices: %d, %d, %d", dual.deviceMTU(narrow), dual.deviceMTU(wide), self.deviceMTU(narrow))
	}
	routes := []nl.Route{{Dst: prefixes("10.40.0.0/13")[0]}, {Dst: six.Prefix(prefixes("10.40.0.0/13")[0])}}
	dual.onDevice(7, narrow, routes, nil)
	if routes[0].MTU != narrow || routes[1].MTU != 0 || routes[0].Device != 7 || routes[1].Device != 7 {
		t.Errorf("routes: %+v", routes)
	}
}
