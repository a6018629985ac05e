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
		"it is where it says":                       {search{list: list(inside), at: 0, since: stale}, inside, stale, list(inside), none},
		"it is heard of elsewhere":                  {search{list: list(inside), at: 0, since: stale}, elsewhere, fresh, list(inside), none},
		"a new daemon finds it so":                  {search{}, elsewhere, fresh, list(inside), none},
		"a new daemon finds where it was":           {search{}, elsewhere, stale, list(inside), inside},
		"it is not heard of elsewhere any more":     {search{list: list(inside), at: 0, since: stale}, elsewhere, stale, list(inside), inside},
		"it has moved":                              {search{list: list(inside), at: 0, since: stale}, inside, fresh, list(moved), moved},
		"it has moved, and the device has followed": {search{list: list(inside), at: 0, since: stale}, moved, fresh, list(moved), none},
		"others have seen it there":                 {search{list: list(inside), at: 0, since: stale}, seen, fresh, list(seen, inside), none},
		"others have seen it elsewhere":             {search{list: list(inside), at: 0, since: now}, inside, stale, list(seen, inside), seen},
		"it is not there for long":                  {search{list: list(inside, seen), at: 0, since: now.Add(-searchTime)}, inside, stale, list(inside, seen), seen},
		"nor in the last place":                     {search{list: list(inside, seen), at: 1, since: now.Add(-searchTime)}, seen, stale, list(inside, seen), inside},
		"it is given time":                          {search{list: list(inside, seen), at: 0, since: now.Add(-time.Second)}, inside, stale, list(inside, seen), none},
		"it is found in the second place":           {search{list: list(inside, seen), at: 1, since: stale}, seen, fresh, list(inside, seen), none},
		"gossip gets to another address":            {search{list: list(inside, moved), at: 0, since: stale}, inside, fresh, list(moved, inside), moved},
	} {
		peer := wgtypes.Peer{LastHandshakeTime: tc.heard}
		if tc.at.IsValid() {
			peer.Endpoint = net.UDPAddrFromAddrPort(tc.at)
		}
		s, set := tc.before.next(peer, tc.list, 0, now)
		if set != tc.want.IsValid() || set && s.place() != tc.want {
			t.Errorf("%s: %v, %v", name, s, set)
		}
		if again, set := s.next(wgtypes.Peer{Endpoint: net.UDPAddrFromAddrPort(s.place()), LastHandshakeTime: stale}, tc.list, 0, now); set && tc.want.IsValid() {
			t.Errorf("%s: once more: %v", name, again)
		}
	}
}

// found is a peer that is looked for in virtual time, each second: it sends from where it
// is heard, if anywhere, and is reached there alone. Its session lasts.
type found struct {
	search
	set   netip.AddrPort // by the device
	bytes int64
	now   time.Time
}

func (f *found) look(list []netip.AddrPort, patience time.Duration, heard netip.AddrPort) netip.AddrPort {
	f.now = f.now.Add(time.Second)
	if heard.IsValid() {
		f.bytes++
		f.set = heard
	}
	peer := wgtypes.Peer{Endpoint: net.UDPAddrFromAddrPort(f.set), LastHandshakeTime: f.now.Add(-time.Minute), ReceiveBytes: f.bytes}
	next, set := f.next(peer, list, patience, f.now)
	if f.search = next; set {
		f.set = f.place()
	}
	return f.set
}

func TestAPeerThatFallsSilentIsLookedForElsewhere(t *testing.T) {
	four, six, nat := netip.MustParseAddrPort("192.0.2.2:6785"), netip.MustParseAddrPort("[2001:db8::2]:6785"), netip.MustParseAddrPort("203.0.113.1:4711")
	both, none := []netip.AddrPort{four, six}, netip.AddrPort{}
	f := found{set: four, now: time.Unix(1_000_000, 0)}
	after := func(what string, seconds int, patience time.Duration, heard, want netip.AddrPort) {
		t.Helper()
		for range seconds {
			f.look(both, patience, heard)
		}
		if f.set != want {
			t.Errorf("%s: it is looked for at %v; want %v", what, f.set, want)
		}
	}
	after("it is heard", 100, 0, four, four)
	after("it is silent, and its probes are answered", 100, 0, none, four)
	after("its probes are not, and it is heard", 100, time.Second, four, four)
	after("it is not heard", 1, time.Second, none, six)
	after("it is heard in the other place", 1, time.Second, six, six)
	after("it answers there", 500, 0, six, six)
	after("it is silent for less than that", 14, 15*time.Second, none, six)
	after("and longer", 1, 15*time.Second, none, four)
	after("it is not there either", 5, 15*time.Second, none, six)
	after("it is found nowhere, and waited for where it was heard last", 100, 15*time.Second, none, six)
	after("it comes back", 10, 0, six, six)

	after("it is heard behind NAT", 10, 0, nat, nat)
	after("it is silent", 1, time.Second, none, four)
	after("it sends again from there", 1, time.Second, nat, nat)
	after("it is silent again", 1, time.Second, none, four)
	seen := map[netip.AddrPort]bool{}
	for range 14 {
		seen[f.look(both, time.Second, none)] = true
	}
	if !seen[nat] || !seen[four] || !seen[six] {
		t.Errorf("it is looked for at %v alone", seen)
	}
	after("it is found nowhere", 100, time.Second, none, nat)
}

func TestAPeerThatIsHeardStaysWhereItIsWhenTheClockIsSet(t *testing.T) {
	elsewhere, list := netip.MustParseAddrPort("203.0.113.1:4711"), []netip.AddrPort{netip.MustParseAddrPort("192.0.2.2:6785"), netip.MustParseAddrPort("192.0.2.3:6785")}
	f := found{set: elsewhere, now: time.Unix(1_000_000, 0)}
	f.look(list, 0, elsewhere)
	for i := range 120 {
		f.now = f.now.Add(time.Second)
		f.bytes++
		peer := wgtypes.Peer{Endpoint: net.UDPAddrFromAddrPort(elsewhere), LastHandshakeTime: f.now.Add(-time.Hour), ReceiveBytes: f.bytes}
		if next, set := f.next(peer, list, 0, f.now); set {
			t.Fatalf("after %d s it is looked for at %v", i, next.place())
		} else {
			f.search = next
		}
	}
}
