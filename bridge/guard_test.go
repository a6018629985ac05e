package bridge

import (
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
	got := guard(guarded(
		peer("192.0.2.2", true, true, "10.40.0.0/13"),
		peer("192.0.2.3", false, true, "10.36.0.0/14", "10.40.0.9/32"),
		peer("192.0.2.4", false, false, "10.34.0.0/15")))
	for what, tc := range map[string]struct {
		got  []string
		want string
	}{
		"arriving": {got.arriving, `iifname "weft-vx" ip saddr != { 10.36.0.0/14, 10.40.0.0/13 } counter drop
iifname "eth0" ip saddr { 10.40.0.9/32 } counter drop
iifname "eth0" ip saddr 10.32.0.0/12 ip saddr != { 10.40.0.0/13 } counter drop
iifname != { "lo", "weft", "weft-vx", "weft-wg", "eth0" } ip saddr 10.32.0.0/12 counter drop`},
		"leaving": {got.leaving, `oifname "weft-vx" ip daddr != { 10.36.0.0/14, 10.40.0.0/13 } counter drop
oifname "eth0" ip daddr { 10.40.0.9/32 } counter drop
oifname "eth0" ip daddr 10.32.0.0/12 ip daddr != { 10.40.0.0/13 } counter drop
oifname != { "lo", "weft", "weft-vx", "weft-wg", "eth0" } ip daddr 10.32.0.0/12 counter drop`},
		"tunnel in": {got.tunnelIn, `udp dport 6784 @th,96,24 0x7 ip saddr != { 192.0.2.2, 192.0.2.3 } counter drop
udp dport 6784 @th,96,24 0x7 meta nfproto ipv6 counter drop`},
		"tunnel out": {got.tunnelTo, `udp dport 6784 @th,96,24 0x7 ip daddr != { 192.0.2.2, 192.0.2.3 } counter drop
udp dport 6784 @th,96,24 0x7 meta nfproto ipv6 counter drop`},
	} {
		if got := strings.Join(tc.got, "\n"); got != tc.want {
			t.Errorf("%s:\n%s\nwant:\n%s", what, got, tc.want)
		}
	}
}

func TestGuardWithoutPlaintextLetsNoneIn(t *testing.T) {
	cfg := guarded(peer("192.0.2.2", false, false, "10.40.0.0/13"))
	got := guard(cfg)
	if got.tunnelIn[0] != "udp dport 6784 @th,96,24 0x7 meta nfproto ipv4 counter drop" || got.arriving[0] != `iifname "weft-vx" counter drop` {
		t.Errorf("%+v", got)
	}
	cfg.Guard = Guard{}
	cfg.Tunnels = []string{"weft-wg"}
	if got := guard(cfg); len(got.arriving) != 1 || len(got.leaving) != 1 || got.tunnelIn != nil || got.tunnelTo != nil {
		t.Errorf("without any transport in the clear: %+v", got)
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
		for _, part := range []string{"chain guard-arriving", "chain guard-leaving", "chain guard-tunnel-in", "chain guard-tunnel-out", "chain clamp", "size set rt mtu", "10.40.0.9", `iifname "eth0" ether saddr { 02:00:00:00:00:04, 02:00:00:00:00:05 } ip saddr 10.32.0.0/12 counter`} {
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
