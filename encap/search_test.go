package encap

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"
)

func TestAPeerIsLookedForWhereItMayBe(t *testing.T) {
	now := time.Now()
	inside, seen, moved := netip.MustParseAddrPort("10.1.0.2:6785"), netip.MustParseAddrPort("203.0.113.1:4711"), netip.MustParseAddrPort("192.0.2.9:6785")
	elsewhere, none := netip.MustParseAddrPort("203.0.113.7:99"), netip.AddrPort{}
	list := func(a ...netip.AddrPort) []netip.AddrPort { return a }
	fresh, stale := now.Add(-time.Minute), now.Add(-time.Hour)
	for name, tc := range map[string]struct {
		before search
		at     netip.AddrPort
		heard  time.Time
		list   []netip.AddrPort
		want   netip.AddrPort // that is set; the zero value for none
	}{
		"nothing is known":                          {search{}, none, time.Time{}, list(inside), inside},
		"it is where it says":                       {search{list(inside), 0, stale}, inside, stale, list(inside), none},
		"it is heard of elsewhere":                  {search{list(inside), 0, stale}, elsewhere, fresh, list(inside), none},
		"a new daemon finds it so":                  {search{}, elsewhere, fresh, list(inside), none},
		"a new daemon finds where it was":           {search{}, elsewhere, stale, list(inside), inside},
		"it is not heard of elsewhere any more":     {search{list(inside), 0, stale}, elsewhere, stale, list(inside), inside},
		"it has moved":                              {search{list(inside), 0, stale}, inside, fresh, list(moved), moved},
		"it has moved, and the device has followed": {search{list(inside), 0, stale}, moved, fresh, list(moved), none},
		"others have seen it there":                 {search{list(inside), 0, stale}, seen, fresh, list(seen, inside), none},
		"others have seen it elsewhere":             {search{list(inside), 0, now}, inside, stale, list(seen, inside), seen},
		"it is not there for long":                  {search{list(inside, seen), 0, now.Add(-searchTime)}, inside, stale, list(inside, seen), seen},
		"nor in the last place":                     {search{list(inside, seen), 1, now.Add(-searchTime)}, seen, stale, list(inside, seen), inside},
		"it is given time":                          {search{list(inside, seen), 0, now.Add(-time.Second)}, inside, stale, list(inside, seen), none},
		"it is found in the second place":           {search{list(inside, seen), 1, stale}, seen, fresh, list(inside, seen), none},
		"gossip gets to another address":            {search{list(inside, moved), 0, stale}, inside, fresh, list(moved, inside), moved},
	} {
		peer := wgtypes.Peer{LastHandshakeTime: tc.heard}
		if tc.at.IsValid() {
			peer.Endpoint = net.UDPAddrFromAddrPort(tc.at)
		}
		s, set := tc.before.next(peer, tc.list, now)
		if set != tc.want.IsValid() || set && s.list[s.at] != tc.want {
			t.Errorf("%s: %v, %v", name, s, set)
		}
		if again, set := s.next(wgtypes.Peer{Endpoint: net.UDPAddrFromAddrPort(s.list[s.at]), LastHandshakeTime: stale}, tc.list, now); set && tc.want.IsValid() {
			t.Errorf("%s: once more: %v", name, again)
		}
	}
}
