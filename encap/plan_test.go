package encap

import (
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/weft-net/weft/internal/nl"
)

func prefixes(list ...string) (out []netip.Prefix) {
	for _, s := range list {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

func addr(s string) netip.Addr {
	if s == "" {
		return netip.Addr{}
	}
	return netip.MustParseAddr(s)
}

var self = Local{ID: uuid.UUID{1}, Device: "weft-vx", Underlay: addr("192.0.2.1"), Source: addr("10.32.0.1"), VNI: 7, Port: 6784}

func TestPlanOfOnePeerIsARouteANeighbourAndAForwardingEntry(t *testing.T) {
	id := uuid.UUID{2}
	p := planVXLAN(self, []Peer{{ID: id, Underlay: addr("192.0.2.2"), VTEP: addr("10.40.0.0"), Prefixes: prefixes("10.40.0.0/13", "10.36.0.0/16")}})
	want := plan{
		neighbours: []nl.Neighbour{{Addr: addr("10.40.0.0"), MAC: VTEPMAC(id)}},
		fdb:        []nl.FDB{{MAC: VTEPMAC(id), Dst: addr("192.0.2.2")}},
		routes: []nl.Route{
			{Dst: prefixes("10.40.0.0/13")[0], Via: addr("10.40.0.0"), Src: addr("10.32.0.1")},
			{Dst: prefixes("10.36.0.0/16")[0], Via: addr("10.40.0.0"), Src: addr("10.32.0.1")},
		},
		links: []Link{{Peer: id, Device: "weft-vx", Underlay: addr("192.0.2.2")}},
	}
	if !reflect.DeepEqual(p, want) {
		t.Errorf("plan:\n%+v\nwant:\n%+v", p, want)
	}
}

func TestPeerWithoutALinkHasAReasonAndNoEntries(t *testing.T) {
	for name, peer := range map[string]Peer{
		"no space":                   {ID: uuid.UUID{2}, Underlay: addr("192.0.2.2"), VTEP: addr("10.40.0.0"), Prefixes: nil},
		"no underlay":                {ID: uuid.UUID{2}, Underlay: addr(""), VTEP: addr("10.40.0.0"), Prefixes: prefixes("10.40.0.0/13")},
		"underlay of another family": {ID: uuid.UUID{2}, Underlay: addr("2001:db8::2"), VTEP: addr("10.40.0.0"), Prefixes: prefixes("10.40.0.0/13")},
		"our own underlay":           {ID: uuid.UUID{2}, Underlay: addr("192.0.2.1"), VTEP: addr("10.40.0.0"), Prefixes: prefixes("10.40.0.0/13")},
		"underlay of nobody":         {ID: uuid.UUID{2}, Underlay: addr("0.0.0.0"), VTEP: addr("10.40.0.0"), Prefixes: prefixes("10.40.0.0/13")},
		"underlay of a group":        {ID: uuid.UUID{2}, Underlay: addr("224.0.0.5"), VTEP: addr("10.40.0.0"), Prefixes: prefixes("10.40.0.0/13")},
		"underlay of every host":     {ID: uuid.UUID{2}, Underlay: addr("127.0.0.1"), VTEP: addr("10.40.0.0"), Prefixes: prefixes("10.40.0.0/13")},
		"underlay in the network":    {ID: uuid.UUID{2}, Underlay: addr("10.40.0.1"), VTEP: addr("10.40.0.0"), Prefixes: prefixes("10.40.0.0/13")},
		"no VTEP":                    {ID: uuid.UUID{2}, Underlay: addr("192.0.2.2"), VTEP: addr(""), Prefixes: prefixes("10.40.0.0/13")},
		"VTEP of another":            {ID: uuid.UUID{2}, Underlay: addr("192.0.2.2"), VTEP: addr("10.36.0.0"), Prefixes: prefixes("10.40.0.0/13")},
		"host bits in a prefix":      {ID: uuid.UUID{2}, Underlay: addr("192.0.2.2"), VTEP: addr("10.40.0.0"), Prefixes: prefixes("10.40.0.1/13")},
		"prefix of another family":   {ID: uuid.UUID{2}, Underlay: addr("192.0.2.2"), VTEP: addr("10.40.0.0"), Prefixes: prefixes("10.40.0.0/13", "2001:db8::/64")},
		"everything":                 {ID: uuid.UUID{2}, Underlay: addr("192.0.2.2"), VTEP: addr("10.40.0.0"), Prefixes: prefixes("0.0.0.0/0")},
		"route over our underlay":    {ID: uuid.UUID{2}, Underlay: addr("192.0.2.2"), VTEP: addr("10.40.0.0"), Prefixes: prefixes("192.0.2.0/24")},
	} {
		p := planVXLAN(self, []Peer{peer})
		if len(p.links) != 1 || p.links[0].Reason == "" || len(p.routes)+len(p.neighbours)+len(p.fdb) > 0 {
			t.Errorf("%s: %+v", name, p)
		}
	}
	if p := planVXLAN(self, []Peer{{ID: self.ID}}); len(p.links) != 0 {
		t.Errorf("a link to oneself: %+v", p)
	}
}

func TestAnIPv4AddressWrittenAsIPv6IsNoUnderlay(t *testing.T) {
	six := self
	six.Underlay = addr("2001:db8::1")
	for _, under := range []string{"::ffff:192.0.2.2", "2001:db8::2%eth0"} {
		peer := Peer{ID: uuid.UUID{2}, Underlay: addr(under), VTEP: addr("10.40.0.0"), Prefixes: prefixes("10.40.0.0/13")}
		if p := planVXLAN(six, []Peer{peer}); len(p.fdb) != 0 || len(p.routes) != 0 || p.links[0].Reason == "" {
			t.Errorf("%s: %+v", under, p)
		}
	}
}

func TestSingleAddressMayBeLeasedOutOfAnothersPrefix(t *testing.T) {
	lessor := Peer{ID: uuid.UUID{2}, Underlay: addr("192.0.2.2"), VTEP: addr("10.40.0.1"), Prefixes: prefixes("10.40.0.0/16")}
	holder := Peer{ID: uuid.UUID{3}, Underlay: addr("192.0.2.3"), VTEP: addr("10.50.0.1"), Prefixes: prefixes("10.40.0.9/32", "10.50.0.0/16")}
	p := planVXLAN(self, []Peer{holder, lessor})
	if len(p.routes) != 3 || p.links[0].Reason != "" || p.links[1].Reason != "" {
		t.Errorf("%+v", p)
	}
	for _, r := range p.routes {
		if r.Dst.IsSingleIP() && r.Via != holder.VTEP {
			t.Errorf("the leased address is reached by %s", r.Via)
		}
	}
}

func TestOfTwoPeersInConflictTheSmallerIDHasTheLink(t *testing.T) {
	first := Peer{ID: uuid.UUID{2}, Underlay: addr("192.0.2.2"), VTEP: addr("10.40.0.1"), Prefixes: prefixes("10.40.0.0/16")}
	for name, second := range map[string]Peer{
		"the same prefix": {ID: uuid.UUID{3}, Underlay: addr("192.0.2.3"), VTEP: addr("10.40.0.1"), Prefixes: prefixes("10.40.0.0/16")},
		"a wider one":     {ID: uuid.UUID{3}, Underlay: addr("192.0.2.3"), VTEP: addr("10.41.0.1"), Prefixes: prefixes("10.40.0.0/13")},
		"a narrower one":  {ID: uuid.UUID{3}, Underlay: addr("192.0.2.3"), VTEP: addr("10.40.9.1"), Prefixes: prefixes("10.40.9.0/24")},
		"the second of several": {ID: uuid.UUID{3}, Underlay: addr("192.0.2.3"), VTEP: addr("10.50.0.1"),
			Prefixes: prefixes("10.50.0.0/24", "10.40.9.0/24")},
	} {
		p := planVXLAN(self, []Peer{second, first})
		if len(p.links) != 2 || p.links[0].Reason != "" || !strings.Contains(p.links[1].Reason, "overlaps") || len(p.routes) != 1 {
			t.Errorf("%s: %+v", name, p)
		}
	}
	inside := Peer{ID: uuid.UUID{1, 1}, Underlay: addr("10.40.0.9"), VTEP: addr("10.36.0.1"), Prefixes: prefixes("10.36.0.0/16")}
	p := planVXLAN(self, []Peer{inside, first})
	if len(p.links) != 2 || p.links[0].Reason == "" || p.links[1].Reason != "" {
		t.Errorf("a peer took another's link away by its underlay address: %+v", p.links)
	}
}

// anyPeers draws peers that often are in each other's way.
func anyPeers(t *rapid.T) []Peer {
	address := rapid.Custom(func(t *rapid.T) netip.Addr {
		return rapid.OneOf(
			rapid.Custom(func(t *rapid.T) netip.Addr {
				return netip.AddrFrom4([4]byte{192, 0, 2, rapid.ByteRange(0, 20).Draw(t, "host")})
			}),
			rapid.Custom(func(t *rapid.T) netip.Addr {
				return netip.AddrFrom4([4]byte{10, 32, rapid.ByteRange(0, 9).Draw(t, "third"), rapid.ByteRange(0, 3).Draw(t, "fourth")})
			}),
			rapid.SampledFrom([]netip.Addr{{}, addr("0.0.0.0"), addr("2001:db8::1"), addr("255.255.255.255")}),
		).Draw(t, "address")
	})
	prefix := rapid.Custom(func(t *rapid.T) netip.Prefix {
		third := rapid.ByteRange(0, 9).Draw(t, "prefix")
		p := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 32, third, 0}), rapid.SampledFrom([]int{21, 22, 23, 24, 25, 26, 32}).Draw(t, "bits"))
		if rapid.IntRange(0, 9).Draw(t, "masked") > 0 {
			p = p.Masked()
		}
		return p
	})
	peer := rapid.Custom(func(t *rapid.T) Peer {
		p := Peer{ID: uuid.UUID{rapid.ByteRange(1, 20).Draw(t, "peer")}, Prefixes: rapid.SliceOfN(prefix, 0, 3).Draw(t, "prefixes")}
		if len(p.Prefixes) > 0 {
			p.VTEP = p.Prefixes[0].Addr().Next()
		}
		p.Underlay = netip.AddrFrom4([4]byte{192, 0, 2, p.ID[0]})
		if rapid.IntRange(0, 3).Draw(t, "odd") == 0 {
			p.Underlay, p.VTEP = address.Draw(t, "underlay"), address.Draw(t, "VTEP")
		}
		return p
	})
	return rapid.SliceOfNDistinct(peer, 0, 12, func(p Peer) uuid.UUID { return p.ID }).Draw(t, "peers")
}

func TestPlanDependsOnThePeersAndNotOnTheirOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		peers := anyPeers(t)
		p := planVXLAN(self, peers)
		if q := planVXLAN(self, rapid.Permutation(peers).Draw(t, "order")); !reflect.DeepEqual(p, q) {
			t.Fatalf("another order gives another plan:\n%+v\n%+v", p, q)
		}
	})
}

func TestPlanIsWhatTheKernelTakesAndLeadsNoTunnelIntoATunnel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		peers := anyPeers(t)
		p := planVXLAN(self, peers)
		others, usable := 0, map[netip.Addr]bool{}
		for _, peer := range peers {
			if peer.ID != self.ID {
				others++
			}
		}
		for _, l := range p.links {
			if l.Reason == "" {
				usable[l.Underlay] = true
			}
		}
		if len(p.links) != others {
			t.Fatalf("%d links to %d peers", len(p.links), others)
		}
		mac := map[netip.Addr]nl.MAC{}
		for _, n := range p.neighbours {
			if _, twice := mac[n.Addr]; twice {
				t.Fatalf("two neighbours with address %s", n.Addr)
			}
			mac[n.Addr] = n.MAC
		}
		dst := map[nl.MAC]netip.Addr{}
		for _, f := range p.fdb {
			if _, twice := dst[f.MAC]; twice {
				t.Fatalf("two destinations for %s", f.MAC)
			}
			dst[f.MAC] = f.Dst
		}
		if len(dst) != len(mac) {
			t.Fatalf("%d neighbours, %d forwarding entries", len(mac), len(dst))
		}
		for i, r := range p.routes {
			if to := dst[mac[r.Via]]; !usable[to] || r.Dst != r.Dst.Masked() {
				t.Fatalf("route %+v leads to %v", r, to)
			}
			for under := range usable {
				if r.Dst.Contains(under) || r.Dst.Contains(self.Underlay) {
					t.Fatalf("route %+v covers the underlay", r)
				}
			}
			for _, q := range p.routes[:i] {
				if q.Dst.Overlaps(r.Dst) && q.Via != r.Via && q.Dst.IsSingleIP() == r.Dst.IsSingleIP() {
					t.Fatalf("routes to two peers overlap: %+v, %+v", q, r)
				}
			}
		}
	})
}

func TestSpaceFindsWhatOverlaps(t *testing.T) {
	prefix := rapid.Custom(func(t *rapid.T) netip.Prefix {
		a := netip.AddrFrom4([4]byte{10, 32, 0, rapid.Byte().Draw(t, "last")})
		return netip.PrefixFrom(a, rapid.IntRange(22, 32).Draw(t, "bits")).Masked()
	})
	rapid.Check(t, func(t *rapid.T) {
		s := newSpace()
		held := rapid.SliceOf(prefix).Draw(t, "held")
		for _, p := range held {
			s.add(p)
		}
		p := prefix.Draw(t, "asked")
		q, ok := s.overlapping(p)
		// A single address is in the way of itself alone.
		inTheWay := func(h netip.Prefix) bool {
			return h == p || !h.IsSingleIP() && !p.IsSingleIP() && h.Overlaps(p)
		}
		if want := slices.ContainsFunc(held, inTheWay); ok != want || ok && (!inTheWay(q) || !slices.Contains(held, q)) {
			t.Fatalf("overlapping(%s) = %s, %v", p, q, ok)
		}
		q, ok = s.covering(p)
		covers := func(h netip.Prefix) bool { return h.Bits() <= p.Bits() && h.Overlaps(p) }
		if ok != slices.ContainsFunc(held, covers) || ok && !covers(q) {
			t.Fatalf("covering(%s) = %s, %v", p, q, ok)
		}
	})
}

func TestVTEPMACIsUnicastAndLocallyAdministered(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		mac := VTEPMAC(uuid.UUID(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "id")))
		if mac[0]&3 != 2 {
			t.Fatalf("%s", mac)
		}
	})
}
