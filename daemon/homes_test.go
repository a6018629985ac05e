package daemon

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/weft-net/weft/internal/nl"
)

// Addresses of a host, and its inner bridges.
var (
	atHome, away, ofDocker = netip.MustParseAddr("192.0.2.3"), netip.MustParseAddr("198.51.100.3"), netip.MustParseAddr("172.17.0.1")
	innerOnes              = map[string]bool{"docker0": true}
)

func on(devices map[netip.Addr]string, list ...netip.Addr) map[netip.Addr]string {
	out := map[netip.Addr]string{}
	for _, a := range list {
		out[a] = devices[a]
	}
	return out
}

func TestAnAddressThatStoodInMakesWayForTheOneAtHome(t *testing.T) {
	renumbered, six := netip.MustParseAddr("192.0.2.77"), netip.MustParseAddr("2001:db8::3")
	devices := map[netip.Addr]string{atHome: "eth0", renumbered: "eth0", six: "eth0", away: "eth1", ofDocker: "docker0"}
	list := func(a ...netip.Addr) []netip.Addr { return a }
	for name, tc := range map[string]struct {
		homes                   homes
		was, local, found, want []netip.Addr
	}{
		"it is back":                           {homes{true: "eth0"}, list(away), list(atHome, away), list(atHome), list(atHome)},
		"another is there in its place":        {homes{true: "eth0"}, list(away), list(renumbered, away), list(renumbered), list(renumbered)},
		"it is back, and no route leads by it": {homes{true: "eth0"}, list(away), list(atHome, away), list(away), list(away)},
		"it never went":                        {homes{true: "eth0"}, list(atHome), list(atHome, away), list(away), list(atHome)},
		"it has a second one":                  {homes{true: "eth0"}, list(atHome), list(atHome, renumbered), list(renumbered), list(atHome)},
		"only Docker was there at first":       {homes{}, list(ofDocker), list(atHome, ofDocker), list(atHome), list(atHome)},
		"only Docker was, and is":              {homes{}, list(ofDocker), list(ofDocker), list(ofDocker), list(ofDocker)},
		"the other family is where it was":     {homes{true: "eth0", false: "eth0"}, list(away, six), list(atHome, away, six), list(atHome, six), list(atHome, six)},
	} {
		local := on(devices, tc.local...)
		got := keepOrder(tc.was, local, tc.found, func(was, now netip.Addr) bool { return tc.homes.leaves(was, now, local, innerOnes) })
		if !slices.Equal(got, tc.want) {
			t.Errorf("%s: %v, want %v", name, got, tc.want)
		}
	}
}

func TestAHostIsAtHomeWhereItWasFirstButNotOnAnInnerBridge(t *testing.T) {
	devices := map[netip.Addr]string{atHome: "eth0", away: "eth1", ofDocker: "docker0"}
	h := homes{}
	h.settle([]netip.Addr{ofDocker}, on(devices, ofDocker), innerOnes)
	if len(h) > 0 {
		t.Errorf("at home with Docker: %v", h)
	}
	h.settle([]netip.Addr{atHome}, on(devices), innerOnes) // it is gone for now
	h.settle([]netip.Addr{atHome}, on(devices, atHome), innerOnes)
	h.settle([]netip.Addr{away}, on(devices, away), innerOnes)
	if h[true] != "eth0" {
		t.Errorf("at home at %v", h)
	}
}

func TestTheOnlyAddressOfAHostIsNotOnAnInnerBridge(t *testing.T) {
	devices := map[netip.Addr]string{atHome: "eth0", away: "eth1", ofDocker: "docker0"}
	for name, tc := range map[string]struct {
		local []netip.Addr
		want  netip.Addr
	}{
		"besides Docker's":    {[]netip.Addr{atHome, ofDocker}, atHome},
		"there is no other":   {[]netip.Addr{ofDocker}, netip.Addr{}},
		"there are two":       {[]netip.Addr{atHome, away}, netip.Addr{}},
		"of the family alone": {[]netip.Addr{atHome, netip.MustParseAddr("2001:db8::3")}, atHome},
	} {
		if got, ok := only(true, on(devices, tc.local...), innerOnes); got != tc.want || ok != tc.want.IsValid() {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestABridgeWithAnUplinkIsNoInnerOne(t *testing.T) {
	const physical = "device"
	links := []nl.Link{
		{Index: 1, Name: "docker0", Kind: nl.KindBridge}, {Index: 2, Name: "veth1", Kind: nl.KindVeth, Master: 1},
		{Index: 3, Name: "virbr0", Kind: nl.KindBridge}, {Index: 4, Name: "vnet0", Kind: nl.KindTUN, Master: 3}, {Index: 5, Name: "virbr0-nic", Kind: nl.KindDummy, Master: 3},
		{Index: 6, Name: "br0", Kind: nl.KindBridge}, {Index: 7, Name: "eth0", Kind: physical, Master: 6}, {Index: 8, Name: "vnet1", Kind: nl.KindTUN, Master: 6},
		{Index: 9, Name: "br1", Kind: nl.KindBridge}, {Index: 10, Name: "bond0.7", Kind: "vlan", Master: 9},
		{Index: 11, Name: "empty", Kind: nl.KindBridge}, {Index: 12, Name: "eth1", Kind: physical},
	}
	got := innerBridges(links)
	for _, l := range links {
		if want := l.Name == "docker0" || l.Name == "virbr0" || l.Name == "empty"; got[l.Name] != want {
			t.Errorf("%s: inner %v", l.Name, got[l.Name])
		}
	}
}
