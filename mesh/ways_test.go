package mesh

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

func TestWaysToAPeerInOrder(t *testing.T) {
	four, other, six := netip.MustParseAddrPort("192.0.2.1:6783"), netip.MustParseAddrPort("198.51.100.1:6783"), netip.MustParseAddrPort("[2001:db8::1]:6783")
	mine, mine6 := netip.MustParseAddrPort("192.0.2.9:6783"), netip.MustParseAddrPort("[2001:db8::9]:6783")
	gateway, theirs := netip.MustParseAddr("10.32.0.1"), netip.MustParseAddr("10.44.0.1")
	direct := func(list ...netip.AddrPort) (out []path) {
		for _, a := range list {
			out = append(out, path{WayDirect, a.String()})
		}
		return out
	}
	list := func(a ...netip.AddrPort) []netip.AddrPort { return a }
	for name, tc := range map[string]struct {
		own, peer Body
		known     netip.AddrPort
		line      bool
		want      []path
	}{
		"nothing is said yet":                 {Body{}, Body{}, four, false, direct(four)},
		"as it says, and as it was known":     {Body{Gossip: list(mine)}, Body{Gossip: list(other)}, four, false, direct(other, four)},
		"several addresses":                   {Body{Gossip: list(mine)}, Body{Gossip: list(four, other)}, four, false, direct(four, other)},
		"of a family that this host has":      {Body{Gossip: list(mine6)}, Body{Gossip: list(four, six)}, four, false, direct(six)},
		"no family in common":                 {Body{Gossip: list(mine6)}, Body{Gossip: list(four)}, four, false, direct(four)},
		"by a line":                           {Body{Gossip: list(mine)}, Body{Gossip: list(four)}, four, true, append(direct(four), path{WayLine, ""})},
		"in the overlay":                      {Body{Gossip: list(mine), Gateway: gateway}, Body{Gossip: list(four), Gateway: theirs}, four, false, append(direct(four), path{WayOverlay, "10.44.0.1:6783"})},
		"this host has no part in it":         {Body{Gossip: list(mine)}, Body{Gossip: list(four), Gateway: theirs}, four, false, direct(four)},
		"its address is this host's own, too": {Body{Gossip: list(mine), Gateway: gateway}, Body{Gossip: list(mine), Gateway: theirs}, mine, false, []path{{WayOverlay, "10.44.0.1:6783"}}},
	} {
		if got := pathsTo(tc.own, tc.peer, tc.known.String(), tc.line); !slices.Equal(got, tc.want) {
			t.Errorf("%s: %v; want %v", name, got, tc.want)
		}
	}
}

func TestPacketsFollowTheStreams(t *testing.T) {
	direct, line, over := path{WayDirect, "a"}, path{WayLine, ""}, path{WayOverlay, "b"}
	all := []path{direct, line, over}
	for name, tc := range map[string]struct {
		paths    []path
		last     path
		known    bool
		confined bool
		want     []path
	}{
		"nothing is known":                 {all, path{}, false, false, []path{direct}},
		"a stream got through the tunnels": {all, over, true, false, []path{direct, over}},
		"through the tunnels, behind NAT":  {all, over, true, true, []path{over}},
		"nothing but the tunnels":          {all[2:], over, true, false, []path{over}},
		"by a way that is no more":         {all[:1], over, true, false, []path{direct}},
		"it cannot be connected to":        {all, path{}, false, true, []path{line}},
		"it can, as a stream found":        {all, direct, true, true, []path{direct}},
		"it cannot, and there is no other": {all[:1], path{}, false, true, []path{direct}},
	} {
		if got := packetPaths(route{paths: tc.paths, confined: tc.confined}, tc.last, tc.known); !slices.Equal(got, tc.want) {
			t.Errorf("%s: %v; want %v", name, got, tc.want)
		}
	}
}

func TestTheFirstPathThatWorksWinsAndTheRestIsClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		paths := []path{{WayDirect, "silent"}, {WayDirect, "fails"}, {WayOverlay, "slow"}, {WayOverlay, "never tried"}}
		closed := 0
		began := time.Now()
		_, by, err := race(t.Context(), paths, func(ctx context.Context, p path) (net.Conn, error) {
			switch p.addr {
			case "silent":
				<-ctx.Done()
				return &closing{n: &closed}, nil // it got through in the last moment
			case "fails":
				return nil, errors.New("refused")
			case "slow":
				time.Sleep(raceStep / 2)
				return &closing{n: &closed}, nil
			}
			t.Errorf("%s is tried", p.addr)
			return nil, errors.New("unexpected")
		})
		if err != nil || by != paths[2] || closed != 1 {
			t.Errorf("%v, %v, %d closed", by, err, closed)
		}
		// What fails makes room for the next at once.
		if took := time.Since(began); took != raceStep+raceStep/2 {
			t.Errorf("it took %s", took)
		}
	})
}

func TestARaceThatNobodyWinsNamesAllReasons(t *testing.T) {
	_, _, err := race(t.Context(), []path{{WayDirect, "a"}, {WayDirect, "b"}}, func(_ context.Context, p path) (net.Conn, error) {
		return nil, errors.New("no " + p.addr)
	})
	if err == nil || err.Error() != "no a\nno b" {
		t.Errorf("%v", err)
	}
}

// closing counts how often it is closed.
type closing struct {
	net.Conn
	n *int
}

func (c *closing) Close() error {
	*c.n++
	return nil
}

// Before the records are known a peer's address may be this host's own, behind
// another NAT, where this host answers itself.
func TestAWayThatWasNoneIsNotKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		peers := meshIn(t, newNetwork(t, 2), 2)
		one, two := peers[0], peers[1]
		one.reached.set(two.id().String(), path{WayDirect, one.Advertise().String()}, false)
		if way, at, ok := one.Reached(two.id()); ok {
			t.Errorf("it is reached by %q at %v", way, at)
		}
		one.Send(two.id(), "board", []byte("psst"))
		eventually(t, 10*time.Second, "a stream shows the way", func() bool {
			way, at, ok := one.Reached(two.id())
			return ok && way == WayDirect && at == two.Advertise()
		})
	})
}

func TestWhoSaysSeveralAddressesMayBeSomebodyElseAtOneOfThem(t *testing.T) {
	one, other, mine := netip.MustParseAddrPort("192.0.2.1:6783"), netip.MustParseAddrPort("192.168.1.2:6783"), netip.MustParseAddrPort("192.0.2.9:6783")
	says := func(confined bool, at ...netip.AddrPort) Body { return Body{Gossip: at, Confined: confined} }
	for name, tc := range map[string]struct {
		own, peer Body
		known     netip.AddrPort
		want      bool
	}{
		"one address":                  {says(false, mine), says(false, one), one, false},
		"nothing is said yet":          {says(false, mine), Body{}, one, false},
		"several":                      {says(false, mine), says(false, one, other), one, true},
		"it has moved":                 {says(false, mine), says(false, other), one, true},
		"nobody can connect to it":     {says(false, mine), says(true, one), one, true},
		"nobody can connect to either": {says(true, mine), says(false, one), one, true},
	} {
		if got := routeTo(tc.own, tc.peer, tc.known.String(), true).doubtful; got != tc.want {
			t.Errorf("%s: doubtful = %v", name, got)
		}
	}
}

// A port is forwarded to a peer in a private network, and another peer has its
// address in the one beside this host.
func TestAStreamGoesToThePeerThatIsMeantWherePrivateNetworksOverlap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newNetwork(t, 3)
		peers := meshIn(t, w, 3)
		here, beside, meant := peers[0], peers[1], peers[2]
		if err := meant.Publish(Body{Name: "p2", Gossip: []netip.AddrPort{beside.Advertise(), meant.Advertise()}}); err != nil {
			t.Fatal(err)
		}
		eventually(t, time.Minute, "both addresses are known", func() bool { return len(here.see(meant.id()).Record.Gossip) == 2 })
		here.reached.clear()
		here.Send(meant.id(), "board", []byte("psst"))
		eventually(t, 10*time.Second, "the message arrives", func() bool { return len(meant.board.messages()) == 1 })
		if _, at, ok := here.Reached(meant.id()); !ok || at != meant.Advertise() {
			t.Errorf("it is reached at %v, %v; want %v", at, ok, meant.Advertise())
		}
		// Who was found at an address is not asked for every stream.
		if !here.reached.isSure(meant.id().String(), path{WayDirect, meant.Advertise().String()}) {
			t.Error("it is asked again")
		}
	})
}
