package daemon

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/weft-net/weft/internal/nl"
)

func TestPlaintextDoesNotLeaveByAnotherNetworkThanIsTrusted(t *testing.T) {
	own, theirs := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	trusted := []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("10.9.0.0/16")}
	dev := func(index int, name string, up bool, addrs ...string) exit {
		w := exit{Link: nl.Link{Index: index, Name: name, Up: up}}
		for _, a := range addrs {
			w.addrs = append(w.addrs, netip.MustParsePrefix(a))
		}
		return w
	}
	eth0, lo := dev(2, "eth0", true, "192.0.2.1/24"), dev(1, "lo", true, "127.0.0.1/8", "192.0.2.1/32")
	foreign, mixed := dev(3, "eth1", true, "203.0.113.1/24"), dev(4, "eth2", true, "203.0.113.1/24", "10.9.0.1/16")
	unnumbered, unnumbered2 := dev(5, "eth3", true, "fe80::1/64"), dev(6, "eth4", true)
	for name, tc := range map[string]struct {
		home exit
		by   []exit
		want string
	}{
		"the route is by its device":                {eth0, []exit{eth0}, ""},
		"there is no route":                         {eth0, nil, ""},
		"the route is by a foreign network":         {eth0, []exit{foreign}, "eth1"},
		"some packets take a foreign network":       {eth0, []exit{eth0, foreign}, "eth1"},
		"the route is by another trusted network":   {eth0, []exit{mixed}, ""},
		"its device is down":                        {dev(2, "eth0", false, "192.0.2.1/24"), []exit{unnumbered}, "eth0"},
		"it is on lo, and uplinks are not numbered": {lo, []exit{unnumbered, unnumbered2}, ""},
		"it is on lo, and an uplink is foreign":     {lo, []exit{unnumbered, foreign}, "eth1"},
		"it is on lo, and an uplink is trusted":     {lo, []exit{mixed}, ""},
	} {
		if got := astray(own, theirs, tc.home.Link, tc.by, trusted); (got == "") != (tc.want == "") || !strings.Contains(got, tc.want) {
			t.Errorf("%s: %q, want %q", name, got, tc.want)
		}
	}
}

func TestUntrustedDevicesAreThoseWithForeignAddressesAlone(t *testing.T) {
	local := map[netip.Addr]string{
		netip.MustParseAddr("192.0.2.1"): "eth0", netip.MustParseAddr("2001:db8::1"): "eth0",
		netip.MustParseAddr("203.0.113.1"): "eth1", netip.MustParseAddr("172.17.0.1"): "docker0", netip.MustParseAddr("10.8.0.2"): "tun0",
	}
	got := untrustedDevices(local, map[string]bool{"docker0": true}, []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")})
	if want := []string{"eth1", "tun0"}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}
