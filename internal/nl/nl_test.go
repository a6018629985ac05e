package nl

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// inside runs a test in a namespace of its own that has a device a0.
func inside(t *testing.T, fn func(c *Conn, dev Link)) {
	t.Helper()
	ns, err := NewNamespace()
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	err = ns.Do(func() error {
		c, err := Open()
		if err != nil {
			return err
		}
		defer c.Close()
		lo, err := c.Link("lo")
		if err != nil {
			return err
		}
		if err := c.AdjustLink(lo, LinkState{Up: true}); err != nil {
			return err
		}
		dev, err := c.CreateVeth(Veth{Host: "a0", Peer: "a1", MTU: 1400})
		if err != nil {
			return err
		}
		if err := c.AdjustLink(dev, LinkState{Alias: AliasPrefix + "test", Up: true}); err != nil {
			return err
		}
		if dev, err = c.Link("a0"); err == nil {
			fn(c, dev)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func any4(netip.Prefix) bool { return true }

func TestSyncAddrsLeavesForeignOnesAlone(t *testing.T) {
	inside(t, func(c *Conn, dev Link) {
		foreign, ours := netip.MustParsePrefix("192.0.2.1/24"), netip.MustParsePrefix("10.32.0.1/32")
		if err := c.SyncAddrs(dev, []netip.Prefix{foreign, ours}, any4); err != nil {
			t.Fatal(err)
		}
		inRange := func(p netip.Prefix) bool { return p.Addr().As4()[0] == 10 }
		for range 2 {
			if err := c.SyncAddrs(dev, nil, inRange); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := c.Addrs(dev); err != nil || len(got) != 1 || got[0] != foreign {
			t.Errorf("addresses: %v, %v; want only %s", got, err, foreign)
		}
	})
}

func TestSyncRoutesReplacesInPlaceAndRemovesTheRest(t *testing.T) {
	inside(t, func(c *Conn, dev Link) {
		dst, dst6 := netip.MustParsePrefix("10.40.0.0/13"), netip.MustParsePrefix("fd00::/109")
		mine := func(r Route) bool { return r.Device == dev.Index || r.Unreachable }
		for _, want := range [][]Route{
			{{Dst: dst, Device: dev.Index}},
			{{Dst: dst, Device: dev.Index}, {Dst: dst6, Device: dev.Index}},
			{{Dst: dst, Device: dev.Index, Via: netip.MustParseAddr("10.40.0.1")}, {Dst: dst6, Device: dev.Index, Via: netip.MustParseAddr("fe80::1"), MTU: 1300}},
			{{Dst: dst, Device: dev.Index, Via: netip.MustParseAddr("10.40.0.2"), MTU: 1300}, {Dst: dst, Unreachable: true, Metric: 99}},
			{{Dst: dst, Unreachable: true, Metric: 99}, {Dst: dst6, Unreachable: true, Metric: 99}},
			{{Dst: DefaultDst(true), Device: dev.Index, Via: netip.MustParseAddr("fe80::1")}, {Dst: DefaultDst(false), Device: dev.Index}},
			nil,
		} {
			if err := c.SyncRoutes(want, mine); err != nil {
				t.Fatalf("%+v: %v", want, err)
			}
			have, err := c.Routes(true)
			if missing, extra := difference(have, want); err != nil || len(missing)+len(extra) > 0 {
				t.Errorf("routes: %+v, %v; want %+v", have, err, want)
			}
		}
	})
}

func TestSyncNeighboursLeavesForeignOnesAlone(t *testing.T) {
	four, six := netip.MustParseAddr("10.32.0.1"), netip.MustParseAddr("fd00::1")
	for _, foreign := range []string{"10.32.0.9", "fd00::9"} {
		inside(t, func(c *Conn, dev Link) {
			foreign := Neighbour{netip.MustParseAddr(foreign), MAC{2, 0, 0, 0, 0, 9}}
			if err := c.SetNeighbour(dev, foreign); err != nil {
				t.Fatal(err)
			}
			for _, want := range [][]Neighbour{
				{{four, MAC{2, 0, 0, 0, 0, 1}}, {six, MAC{2, 0, 0, 0, 0, 1}}},
				{{four, MAC{2, 0, 0, 0, 0, 3}}, {six, MAC{2, 0, 0, 0, 0, 1}}},
				{{six, MAC{2, 0, 0, 0, 0, 3}}},
				nil,
			} {
				for range 2 {
					if err := c.SyncNeighbours(dev, want, func(a netip.Addr) bool { return a != foreign.Addr }); err != nil {
						t.Fatal(err)
					}
				}
				have, err := c.neighbours(dev)
				if missing, extra := difference(have, append(want[:len(want):len(want)], foreign)); err != nil || len(missing)+len(extra) > 0 {
					t.Errorf("neighbours: %v, %v; want %v and %v", have, err, want, foreign)
				}
			}
		})
	}
}

func TestIPv6AddressesAreUsableAtOnceAndMakeNoRoute(t *testing.T) {
	inside(t, func(c *Conn, dev Link) {
		addr := netip.MustParsePrefix("fd00::5/128")
		for range 2 {
			if err := c.SyncAddrs(dev, []netip.Prefix{addr}, any4); err != nil {
				t.Fatal(err)
			}
		}
		list, err := c.h.AddrList(dev.raw, netlink.FAMILY_V6)
		if err != nil || len(list) != 1 || list[0].Flags&unix.IFA_F_TENTATIVE != 0 {
			t.Errorf("addresses: %+v, %v", list, err)
		}
		if routes, err := c.Routes(false); err != nil || len(routes) != 0 {
			t.Errorf("routes: %+v, %v", routes, err)
		}
	})
}

func TestIPv6OffSaysWhy(t *testing.T) {
	inside(t, func(c *Conn, dev Link) {
		if why := IPv6Off("a0"); why != "" {
			t.Errorf("where it is on: %s", why)
		}
		if err := SetSysctl("ipv6/conf/a0/disable_ipv6", "1"); err != nil {
			t.Fatal(err)
		}
		if why := IPv6Off("a0"); !strings.Contains(why, "ipv6/conf/a0/disable_ipv6 is 1") {
			t.Errorf("where it is disabled: %s", why)
		}
		if err := c.AdjustLink(dev, LinkState{MTU: 1200}); err != nil {
			t.Fatal(err)
		}
		if why := IPv6Off("a0"); !strings.Contains(why, "below 1280") {
			t.Errorf("with a small MTU: %s", why)
		}
	})
}

func TestEndsOfAVethKnowEachOther(t *testing.T) {
	inside(t, func(c *Conn, a0 Link) {
		a1, err := c.Link("a1")
		if err != nil || a0.Peer != a1.Index || a1.Peer != a0.Index {
			t.Errorf("a0 is %d with peer %d, a1 is %d with peer %d: %v", a0.Index, a0.Peer, a1.Index, a1.Peer, err)
		}
	})
}

func TestAddressesOfOneNetworkOutliveTheFirst(t *testing.T) {
	inside(t, func(c *Conn, dev Link) {
		first, second := netip.MustParsePrefix("10.32.0.5/12"), netip.MustParsePrefix("10.32.0.6/12")
		for _, want := range [][]netip.Prefix{{first, second}, {second}} {
			if err := c.SyncAddrs(dev, want, any4); err != nil {
				t.Fatal(err)
			}
			if have, err := c.Addrs(dev); err != nil || len(have) != len(want) || have[len(have)-1] != second {
				t.Errorf("addresses %v, %v; want %v", have, err, want)
			}
		}
	})
}

func TestMissingThingsAreErrNotFound(t *testing.T) {
	inside(t, func(c *Conn, _ Link) {
		if _, err := c.Link("none"); !errors.Is(err, ErrNotFound) {
			t.Errorf("link: %v", err)
		}
		if err := c.DeleteLink("none"); err != nil {
			t.Errorf("deleting what is gone: %v", err)
		}
		if _, err := Sysctl("ipv4/none"); !errors.Is(err, ErrNotFound) {
			t.Errorf("sysctl: %v", err)
		}
	})
	plain := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(plain, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/run/netns/none", plain, "/proc/self/ns/mnt"} {
		if _, err := OpenNamespace(path); !errors.Is(err, ErrNotFound) {
			t.Errorf("namespace %s: %v", path, err)
		}
	}
}

func TestCookieIsOfTheNamespaceAndNotOfThePath(t *testing.T) {
	a, err := NewNamespace()
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	again, err := OpenNamespace(a.ProcPath())
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	b, err := NewNamespace()
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	ca, _ := a.Cookie()
	cAgain, _ := again.Cookie()
	cb, _ := b.Cookie()
	if ca == 0 || ca != cAgain || ca == cb {
		t.Errorf("cookies %d and %d of one namespace, %d of another", ca, cAgain, cb)
	}
}

func TestFunctionThatEndsItsGoroutineDoesNotHangItsCaller(t *testing.T) {
	ns, err := NewNamespace()
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	if err := ns.Do(func() error { runtime.Goexit(); return nil }); err != nil {
		t.Error(err)
	}
}

func TestWatchAnnouncesAChangeAndEnds(t *testing.T) {
	inside(t, func(c *Conn, dev Link) {
		w, err := WatchChanges()
		if err != nil {
			t.Fatal(err)
		}
		if err := c.SyncAddrs(dev, []netip.Prefix{netip.MustParsePrefix("192.0.2.1/24")}, any4); err != nil {
			t.Fatal(err)
		}
		select {
		case <-w.Changed:
		case <-time.After(10 * time.Second):
			t.Error("a new address is not announced")
		}
		w.Close()
	})
}

func TestLinkIsFoundByItsAddress(t *testing.T) {
	inside(t, func(c *Conn, dev Link) {
		addr := netip.MustParseAddr("192.0.2.1")
		if _, err := c.LinkWithAddr(addr); !errors.Is(err, ErrNotFound) {
			t.Errorf("before it is there: %v", err)
		}
		if err := c.SyncAddrs(dev, []netip.Prefix{netip.PrefixFrom(addr, 24)}, any4); err != nil {
			t.Fatal(err)
		}
		if l, err := c.LinkWithAddr(addr); err != nil || l.Name != dev.Name || l.MTU != 1400 {
			t.Errorf("LinkWithAddr = %+v, %v", l, err)
		}
		if l, err := c.LinkWithAddr(netip.IPv6LinkLocalAllNodes()); !errors.Is(err, ErrNotFound) {
			t.Errorf("an address of nobody: %+v, %v", l, err)
		}
	})
}

func TestAddressOnLoopbackHasTheMTUOfTheWayOut(t *testing.T) {
	inside(t, func(c *Conn, _ Link) {
		addr := netip.MustParseAddr("198.51.100.1")
		lo, err := c.Link("lo")
		if err != nil {
			t.Fatal(err)
		}
		uplink := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "uplink", MTU: 1300}, PeerName: "switch"}
		if err := errors.Join(c.h.LinkAdd(uplink), c.h.LinkSetUp(uplink), c.h.LinkSetUp(&netlink.Device{LinkAttrs: netlink.LinkAttrs{Name: "switch"}})); err != nil {
			t.Fatal(err)
		}
		dev, err := c.Link("uplink")
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(c.SyncAddrs(lo, []netip.Prefix{netip.PrefixFrom(addr, 32)}, any4), c.SyncAddrs(dev, []netip.Prefix{netip.MustParsePrefix("192.0.2.1/24")}, any4)); err != nil {
			t.Fatal(err)
		}
		if l, err := c.LinkWithAddr(addr); err != nil || l.Name != "lo" || l.MTU != lo.MTU {
			t.Errorf("without a gateway: %+v, %v", l, err)
		}
		hop := []*netlink.NexthopInfo{{LinkIndex: dev.Index, Gw: net.IPv4(192, 0, 2, 2)}, {LinkIndex: dev.Index, Gw: net.IPv4(192, 0, 2, 3)}}
		if err := c.h.RouteAdd(&netlink.Route{Dst: toIPNet(netip.MustParsePrefix("0.0.0.0/0")), MultiPath: hop}); err != nil {
			t.Fatal(err)
		}
		if l, err := c.LinkWithAddr(addr); err != nil || l.Name != "lo" || l.MTU != 1300 {
			t.Errorf("with gateways: %+v, %v", l, err)
		}
	})
}

func TestIPv4RouteCanHaveANextHopInIPv6(t *testing.T) {
	inside(t, func(c *Conn, dev Link) {
		want := Route{Dst: netip.MustParsePrefix("10.40.0.0/13"), Device: dev.Index, Via: netip.MustParseAddr("2001:db8::2"), MTU: 1400, Metric: 100}
		all := func(Route) bool { return true }
		for range 2 {
			if err := c.SyncRoutes([]Route{want}, all); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := c.Routes(true); err != nil || len(got) != 1 || got[0] != want {
			t.Errorf("routes %+v, %v", got, err)
		}
		if err := c.SyncRoutes(nil, all); err != nil {
			t.Fatal(err)
		}
		if got, _ := c.Routes(true); len(got) > 0 {
			t.Errorf("left: %+v", got)
		}
	})
}

func TestDevicesOfARouteAreThoseOfAllItsNextHopsForThatSource(t *testing.T) {
	inside(t, func(c *Conn, dev Link) {
		for _, family := range []struct {
			src, first, second, dst string
		}{{"192.0.2.1/24", "192.0.2.8", "192.0.2.9", "10.9.0.0/16"}, {"2001:db8::1/64", "2001:db8::8", "2001:db8::9", "2001:db8:9::/48"}} {
			src, to := netip.MustParsePrefix(family.src), netip.MustParsePrefix(family.dst).Addr().Next()
			if err := c.SyncAddrs(dev, []netip.Prefix{src}, any4); err != nil {
				t.Fatal(err)
			}
			if got, err := c.DevicesTo(to, src.Addr()); !errors.Is(err, ErrNotFound) {
				t.Errorf("without a route: %v, %v", got, err)
			}
			other, err := c.Link("a1")
			if err == nil {
				err = c.AdjustLink(other, LinkState{Up: true})
			}
			if err != nil {
				t.Fatal(err)
			}
			_, dst, _ := net.ParseCIDR(family.dst)
			hop := func(l Link, via string) *netlink.NexthopInfo {
				return &netlink.NexthopInfo{LinkIndex: l.Index, Gw: net.ParseIP(via), Flags: int(netlink.FLAG_ONLINK)}
			}
			route := &netlink.Route{Dst: dst, MultiPath: []*netlink.NexthopInfo{hop(dev, family.first), hop(other, family.second)}}
			if err := c.h.RouteAdd(route); err != nil {
				t.Fatal(err)
			}
			got, err := c.DevicesTo(to, src.Addr())
			slices.Sort(got)
			if want := []int{min(dev.Index, other.Index), max(dev.Index, other.Index)}; err != nil || !slices.Equal(got, want) {
				t.Errorf("%v, %v; want %v", got, err, want)
			}
			if l, err := c.LinkAt(dev.Index); err != nil || l.Name != dev.Name {
				t.Errorf("link %d: %+v, %v", dev.Index, l, err)
			}
		}
		if _, err := c.LinkAt(9999); !errors.Is(err, ErrNotFound) {
			t.Errorf("no such link: %v", err)
		}
	})
}

func TestNoNextHopLeadsIntoABlackhole(t *testing.T) {
	inside(t, func(c *Conn, _ Link) {
		for _, kind := range []int{unix.RTN_BLACKHOLE, unix.RTN_UNREACHABLE, unix.RTN_PROHIBIT} {
			_, dst, _ := net.ParseCIDR("10.9.0.0/16")
			route := &netlink.Route{Dst: dst, Type: kind}
			if err := c.h.RouteAdd(route); err != nil {
				t.Fatal(err)
			}
			if hop, err := c.NextHop(netip.MustParseAddr("10.9.0.1")); !errors.Is(err, ErrNotFound) {
				t.Errorf("type %d: %+v, %v; want %v", kind, hop, err, ErrNotFound)
			}
			if err := c.h.RouteDel(route); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func TestRouteOfMetric0IsPreferredInBothFamilies(t *testing.T) {
	inside(t, func(c *Conn, dev Link) {
		other, err := c.CreateVeth(Veth{Host: "b0", Peer: "b1", MTU: 1400})
		if err != nil {
			t.Fatal(err)
		}
		if err := c.AdjustLink(other, LinkState{Alias: AliasPrefix + "test", Up: true}); err != nil {
			t.Fatal(err)
		}
		for _, dst := range []string{"10.40.0.0/13", "fd00:1::/64"} {
			p := netip.MustParsePrefix(dst)
			for chosen, standby := range map[int]int{dev.Index: other.Index, other.Index: dev.Index} {
				want := []Route{{Dst: p, Device: chosen}, {Dst: p, Device: standby, Metric: 100}}
				if err := c.SyncRoutes(want, func(Route) bool { return true }); err != nil {
					t.Fatal(err)
				}
				if hop, err := c.NextHop(p.Addr().Next()); err != nil || hop.Device != chosen {
					t.Errorf("to %s: %+v, %v; want device %d", dst, hop, err, chosen)
				}
				if got, err := c.Routes(true); err != nil || len(got) != 2 {
					t.Errorf("routes %+v, %v", got, err)
				}
			}
		}
	})
}
