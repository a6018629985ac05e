package encap

import (
	"net/netip"
	"reflect"
	"slices"
	"testing"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/weft-net/weft/internal/nl"
)

// relaying is a peer that leads to another one as well, and that one.
func relaying() (hop, beyond Peer) {
	hop = Peer{ID: uuid.UUID{2}, Underlay: addr("192.0.2.2"), VTEP: addr("10.40.0.1"), Key: PublicKey{2}, MTU: 1300, Link: addr("240.0.0.2"),
		Prefixes: prefixes("10.40.0.0/16"), Behind: prefixes("10.44.0.0/16", "10.40.0.9/32")}
	beyond = Peer{ID: uuid.UUID{3}, Underlay: addr("192.0.2.3"), VTEP: addr("10.44.0.1"), Key: PublicKey{3}, Link: addr("240.0.0.3"),
		Prefixes: prefixes("10.44.0.0/16", "10.40.0.9/32"), Relayed: true}
	return hop, beyond
}

func TestRelayLeadsToWhatIsBehindItAndTheLinkToThatPeerOnlyToTheLinkItself(t *testing.T) {
	hop, beyond := relaying()
	routes := func(local Local, viaHop, viaBeyond netip.Addr) (out []nl.Route) {
		link := LinkAddr(local.ID)
		out = append(out, nl.Route{Dst: prefixes("240.0.0.2/32")[0], Via: viaHop, Src: link})
		for _, p := range prefixes("10.40.0.0/16", "10.44.0.0/16", "10.40.0.9/32") {
			out = append(out, nl.Route{Dst: p, Via: viaHop, Src: local.Source, MTU: 1300})
		}
		return append(out, nl.Route{Dst: prefixes("240.0.0.3/32")[0], Via: viaBeyond, Src: link})
	}
	check := func(what string, got, want []nl.Route, links []Link) {
		t.Helper()
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s:\n%+v\nwant:\n%+v", what, got, want)
		}
		for _, l := range links {
			if l.Reason != "" {
				t.Errorf("%s: %+v", what, l)
			}
		}
	}
	wg := planWireGuard(selfWG, []Peer{beyond, hop})
	check("wireguard", wg.routes, routes(selfWG, netip.Addr{}, netip.Addr{}), wg.links)
	if got := [][]netip.Prefix{wg.ends[0].allowed, wg.ends[1].allowed}; !reflect.DeepEqual(got, [][]netip.Prefix{prefixes("10.40.0.0/16", "10.44.0.0/16", "10.40.0.9/32", "240.0.0.2/32"), prefixes("240.0.0.3/32")}) {
		t.Errorf("allowed IPs: %v", got)
	}
	vx := planVXLAN(self, []Peer{beyond, hop})
	check("vxlan", vx.routes, routes(self, hop.VTEP, beyond.VTEP), vx.links)
	if len(vx.neighbours) != 2 || len(vx.fdb) != 2 {
		t.Errorf("%+v", vx)
	}
	direct, links := planDirect(self, []Peer{beyond, hop})
	check("direct", direct, routes(self, hop.Underlay, beyond.Underlay), links)
}

func TestLinkOfAPeerThatIsGoneTakesNothingWithIt(t *testing.T) {
	hop, _ := relaying()
	hop.Behind = nil
	if p := planWireGuard(selfWG, []Peer{hop}); !slices.Equal(p.ends[0].allowed, prefixes("10.40.0.0/16", "240.0.0.2/32")) {
		t.Errorf("%v", p.ends[0].allowed)
	}
}

func TestAddressesOfLinksAreOfAPartThatNothingElseUses(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		id := uuid.UUID(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "id"))
		if a := LinkAddr(id); !LinkRange.Contains(a) {
			t.Fatalf("%v", a)
		}
	})
}
