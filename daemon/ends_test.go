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

func TestBothEndsOfALinkBetweenSeveralNetworksAgreeOnTunnelsInTheClear(t *testing.T) {
	list := func(names ...string) (out []netip.Addr) {
		for _, n := range names {
			out = append(out, netip.MustParseAddr(n))
		}
		return out
	}
	const first, second, there = "10.1.0.1", "10.2.0.1", "10.2.0.2"
	for name, tc := range map[string]struct {
		own     []netip.Addr // of the host on two networks
		trusted []string
		reached string // of its addresses, by the other
		want    bool
	}{
		"its second network alone is trusted":       {list(first, second), []string{"10.2.0.0/24"}, second, false},
		"both are":                                  {list(first, second), []string{"10.1.0.0/24", "10.2.0.0/24"}, second, true},
		"its first network alone is, and is theirs": {list(second, first), []string{"10.2.0.0/24"}, second, true},
		"neither is":                                {list(first, second), nil, second, false},
	} {
		var trusts []netip.Prefix
		for _, p := range tc.trusted {
			trusts = append(trusts, netip.MustParsePrefix(p))
		}
		says := func(own, theirs []netip.Addr, reached string) bool {
			e := common(own, theirs, netip.MustParseAddr(reached))[0]
			p := tunnelPeer{end: encap.End{Trusts: trusts}, tunnelsAt: theirs}
			return p.mistrusted(encap.End{Underlay: e.own, Trusts: trusts}, e) == ""
		}
		here, far := says(tc.own, list(there), there), says(list(there), tc.own, tc.reached)
		if here != tc.want || far != tc.want {
			t.Errorf("%s: the one says %v, the other %v, want %v", name, here, far, tc.want)
		}
	}
}

func TestTheOwnEndIsWhereTheRouteToTheOtherLeads(t *testing.T) {
	first, same, second, theirs := netip.MustParseAddr("10.1.0.1"), netip.MustParseAddr("10.1.0.9"), netip.MustParseAddr("10.2.0.1"), netip.MustParseAddr("10.2.0.2")
	u := underlay{first: {Index: 2, Name: "eth0"}, same: {Index: 2, Name: "eth0"}, second: {Index: 3, Name: "eth1"}}
	own := []netip.Addr{first, same, second}
	for device, want := range map[int]netip.Addr{2: first, 3: second, 4: first} {
		if got := (ends{first, theirs}).from(own, u, device); got != (ends{want, theirs}) {
			t.Errorf("by device %d: %v, want %s", device, got, want)
		}
	}
	d := &Daemon{}
	d.underlay.Store(&own)
	var devices []string
	for _, i := range d.instances(nil, encap.TransportDirect, u) {
		devices = append(devices, i.Device)
	}
	if want := []string{"eth0", "eth1"}; !slices.Equal(devices, want) {
		t.Errorf("direct by %v, want %v", devices, want)
	}
}

func TestDirectLinksTakeWhatTheDevicesOfTheirOwnEndsDo(t *testing.T) {
	first, second, theirs := netip.MustParseAddr("10.1.0.1"), netip.MustParseAddr("10.2.0.1"), netip.MustParseAddr("10.2.0.2")
	there := underlay{first: {Name: "eth0", MTU: 1500}, second: {Name: "eth1", MTU: 9000}}
	says := mesh.Body{Underlay: []netip.Addr{first, second}}
	says.UnderlayMTU, says.MTUs = there.mtus(first, says.Underlay)
	old := says
	old.MTUs = nil
	u, d := underlay{theirs: {Name: "eth0", MTU: 9000}}, &Daemon{}
	for name, tc := range map[string]struct {
		says      mesh.Body
		transport string
		at        netip.Addr
		want      int
	}{
		"on its second network":          {says, encap.TransportDirect, second, 9000},
		"on its first":                   {says, encap.TransportDirect, first, 1500},
		"by a tunnel":                    {says, encap.TransportVXLAN, second, 1450},
		"it speaks of its first alone":   {old, encap.TransportDirect, second, 1500},
		"others see it at one not named": {says, encap.TransportDirect, netip.MustParseAddr("203.0.113.1"), 1500},
	} {
		if got := d.most(tunnelPeer{record: tc.says}, encap.Instance{Transport: tc.transport}, ends{theirs, tc.at}, u); got != tc.want {
			t.Errorf("%s: %d, want %d", name, got, tc.want)
		}
	}
	if mtu, all := there.mtus(second, []netip.Addr{second, netip.MustParseAddr("203.0.113.1")}); mtu != 9000 || all != nil {
		t.Errorf("one device and a router: %d, %v", mtu, all)
	}
}
