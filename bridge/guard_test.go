package bridge

import (
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/weft-net/weft/internal/nl"
)

func guarded(peers ...GuardedPeer) Config {
	cfg := config()
	cfg.Tunnels = []string{"weft-vx", "weft-wg"}
	cfg.Guard = Guard{Underlay: "eth0", VXLAN: "weft-vx", Port: 6784, VNI: 7, Peers: peers}
	return cfg
}

func peer(underlay string, direct, vxlan bool, list ...string) GuardedPeer {
	p := GuardedPeer{Underlay: netip.MustParseAddr(underlay), Direct: direct, VXLAN: vxlan}
	for _, s := range list {
		p.Prefixes = append(p.Prefixes, netip.MustParsePrefix(s))
	}
	return p
}

func TestGuardLetsPlaintextOfThoseInThatMay(t *testing.T) {
	cfg := guarded(
		peer("192.0.2.2", true, true, "10.40.0.0/13"),
		peer("192.0.2.3", false, true, "10.36.0.0/14", "10.40.0.9/32"),
		peer("192.0.2.4", false, false, "10.34.0.0/15"))
	inet := tablesOf(cfg)[0]
	for name, want := range map[string]string{
		"vxlan-arriving": `ip saddr @vxlan accept
counter drop`,
		"guard-arriving": `iifname "weft" accept
iifname "weft-vx" goto vxlan-arriving
iifname "weft-wg" accept
ip saddr @not-direct iifname "eth0" counter drop
ip saddr @direct iifname "eth0" accept
ip saddr 10.32.0.0/12 iifname != "lo" counter drop`,
		"vxlan-leaving": `ip daddr @vxlan accept
counter drop`,
		"guard-leaving": `oifname "weft" accept
oifname "weft-vx" goto vxlan-leaving
oifname "weft-wg" accept
ip daddr @not-direct oifname "eth0" counter drop
ip daddr @direct oifname "eth0" accept
ip daddr 10.32.0.0/12 oifname != "lo" counter drop`,
		"guard-tunnel-in": `udp dport 6784 @th,96,24 0x7 goto ends-in`,
		"ends-in": `ip saddr @ends accept
ip6 saddr @ends6 accept
counter drop`,
		"guard-tunnel-out": `udp dport 6784 @th,96,24 0x7 goto ends-out`,
		"ends-out": `ip daddr @ends accept
ip6 daddr @ends6 accept
counter drop`,
	} {
		if c, _ := inet.chain(name); strings.Join(c.rules, "\n") != want {
			t.Errorf("%s:\n%s\nwant:\n%s", name, strings.Join(c.rules, "\n"), want)
		}
	}
	for name, want := range map[string]string{"direct": "10.40.0.0/13", "not-direct": "10.40.0.9/32", "vxlan": "10.36.0.0/14 10.40.0.0/13", "not-vxlan": "", "ends": "192.0.2.2 192.0.2.3", "ends6": "", "refused": ""} {
		if got := elements(inet, name); got != want {
			t.Errorf("set %s has %q, want %q", name, got, want)
		}
	}
}

func elements(t table, name string) string {
	s, ok := t.set(name)
	if !ok {
		return "no such set"
	}
	return strings.Join(slices.Sorted(maps.Keys(s.elements)), " ")
}

func TestGuardWithoutPlaintextLetsNoneIn(t *testing.T) {
	cfg := guarded(peer("192.0.2.2", false, false, "10.40.0.0/13"))
	inet := tablesOf(cfg)[0]
	for _, name := range []string{"direct", "vxlan", "ends", "ends6"} {
		if got := elements(inet, name); got != "" {
			t.Errorf("set %s has %q", name, got)
		}
	}
	cfg.Guard = Guard{}
	cfg.Tunnels = []string{"weft-wg"}
	inet = tablesOf(cfg)[0]
	if c, _ := inet.chain("guard-arriving"); len(c.rules) != 3 || len(inet.sets) != 0 {
		t.Errorf("without any transport in the clear: %q, %v", c.rules, inet.sets)
	}
}

func TestGuardedPrefixesNeverOverlapAndStandForTheSame(t *testing.T) {
	prefix := rapid.Custom(func(t *rapid.T) netip.Prefix {
		a := netip.AddrFrom4([4]byte{10, 32, 0, rapid.Byte().Draw(t, "last")})
		return netip.PrefixFrom(a, rapid.IntRange(24, 32).Draw(t, "bits")).Masked()
	})
	rapid.Check(t, func(t *rapid.T) {
		list := rapid.SliceOf(prefix).Draw(t, "prefixes")
		out := outermost(list)
		for i, p := range out {
			if slices.ContainsFunc(out[:i], p.Overlaps) || !slices.Contains(list, p) {
				t.Fatalf("%v of %v", out, list)
			}
		}
		for _, p := range list {
			if !slices.ContainsFunc(out, func(q netip.Prefix) bool { return q.Bits() <= p.Bits() && q.Contains(p.Addr()) }) {
				t.Fatalf("%s is not in %v", p, out)
			}
		}
	})
}

func TestGuardIsTakenByTheKernelAndComesBack(t *testing.T) {
	onHost(t, func(h *host) {
		cfg := guarded(peer("192.0.2.2", true, true, "10.40.0.0/13", "10.36.0.0/16"), peer("192.0.2.3", false, true, "10.40.0.9/32"))
		cfg.Guard.Refused = []nl.MAC{{2, 0, 0, 0, 0, 4}, {2, 0, 0, 0, 0, 5}}
		h.set(cfg)
		const look = "nft -s list table inet weft"
		want := h.run(look)
		for _, part := range []string{"chain guard-arriving", "chain guard-leaving", "chain guard-tunnel-in", "chain guard-tunnel-out", "chain clamp", "size set rt mtu", "10.40.0.9", `iifname "eth0" ether saddr @refused ip saddr 10.32.0.0/12 counter`, "02:00:00:00:00:04,"} {
			if !strings.Contains(want, part) {
				t.Errorf("%q is not in\n%s", part, want)
			}
		}
		h.run("nft flush chain inet weft guard-arriving")
		h.set(cfg)
		if got := h.run(look); got != want {
			t.Errorf("is\n%s\nwant\n%s", got, want)
		}
	})
}
