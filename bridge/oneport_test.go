package bridge

import (
	"bytes"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/weft-net/weft/internal/nl"
	"github.com/weft-net/weft/internal/ula"
)

// The kernel's words for what one port after the other brought are those for the
// tables as a whole.
func TestOnePortMoreOrLessMakesTheTablesOfAllPorts(t *testing.T) {
	onHost(t, func(h *host) {
		h.run("sysctl -q -w net.ipv6.conf.default.disable_ipv6=0")
		cfg := config()
		cfg.IPv6 = ula.Of(uuid.MustParse("7d1c6f9e-0c1b-4d6e-9a53-2f5f5b0f8a11"))
		cfg.Services = true
		cfg.Published = []Published{{Protocol: "tcp", HostPort: 8080, Address: netip.MustParseAddr("10.32.0.2"), Port: 80, IPv6: true}}
		ports := []Port{h.port(0, "10.32.0.2"), h.port(1, "10.32.0.3"), h.port(2, "10.32.0.4")}
		for _, subnets := range [][]netip.Prefix{nil, {netip.MustParsePrefix("10.32.0.4/31")}} {
			cfg.Subnets, cfg.Ports = subnets, ports[:1]
			h.set(cfg)
			h.same("one port")
			cfg.Ports = ports
			for _, p := range ports[1:] {
				if _, err := h.Plumb(cfg, p); err != nil {
					t.Fatal(err)
				}
				h.same("one more")
			}
			for _, p := range ports[1:] {
				if err := h.Unplumb(cfg, p); err != nil {
					t.Fatal(err)
				}
				cfg = cfg.withoutPort(p)
				h.same("one less")
				if out := h.run("ip -6 neigh show dev weft nud permanent"); strings.Contains(out, six(cfg, p.Address.Addr().String())+" ") {
					t.Errorf("a neighbour is left of one less:\n%s", out)
				}
			}
			if err := h.Unplumb(cfg, ports[0]); err != nil { // the last that is published: the rules differ
				t.Fatal(err)
			}
			h.same("none")
		}
	})
}

// A port that comes or goes is no change of others' for which the next pass has to
// look at all rules.
func TestAPortThatComesOrGoesIsNotTakenForAChangeOfOthers(t *testing.T) {
	onHost(t, func(h *host) {
		cfg := config()
		h.set(cfg)
		h.set(cfg) // the first one changed something itself
		known := func(when string) {
			now, err := nl.ReadRulesets()
			if err != nil || h.firewall.seen == nil || *h.firewall.seen != now {
				t.Errorf("%s: the rules are at %+v; known %+v, %v", when, now, h.firewall.seen, err)
			}
		}
		known("first")
		p := h.port(0, "10.32.0.2")
		if _, err := h.Plumb(cfg, p); err != nil {
			t.Fatal(err)
		}
		known("plumbed")
		cfg.Ports = []Port{p}
		h.set(cfg)
		known("set again")
		if err := h.Unplumb(cfg, p); err != nil {
			t.Fatal(err)
		}
		known("unplumbed")
	})
}

// same compares the kernel's tables with those that the firewall says it wrote.
func (h *host) same(when string) {
	h.t.Helper()
	now, err := h.firewall.wrote.list()
	if err != nil {
		h.t.Fatal(err)
	}
	if _, err := nft(h.firewall.wrote.whole(nil), "-f", "-"); err != nil {
		h.t.Fatal(err)
	}
	anew, err := h.firewall.wrote.list()
	if err != nil {
		h.t.Fatal(err)
	}
	sorted := func(tables []string) []string {
		words := strings.FieldsFunc(strings.Join(tables, " "), func(r rune) bool { return strings.ContainsRune(" \t\n,{}", r) })
		slices.Sort(words)
		return words
	}
	if !slices.Equal(sorted(now), sorted(anew)) {
		h.t.Errorf("%s: the tables are\n%s\nbut made as a whole\n%s", when, now, anew)
	}
}

// What an attach of a plain container changes is sent without nft.
func TestTheElementsOfAPortNeedNoProgram(t *testing.T) {
	cfg := config()
	cfg.IPv6, cfg.Services = ula.Of(uuid.MustParse("7d1c6f9e-0c1b-4d6e-9a53-2f5f5b0f8a11")), true
	p := Port{HostInterface: "wefta", Address: netip.MustParsePrefix("10.32.0.2/12")}
	changes := because(cfg, p).elementChanges(because(cfg, p).bare())
	gone, come, ok := kernelElements(changes)
	if !ok || len(gone) != 0 || len(come) < 6 {
		t.Fatalf("%d gone, %d come, %v", len(gone), len(come), ok)
	}
	i := slices.IndexFunc(come, func(e nl.Elements) bool { return e.Set == "own" })
	want := append(append([]byte("wefta\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"), 0x0a, 0x57, 10, 32, 0, 2, 0, 0), 10, 32, 0, 2)
	if i < 0 || !slices.ContainsFunc(come[i].Keys, func(k []byte) bool { return bytes.Equal(k, want) }) {
		t.Errorf("own is %x; want %x", come[i].Keys, want)
	}
	for _, s := range []set{{spec: "type ipv4_addr; flags interval;"}, {spec: "type inet_proto : ipv4_addr;", isMap: true}, {spec: "type ct_state;"}} {
		if _, ok := s.kernelKeys([]string{"10.0.0.0/8"}); ok {
			t.Errorf("%q is taken for one that can be sent", s.spec)
		}
	}
}

// Peers are in elements, of which a port has none: who came or went since the tables
// were written makes neither its attach slower nor all tables be compared.
func TestAPortComesWhateverPeersThereAre(t *testing.T) {
	cfg := config()
	cfg.Guard = Guard{VXLAN: []string{"weft-vx"}, Port: 6784, VNI: 7, Peers: []GuardedPeer{{ID: uuid.New(), VXLAN: true, Prefixes: []netip.Prefix{netip.MustParsePrefix("10.40.0.0/16")}}}}
	cfg.Tunnels = []string{"weft-vx"}
	f := firewall{wrote: tablesOf(cfg)}
	cfg.Guard.Peers[0].ID = uuid.New()
	p := Port{HostInterface: "wefta", Address: netip.MustParsePrefix("10.32.0.2/12")}
	own := because(cfg, p)
	if !own.hasRulesOf(f.wrote) {
		t.Error("a port needs all tables compared because of another peer")
	}
	for _, s := range own[0].sets {
		if s.isMap && len(s.elements) > 0 {
			t.Errorf("a port has %v in %s", s.elements, s.name)
		}
	}
	if want := tablesOf(cfg); !want.hasRulesOf(f.wrote) || want.hasCountersOf(f.wrote) {
		t.Error("another peer differs in more than counters and elements, or in less")
	}
	if cfg.Guard.Direct = []string{"eth0"}; because(cfg, p).hasRulesOf(f.wrote) {
		t.Error("other rules are taken for the same")
	}
}
