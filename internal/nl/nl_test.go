package nl

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
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
		dst := netip.MustParsePrefix("10.40.0.0/13")
		mine := func(r Route) bool { return r.Device == dev.Index || r.Unreachable }
		for _, want := range [][]Route{
			{{Dst: dst, Device: dev.Index}},
			{{Dst: dst, Device: dev.Index, Via: netip.MustParseAddr("10.40.0.1")}},
			{{Dst: dst, Device: dev.Index, Via: netip.MustParseAddr("10.40.0.2"), MTU: 1300}, {Dst: dst, Unreachable: true, Metric: 99}},
			{{Dst: dst, Unreachable: true, Metric: 99}},
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

func TestDeletedNeighbourIsForgottenWhetherOrNotItWasKnown(t *testing.T) {
	inside(t, func(c *Conn, dev Link) {
		addr := netip.MustParseAddr("10.32.0.9")
		if err := c.SyncNeighbours(dev, []Neighbour{{Addr: addr, MAC: MAC{2, 0, 0, 0, 0, 9}}}); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := c.DeleteNeighbour(dev, addr); err != nil {
				t.Fatal(err)
			}
		}
		if list, err := c.h.NeighList(dev.Index, netlink.FAMILY_V4); err != nil || len(list) != 0 {
			t.Errorf("neighbours: %v, %v; want none", list, err)
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
