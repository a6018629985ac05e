package daemon

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/weft-net/weft/encap"
	"github.com/weft-net/weft/encap/probe"
	"github.com/weft-net/weft/mesh"
)

func TestPolicyForbidsWhatNATAndFamiliesOnlyHinder(t *testing.T) {
	four, six := netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("2001:db8::2")
	trusted := []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
	both, clear := []string{encap.TransportWireGuard, encap.TransportVXLAN}, []string{encap.TransportVXLAN}
	for name, tc := range map[string]struct {
		mode      encap.Mode
		theirs    netip.Addr
		trusts    []netip.Prefix
		can       []string
		walled    bool
		forbidden bool
	}{
		"it must be encrypted, and is":              {encap.ModeAuto, four, nil, both, false, false},
		"and cannot be":                             {encap.ModeAuto, four, nil, clear, false, true},
		"and cannot be, nor get through NAT":        {encap.ModeAuto, four, nil, clear, true, true},
		"and cannot be, nor has a family in common": {encap.ModeAuto, six, nil, clear, false, true},
		"it need not be":                            {encap.ModeAuto, four, trusted, clear, false, false},
		"it need not be, and NAT is between":        {encap.ModeAuto, four, trusted, clear, true, false},
		"it is in the clear, and NAT is between":    {encap.ModeVXLAN, four, nil, clear, true, false},
		"it is, and no family is in common":         {encap.ModeVXLAN, six, nil, clear, false, false},
		"no family is in common":                    {encap.ModeAuto, six, nil, both, false, false},
	} {
		d := &Daemon{opts: Options{HostOptions: HostOptions{Trusted: trusted}}, can: both, settings: settings{Encap: string(tc.mode)}}
		own := []netip.Addr{netip.MustParseAddr("192.0.2.1")}
		d.underlay.Store(&own)
		p := tunnelPeer{Peer: encap.Peer{Underlay: tc.theirs}, ends: common(own, []netip.Addr{tc.theirs}, netip.Addr{}), walled: tc.walled}
		p.end = encap.End{Name: "peer", Underlay: tc.theirs, Trusts: tc.trusts, Can: tc.can}
		if _, _, forbidden, err := d.judge(p, nil); err != nil || forbidden != tc.forbidden {
			t.Errorf("%s: forbidden %v, %v", name, forbidden, err)
		}
	}
}

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

func TestAnEarlierProcessHasShownThatAPeerIsReached(t *testing.T) {
	d := &Daemon{opts: Options{HostOptions: HostOptions{Bridge: "weft"}}}
	own, there := []netip.Addr{netip.MustParseAddr("192.168.1.2")}, netip.MustParseAddr("192.168.1.3")
	d.underlay.Store(&own)
	for device, want := range map[string]netip.Addr{"weft-vx": there, "eth0": there, "weft-wg": {}, "weft-w1": {}, "": {}} {
		if got := d.wasDirect(mesh.Body{Underlay: []netip.Addr{there}, Confined: true}, device); got != want {
			t.Errorf("by %q: %v; want %v", device, got, want)
		}
	}
}

func TestPatienceIsForWhoHasAnsweredAndDoesNotAnyMore(t *testing.T) {
	for _, tc := range []struct {
		quality probe.Quality
		alive   bool
		want    time.Duration
	}{
		{probe.Quality{}, true, 0},
		{probe.Quality{Sent: 100}, true, 0},
		{probe.Quality{Sent: 100, RTT: 1, Works: true}, true, 0},
		{probe.Quality{Sent: 100, RTT: 1}, true, patienceWithAlive},
		{probe.Quality{Sent: 100, RTT: 1}, false, patienceWithFailed},
	} {
		if got := patience(tc.quality, tc.alive); got != tc.want {
			t.Errorf("%+v, alive %v: %s", tc.quality, tc.alive, got)
		}
	}
}
