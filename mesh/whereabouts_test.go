package mesh

import (
	"net/netip"
	"testing"
)

func TestPeersAreReachedByAFamilyThatThisHostHas(t *testing.T) {
	four, six := netip.MustParseAddrPort("192.0.2.1:6783"), netip.MustParseAddrPort("[2001:db8::1]:6783")
	both := []netip.AddrPort{four, six}
	for name, tc := range map[string]struct {
		own   []netip.AddrPort
		known netip.AddrPort
		said  []netip.AddrPort
		want  netip.AddrPort // the zero value: as it is known
	}{
		"one family":                 {both[:1], four, both, netip.AddrPort{}},
		"both families":              {both, six, both, netip.AddrPort{}},
		"the peer has the other too": {both[1:], four, both, six},
		"nothing in common":          {both[1:], four, both[:1], netip.AddrPort{}},
		"nothing is said yet":        {nil, four, both, netip.AddrPort{}},
	} {
		if got, ok := reachable(tc.own, tc.known, tc.said); got != tc.want || ok != tc.want.IsValid() {
			t.Errorf("%s: %v, %v; want %v", name, got, ok, tc.want)
		}
	}
}
