package encap

import (
	"net/netip"
	"reflect"
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
	p := planVXLAN(self, []Peer{{id, addr("192.0.2.2"), addr("10.40.0.0"), prefixes("10.40.0.0/13", "10.36.0.0/16")}})
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
		"no space":                   {uuid.UUID{2}, addr("192.0.2.2"), addr("10.40.0.0"), nil},
		"no underlay":                {uuid.UUID{2}, addr(""), addr("10.40.0.0"), prefixes("10.40.0.0/13")},
		"underlay of another family": {uuid.UUID{2}, addr("2001:db8::2"), addr("10.40.0.0"), prefixes("10.40.0.0/13")},
		"our own underlay":           {uuid.UUID{2}, addr("192.0.2.1"), addr("10.40.0.0"), prefixes("10.40.0.0/13")},
		"no VTEP":                    {uuid.UUID{2}, addr("192.0.2.2"), addr(""), prefixes("10.40.0.0/13")},
		"route over our underlay":    {uuid.UUID{2}, addr("192.0.2.2"), addr("10.40.0.0"), prefixes("192.0.2.0/24")},
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

func TestPlanDependsOnThePeersAndNotOnTheirOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		peers := rapid.SliceOfNDistinct(rapid.Custom(func(t *rapid.T) Peer {
			n := rapid.ByteRange(1, 20).Draw(t, "peer")
			third := rapid.ByteRange(0, 9).Draw(t, "prefix")
			return Peer{uuid.UUID{n}, netip.AddrFrom4([4]byte{192, 0, 2, n}), netip.AddrFrom4([4]byte{10, 32, third, 1}),
				[]netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 32, third, 0}), 24)}}
		}), 0, 12, func(p Peer) uuid.UUID { return p.ID }).Draw(t, "peers")
		p := planVXLAN(self, peers)
		if q := planVXLAN(self, rapid.Permutation(peers).Draw(t, "order")); !reflect.DeepEqual(p, q) {
			t.Fatalf("another order gives another plan:\n%+v\n%+v", p, q)
		}
		seen := map[netip.Prefix]bool{}
		for _, r := range p.routes {
			if seen[r.Dst] {
				t.Fatalf("two routes to %s", r.Dst)
			}
			seen[r.Dst] = true
		}
		if len(p.fdb) != len(p.neighbours) || len(p.routes) != len(p.fdb) {
			t.Fatalf("%d routes, %d neighbours, %d entries", len(p.routes), len(p.neighbours), len(p.fdb))
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
