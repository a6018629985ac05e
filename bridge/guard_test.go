package bridge

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/weft-net/weft/internal/nl"
)

func guarded(peers ...GuardedPeer) Config {
	cfg := config()
	cfg.Tunnels = []string{"weft-vx", "weft-wg"}
	cfg.Guard = Guard{Direct: []string{"eth0"}, VXLAN: []string{"weft-vx"}, Port: 6784, VNI: 7, Peers: peers}
	return cfg
}

// peer is one whose id ends as its first end does.
func peer(end string, direct, vxlan bool, list ...string) GuardedPeer {
	p := GuardedPeer{Ends: []netip.Addr{netip.MustParseAddr(end)}, Direct: direct, VXLAN: vxlan}
	p.ID[15] = p.Ends[0].AsSlice()[3]
	for _, s := range list {
		p.Prefixes = append(p.Prefixes, netip.MustParsePrefix(s))
	}
	return p
}

func id(last byte) uuid.UUID { return uuid.UUID{15: last} }

func TestGuardLetsPlaintextOfThoseInThatMay(t *testing.T) {
	cfg := guarded(
		peer("192.0.2.2", true, true, "10.40.0.0/13"),
		peer("192.0.2.3", false, true, "10.36.0.0/14", "10.40.0.9/32"),
		peer("192.0.2.4", false, false, "10.34.0.0/15"))
	inet := tablesOf(cfg)[0]
	for name, want := range map[string]string{
		"vxlan-arriving": `counter name ip saddr map @vxlan-arriving accept
counter drop`,
		"guard-arriving": `iifname "weft" accept
udp dport 6784 @th,96,24 0x7 notrack
iifname "eth0" ip saddr 10.32.0.0/12 counter name ip saddr map @direct-arriving accept
iifname "weft-vx" goto vxlan-arriving
iifname "weft-wg" accept
ip saddr 10.32.0.0/12 iifname != "lo" counter drop`,
		"vxlan-leaving": `counter name ip daddr map @vxlan-leaving accept
counter drop`,
		"guard-leaving": `tcp flags & (syn|rst) == syn jump clamp
oifname "weft" accept
udp dport 6784 @th,96,24 0x7 goto ends-out
iifname != "weft" jump others
oifname "eth0" ip daddr 10.32.0.0/12 counter name ip daddr map @direct-leaving accept
oifname "weft-vx" goto vxlan-leaving
oifname "weft-wg" accept
ip daddr 10.32.0.0/12 oifname != "lo" counter drop`,
		"input":     `udp dport 6784 @th,96,24 0x7 goto ends-in`,
		"untracked": `udp dport 6784 @th,96,24 0x7 notrack`,
		"ends-in": `ip saddr @ends accept
ip6 saddr @ends6 accept
counter drop`,
		"ends-out": `iifname "weft" counter drop
ip daddr @ends accept
ip6 daddr @ends6 accept
counter drop`,
	} {
		if c, _ := inet.chain(name); strings.Join(c.rules, "\n") != want {
			t.Errorf("%s:\n%s\nwant:\n%s", name, strings.Join(c.rules, "\n"), want)
		}
	}
	for name, want := range map[string]string{
		"vxlan-arriving": strings.ReplaceAll(`10.36.0.0-10.39.255.255 "R3" 10.40.0.0-10.40.0.8 "R2" 10.40.0.10-10.47.255.255 "R2" 10.40.0.9 "R3"`, "R", "received_0000000000000000000000000000000"),
		"direct-leaving": strings.ReplaceAll(`10.40.0.0-10.40.0.8 "S2" 10.40.0.10-10.47.255.255 "S2"`, "S", "sent_0000000000000000000000000000000"),
		"ends":           "192.0.2.2 192.0.2.3", "ends6": "", "refused": "",
	} {
		if got := elements(inet, name); got != want {
			t.Errorf("set %s has %q, want %q", name, got, want)
		}
	}
}

func TestGuardLetsNoTunnelInTheClearLeaveByAnUntrustedDevice(t *testing.T) {
	for want, devices := range map[string][]string{
		"": nil, "oifname \"eth1\" counter drop\n": {"eth1"}, "oifname { \"eth1\", \"tun0\" } counter drop\n": {"eth1", "tun0"},
	} {
		cfg := guarded(peer("192.0.2.2", true, true, "10.40.0.0/13"))
		cfg.Guard.Untrusted = devices
		want = "iifname \"weft\" counter drop\n" + want + "ip daddr @ends accept\nip6 daddr @ends6 accept\ncounter drop"
		if c, _ := tablesOf(cfg)[0].chain("ends-out"); strings.Join(c.rules, "\n") != want {
			t.Errorf("%v: %s", devices, strings.Join(c.rules, "\n"))
		}
	}
}

func elements(t table, name string) string {
	s, ok := t.set(name)
	if !ok {
		return "no such set"
	}
	var out []string
	for _, k := range slices.Sorted(maps.Keys(s.elements)) {
		out = append(out, strings.TrimSuffix(k+" "+s.elements[k], " "))
	}
	return strings.Join(out, " ")
}

func TestGuardWithoutPlaintextLetsNoneIn(t *testing.T) {
	cfg := guarded(peer("192.0.2.2", false, false, "10.40.0.0/13"))
	inet := tablesOf(cfg)[0]
	for _, name := range []string{"direct-arriving", "direct-leaving", "vxlan-arriving", "vxlan-leaving", "ends", "ends6"} {
		if got := elements(inet, name); got != "" {
			t.Errorf("set %s has %q", name, got)
		}
	}
	if len(inet.looked) > 0 {
		t.Errorf("counters %v", inet.looked)
	}
	cfg.Guard = Guard{}
	cfg.Tunnels = []string{"weft-wg"}
	inet = tablesOf(cfg)[0]
	if c, _ := inet.chain("guard-arriving"); len(c.rules) != 3 || len(inet.sets) != 0 {
		t.Errorf("without any transport in the clear: %q, %v", c.rules, inet.sets)
	}
}

func TestEveryAddressIsOfThePeerWithTheLongestPrefix(t *testing.T) {
	prefix := rapid.Custom(func(t *rapid.T) netip.Prefix {
		a := netip.AddrFrom4([4]byte{255, 255, 255, rapid.Byte().Draw(t, "last")})
		return netip.PrefixFrom(a, rapid.IntRange(24, 32).Draw(t, "bits")).Masked()
	})
	rapid.Check(t, func(t *rapid.T) {
		var peers []GuardedPeer
		for i, list := range rapid.SliceOfN(rapid.SliceOf(prefix), 0, 4).Draw(t, "peers") {
			peers = append(peers, GuardedPeer{ID: id(byte(i)), Prefixes: list})
		}
		cut := spans(rapid.Permutation(peers).Draw(t, "order"))
		for last := range 256 {
			a := netip.AddrFrom4([4]byte{255, 255, 255, byte(last)})
			want, bits := "nobody", -1
			for _, p := range peers {
				for _, prefix := range p.Prefixes {
					if prefix.Contains(a) && prefix.Bits() > bits {
						want, bits = p.ID.String(), prefix.Bits()
					}
				}
			}
			got, times := "nobody", 0
			for _, s := range cut {
				if s.first.Compare(a) <= 0 && a.Compare(s.last) <= 0 {
					got, times = s.peer.ID.String(), times+1
				}
			}
			if got != want || times > 1 {
				t.Fatalf("%s is %s's (%d times), want %s's: %v", a, got, times, want, cut)
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
		for _, part := range []string{"chain guard-arriving", "chain guard-leaving", "chain ends-in", "chain ends-out", "chain clamp", "size set rt mtu", "10.40.0.9", `iifname "eth0" ether saddr @refused ip saddr 10.32.0.0/12 counter`, "02:00:00:00:00:04,"} {
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

func TestGuardCountsWhatPassesAndGoesOnWhenPeersComeAndGo(t *testing.T) {
	onHost(t, func(h *host) {
		cfg := guarded(peer("192.0.2.2", true, true, "10.40.0.0/13"), peer("192.0.2.3", true, true, "10.36.0.0/14"))
		h.run("ip link add eth0 type veth peer name far; ip link set eth0 up; ip link set far up; ip address add 192.0.2.1/24 dev eth0; " +
			"ip neigh add 192.0.2.2 lladdr 02:00:00:00:00:02 dev eth0; ip route add 10.40.0.0/13 via 192.0.2.2; ip neigh add 192.0.2.3 lladdr 02:00:00:00:00:03 dev eth0; ip route add 10.36.0.0/14 via 192.0.2.3")
		send := func(to string, times int) {
			h.run(fmt.Sprintf("ping -q -c %d -i 0.01 -W 0.1 -s 72 %s || true", times, to))
		}
		sent := func(peer byte) uint64 { return PassedInTheClear(cfg.Name)[id(peer)].Sent }
		h.set(cfg)
		h.set(cfg) // which finds that nobody else changes anything
		send("10.40.0.1", 3)
		if got := sent(2); got != 300 {
			t.Errorf("3 packets of 100 bytes: %d", got)
		}
		before := h.run("nft -a list chain inet weft guard-leaving")
		cfg.Guard.Peers = append(cfg.Guard.Peers, peer("192.0.2.4", true, true, "10.34.0.0/15"))
		cfg.Guard.Peers[1].Prefixes = append(cfg.Guard.Peers[1].Prefixes, netip.MustParsePrefix("10.40.0.9/32"))
		h.set(cfg)
		if after := h.run("nft -a list chain inet weft guard-leaving"); after != before {
			t.Errorf("the rules were made anew for one more peer:\n%s", after)
		}
		send("10.40.0.9", 1)
		send("10.40.0.1", 2)
		if two, three := sent(2), sent(3); two != 500 || three != 100 {
			t.Errorf("after a lease the counters are %d and %d", two, three)
		}
		cfg.Masquerade = !cfg.Masquerade // other rules
		h.set(cfg)
		if got := sent(2); got != 500 {
			t.Errorf("after all rules were made anew: %d", got)
		}
		cfg.Guard.Peers = cfg.Guard.Peers[1:]
		h.set(cfg)
		if rules := h.run("nft list table inet weft"); strings.Contains(rules, receivedBy(id(2))) {
			t.Errorf("of a peer that went:\n%s", rules)
		}
	})
}
