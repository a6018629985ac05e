package daemon

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/weft-net/weft/encap"
	"github.com/weft-net/weft/mesh"
)

func TestWhereAPeersTunnelIsLookedFor(t *testing.T) {
	inside, other, six := netip.MustParseAddr("192.168.1.2"), netip.MustParseAddr("198.51.100.2"), netip.MustParseAddr("2001:db8::2")
	nat, ours := netip.MustParseAddrPort("203.0.113.1:4711"), netip.MustParseAddrPort("203.0.113.7:6785")
	mine := []netip.Addr{netip.MustParseAddr("192.0.2.1")}
	at := func(a netip.Addr) netip.AddrPort { return netip.AddrPortFrom(a, 6785) }
	seenAt := func(a netip.AddrPort) []mesh.Seen { return []mesh.Seen{{Port: 6785, At: a}, {Port: 6788, At: ours}} }
	for name, tc := range map[string]struct {
		record   mesh.Body
		link     netip.Addr
		own      []mesh.Seen
		mine     []netip.Addr
		connects bool
		want     []netip.AddrPort
	}{
		"where it says":                        {mesh.Body{Underlay: []netip.Addr{inside}}, inside, nil, mine, true, []netip.AddrPort{at(inside)}},
		"the link's address first":             {mesh.Body{Underlay: []netip.Addr{inside, other}}, other, nil, mine, true, []netip.AddrPort{at(other), at(inside)}},
		"of this host's families":              {mesh.Body{Underlay: []netip.Addr{inside, six}}, inside, nil, mine, true, []netip.AddrPort{at(inside)}},
		"behind NAT where it is seen first":    {mesh.Body{Underlay: []netip.Addr{inside}, Confined: true, Seen: seenAt(nat)}, inside, nil, mine, false, []netip.AddrPort{nat, at(inside)}},
		"a neighbour behind the same NAT":      {mesh.Body{Underlay: []netip.Addr{inside}, Confined: true, Seen: seenAt(nat)}, inside, []mesh.Seen{{Port: 6785, At: netip.AddrPortFrom(nat.Addr(), 9)}}, mine, false, []netip.AddrPort{at(inside), nat}},
		"one that gossip gets to all the same": {mesh.Body{Underlay: []netip.Addr{inside}, Confined: true, Seen: seenAt(nat)}, inside, nil, mine, true, []netip.AddrPort{at(inside), nat}},
		"seen where this host is":              {mesh.Body{Underlay: []netip.Addr{inside}, Confined: true, Seen: seenAt(netip.AddrPortFrom(mine[0], 9))}, inside, nil, mine, false, []netip.AddrPort{at(inside)}},
		"at the same address as this host":     {mesh.Body{Underlay: []netip.Addr{inside}, Confined: true, Seen: seenAt(nat)}, nat.Addr(), nil, []netip.Addr{inside}, false, []netip.AddrPort{nat}},
	} {
		p := tunnelPeer{Peer: encap.Peer{Underlay: tc.link}, record: tc.record}
		if tc.connects {
			p.direct = tc.link
		}
		if got := endpoints(p, tc.own, tc.mine, 6785); !slices.Equal(got, tc.want) {
			t.Errorf("%s: %v; want %v", name, got, tc.want)
		}
	}
}

func TestWhatAPeerNamesIsNotInTheNetworkItself(t *testing.T) {
	d := &Daemon{settings: settings{Range: netip.MustParsePrefix("10.32.0.0/12")}}
	for addr, want := range map[string]bool{
		"192.0.2.1": true, "2001:db8::1": true, "10.33.0.1": false, "127.0.0.1": false, "255.255.255.255": false, "224.0.0.1": false, "0.0.0.0": false,
		"::1": false, "fe80::1": false, "::ffff:10.33.0.1": false, "2001:db8::1%eth0": false, d.ipv6().Addr(netip.MustParseAddr("10.33.0.1")).String(): false,
	} {
		if got := d.mayBeOutside(netip.MustParseAddr(addr)); got != want {
			t.Errorf("%s: %v; want %v", addr, got, want)
		}
	}
}

func TestOnlyWhoWasAskedIsBelievedAndNotForLong(t *testing.T) {
	now := time.Now()
	d := &Daemon{now: func() time.Time { return now }, opts: Options{HostOptions: HostOptions{Bridge: "weft"}}}
	s := &seen{d: d, said: map[uuid.UUID]sighting{}}
	a, b := uuid.New(), uuid.New()
	at := mesh.Seen{Port: 6785, At: netip.MustParseAddrPort("203.0.113.1:4711")}
	own := []netip.Addr{netip.MustParseAddr("192.168.1.2")}
	say := func(who uuid.UUID, seen ...mesh.Seen) { s.Receive(who, encode(seenMessage{Answer: true, Seen: seen})) }
	if got := s.due([]uuid.UUID{a}, now); !slices.Equal(got, []uuid.UUID{a}) {
		t.Fatalf("asked %v", got)
	}
	say(b, at)
	if got := s.list(own, now); got != nil {
		t.Errorf("one who was not asked is believed: %v", got)
	}
	say(a)
	if got := s.due([]uuid.UUID{a}, now); got != nil {
		t.Errorf("one who knew nothing is asked without a pause: %v", got)
	}
	now = now.Add(seenSoon)
	if got := s.due([]uuid.UUID{a}, now); !slices.Equal(got, []uuid.UUID{a}) {
		t.Errorf("one who knew nothing is not asked again: %v", got)
	}
	say(a, at, mesh.Seen{Port: 6788, At: netip.AddrPortFrom(own[0], 6788)})
	if got := s.list(own, now); !slices.Equal(got, []mesh.Seen{at}) {
		t.Errorf("seen at %v", got)
	}
	if got := s.due([]uuid.UUID{a}, now); got != nil {
		t.Errorf("asked too soon: %v", got)
	}
	if got := s.list(own, now.Add(seenStale)); got != nil {
		t.Errorf("what is old is believed: %v", got)
	}
	s.due([]uuid.UUID{b}, now)
	if got := s.list(own, now); got != nil {
		t.Errorf("who is no teller any more is believed: %v", got)
	}
}

func TestAnAddressThatIsStillThereIsKept(t *testing.T) {
	old, other, six := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.9"), netip.MustParseAddr("2001:db8::1")
	here := func(list ...netip.Addr) map[netip.Addr]string {
		out := map[netip.Addr]string{}
		for _, a := range list {
			out[a] = "eth0"
		}
		return out
	}
	for name, tc := range map[string]struct {
		was   []netip.Addr
		local map[netip.Addr]string
		found []netip.Addr
		want  []netip.Addr
	}{
		"nothing changes":      {[]netip.Addr{old}, here(old), []netip.Addr{old}, []netip.Addr{old}},
		"another route":        {[]netip.Addr{old}, here(old, other), []netip.Addr{other}, []netip.Addr{old}},
		"it is gone":           {[]netip.Addr{old}, here(other), []netip.Addr{other}, []netip.Addr{other}},
		"another family comes": {[]netip.Addr{old}, here(old, six), []netip.Addr{old, six}, []netip.Addr{old, six}},
		"a route is lost":      {[]netip.Addr{old, six}, here(old, other, six), []netip.Addr{six}, []netip.Addr{old, six}},
		"IPv4 comes later":     {[]netip.Addr{six}, here(old, six), []netip.Addr{old, six}, []netip.Addr{old, six}},
		"a family goes":        {[]netip.Addr{old, six}, here(six), []netip.Addr{six}, []netip.Addr{six}},
		"nothing is found":     {[]netip.Addr{old}, here(), nil, nil},
	} {
		if got := keepOrder(tc.was, tc.local, tc.found, func(netip.Addr, netip.Addr) bool { return false }); !slices.Equal(got, tc.want) {
			t.Errorf("%s: %v; want %v", name, got, tc.want)
		}
	}
}

func TestWhoDoesNotAnswerMakesWayForAnother(t *testing.T) {
	now := time.Now()
	d := &Daemon{now: func() time.Time { return now }, opts: Options{HostOptions: HostOptions{Bridge: "weft"}}}
	s := &seen{d: d, said: map[uuid.UUID]sighting{}}
	var all []uuid.UUID
	for range seenTellers + 2 {
		all = append(all, uuid.New())
	}
	ask := func() []uuid.UUID { return s.due(slices.Clone(all), now) }
	if got := ask(); !slices.Equal(got, all[:seenTellers]) {
		t.Fatalf("asked %v", got)
	}
	at := mesh.Seen{Port: 6785, At: netip.MustParseAddrPort("203.0.113.1:4711")}
	s.Receive(all[0], encode(seenMessage{Answer: true, Seen: []mesh.Seen{at}}))
	now = now.Add(seenAgain)
	if got := ask(); !slices.Equal(got, []uuid.UUID{all[0], all[seenTellers], all[seenTellers+1]}) {
		t.Errorf("asked %v of %v", got, all)
	}
	if got := ask(); got != nil {
		t.Errorf("asked too soon: %v", got)
	}
	now = now.Add(seenAgain)
	if got := ask(); len(got) != seenTellers {
		t.Errorf("where nobody answers %d are asked", len(got))
	}
}

func TestWhoDidNotHearThisHostAndIsSilentThenMakesWay(t *testing.T) {
	now := time.Now()
	d := &Daemon{now: func() time.Time { return now }, opts: Options{HostOptions: HostOptions{Bridge: "weft"}}}
	s := &seen{d: d, said: map[uuid.UUID]sighting{}}
	var all []uuid.UUID
	for range seenTellers + 1 {
		all = append(all, uuid.New())
	}
	ask := func() []uuid.UUID { return s.due(slices.Clone(all), now) }
	ask()
	for _, id := range all[:seenTellers] {
		s.Receive(id, encode(seenMessage{Answer: true}))
	}
	now = now.Add(seenSoon)
	if got := ask(); !slices.Equal(got, all[:seenTellers]) {
		t.Fatalf("asked again: %v of %v", got, all)
	}
	now = now.Add(seenSoon)
	if got := ask(); got != nil {
		t.Errorf("those that have not answered are asked again: %v", got)
	}
	now = now.Add(seenAgain)
	if got := ask(); !slices.Contains(got, all[seenTellers]) {
		t.Errorf("asked %v of %v", got, all)
	}
}
