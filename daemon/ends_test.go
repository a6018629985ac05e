package daemon

import (
	"net/netip"
	"slices"
	"testing"
)

func TestAPeerWhoseDaemonStopsKeepsItsEnds(t *testing.T) {
	own := []netip.Addr{netip.MustParseAddr("192.0.2.1")}
	first, second := netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("198.51.100.2")
	for name, tc := range map[string]struct {
		now, before netip.Addr
		says        []netip.Addr
		want        netip.Addr // of the peer's end
		direct      bool
	}{
		"gossip gets to its second address": {second, netip.Addr{}, []netip.Addr{first, second}, second, true},
		"and then to no address":            {netip.Addr{}, second, []netip.Addr{first, second}, second, true},
		"and then to the first":             {first, second, []netip.Addr{first, second}, first, true},
		"it never got to any":               {netip.Addr{}, netip.Addr{}, []netip.Addr{first, second}, first, false},
		"it says that it is elsewhere":      {netip.Addr{}, second, []netip.Addr{first}, first, false},
	} {
		direct := lastDirect(tc.now, tc.before, tc.says)
		if direct.IsValid() != tc.direct {
			t.Errorf("%s: direct %v", name, direct)
		}
		if got := common(own, tc.says, direct); !slices.Equal(got, []ends{{own[0], tc.want}}) {
			t.Errorf("%s: %v; want %v", name, got, tc.want)
		}
	}
}
