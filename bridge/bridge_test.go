package bridge

import (
	"errors"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"os/exec"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/weft-net/weft/internal/nl"
)

// saved is a SysctlSaver in memory.
type saved map[string]string

func (s saved) SaveSysctl(key, value string) error {
	if _, ok := s[key]; !ok {
		s[key] = value
	}
	return nil
}

// host is a network namespace that a Bridge works in, and one for a container.
type host struct {
	t *testing.T
	*Bridge
	sysctls saved
	guests  []*nl.Namespace
}

// onHost runs a test in a namespace of its own. Subtests would be outside of
// it: they have goroutines of their own.
func onHost(t *testing.T, fn func(h *host)) {
	t.Helper()
	ns, err := nl.NewNamespace()
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	h := &host{t: t, sysctls: saved{}}
	for range 3 {
		g, err := nl.NewNamespace()
		if err != nil {
			t.Fatal(err)
		}
		defer g.Close()
		h.guests = append(h.guests, g)
	}
	err = ns.Do(func() error {
		if h.Bridge, err = New(h.sysctls, slog.New(slog.DiscardHandler)); err != nil {
			return err
		}
		defer h.Close()
		h.run("ip link set lo up; sysctl -q -w net.ipv6.conf.default.disable_ipv6=1")
		fn(h)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func (h *host) run(cmd string) string {
	h.t.Helper()
	out, err := exec.Command("sh", "-c", cmd).CombinedOutput()
	if err != nil {
		h.t.Errorf("%s: %v: %s", cmd, err, out)
	}
	return string(out)
}

const everything = "ip -o link | grep -v '@if'; ip -o address; ip route show table all; nft -a list ruleset; sysctl net.ipv4.ip_forward net.ipv4.conf.all.accept_redirects net.ipv4.conf.lo.forwarding"

func config() Config {
	return Config{
		Name: "weft", MAC: net.HardwareAddr{0x0e, 1, 2, 3, 4, 5}, Alias: nl.AliasPrefix + "test", MTU: 1450,
		Range: netip.MustParsePrefix("10.32.0.0/12"), Gateway: netip.MustParseAddr("10.32.0.1"),
		Prefixes: []netip.Prefix{netip.MustParsePrefix("10.32.0.0/13")}, Tunnels: []string{"weft-vx"}, Masquerade: true,
	}
}

// port of guest n. Its namespace has no name, so it goes by our descriptor.
func (h *host) port(n int, addr string) Port {
	cookie, err := h.guests[n].Cookie()
	if err != nil {
		h.t.Fatal(err)
	}
	return Port{NetNS: h.guests[n].ProcPath(), Cookie: cookie, Interface: "eth0", HostInterface: HostInterfaceName(cookie, "eth0"),
		Address: netip.PrefixFrom(netip.MustParseAddr(addr), 12), DefaultRoute: true}
}

func (h *host) inGuest(n int, cmd string) (out string, err error) {
	_ = h.guests[n].Do(func() error {
		var b []byte
		b, err = exec.Command("sh", "-c", cmd).CombinedOutput()
		out = string(b)
		return nil
	})
	return out, err
}

func (h *host) pings(n int, addr string) bool {
	_, err := h.inGuest(n, "ping -c 1 -W 1 "+addr)
	return err == nil
}

func (h *host) set(cfg Config) {
	h.t.Helper()
	h.firewall.looked = h.firewall.looked.Add(-firewallEvery) // look at once
	if err := h.Set(cfg); err != nil {
		h.t.Fatal(err)
	}
}

func TestSetTwiceChangesNothingAndRemoveTakesAllBack(t *testing.T) {
	onHost(t, func(h *host) {
		before := h.run(everything)
		h.set(config())
		first := h.run(everything)
		for _, want := range []string{"10.32.0.1/32", "10.32.0.0/13 dev weft", "unreachable 10.32.0.0/12", "masquerade", "net.ipv4.ip_forward = 1"} {
			if !strings.Contains(first, want) {
				t.Errorf("%q is not in\n%s", want, first)
			}
		}
		h.set(config())
		if again := h.run(everything); again != first {
			t.Errorf("the second Set changed something:\n%s\nwas:\n%s", again, first)
		}
		if _, err := h.Remove("weft", []string{"weft-vx"}, h.sysctls); err != nil {
			t.Fatal(err)
		}
		if after := h.run(everything); after != before {
			t.Errorf("Remove leaves:\n%s\nwas:\n%s", after, before)
		}
	})
}

func TestContainersOnTheBridgeReachEachOtherAndTheHost(t *testing.T) {
	onHost(t, func(h *host) {
		cfg := config()
		cfg.Ports = []Port{h.port(0, "10.32.0.2"), h.port(1, "10.32.0.3")}
		h.set(cfg)
		if !h.pings(0, "10.32.0.3") || !h.pings(1, "10.32.0.1") {
			t.Error("no ping")
		}
		out, _ := h.inGuest(0, "ip -o link show eth0; ip -o address show eth0; ip route")
		for _, want := range []string{"0a:57:0a:20:00:02", "mtu 1450", "10.32.0.2/12", "default via 10.32.0.1"} {
			if !strings.Contains(out, want) {
				t.Errorf("%q is not in\n%s", want, out)
			}
		}
	})
}

func TestNobodyAnswersForAnAddressOfNoPeer(t *testing.T) {
	onHost(t, func(h *host) {
		cfg := config()
		cfg.Ports = []Port{h.port(0, "10.32.0.2")}
		h.set(cfg)
		if h.pings(0, "10.40.0.7") {
			t.Error("10.40.0.7 answers")
		}
		if out, _ := h.inGuest(0, "ip neigh show 10.40.0.7"); strings.Contains(out, "lladdr") {
			t.Errorf("ARP is answered: %s", out)
		}
	})
}

func TestAddressThatMovedToAnotherContainerIsReachedAtOnce(t *testing.T) {
	onHost(t, func(h *host) {
		cfg := config()
		old, moved, watcher := h.port(0, "10.32.0.2"), h.port(2, "10.32.0.2"), h.port(1, "10.32.0.3")
		cfg.Ports = []Port{old, watcher}
		h.set(cfg)
		if !h.pings(1, "10.32.0.2") {
			t.Fatal("no ping")
		}
		if err := h.Unplumb(cfg, old); err != nil {
			t.Fatal(err)
		}
		if err := h.Plumb(cfg, moved); err != nil {
			t.Fatal(err)
		}
		if !h.pings(1, "10.32.0.2") {
			t.Error("the first ping is lost")
		}
	})
}

func TestPlumbRefusesWhatIsNotOursAndUndoes(t *testing.T) {
	onHost(t, func(h *host) {
		cfg := config()
		h.set(cfg)
		links := h.run("ip -o link")
		if _, err := h.inGuest(0, "ip link add eth0 type bridge"); err != nil {
			t.Fatal(err)
		}
		if err := h.Plumb(cfg, h.port(0, "10.32.0.2")); err == nil || !strings.Contains(err.Error(), "has an interface eth0 already") {
			t.Errorf("Plumb over a foreign interface: %v", err)
		}
		gone := h.port(1, "10.32.0.2")
		gone.Cookie++
		if err := h.Plumb(cfg, gone); !errors.Is(err, nl.ErrNotFound) {
			t.Errorf("Plumb of another namespace: %v", err)
		}
		gone.NetNS = "/run/netns/there-is-none"
		if err := h.Plumb(cfg, gone); !errors.Is(err, nl.ErrNotFound) {
			t.Errorf("Plumb of no namespace: %v", err)
		}
		if now := h.run("ip -o link"); now != links {
			t.Errorf("left behind:\n%s\nwas:\n%s", now, links)
		}
	})
}

func TestForeignDeviceOfTheBridgesNameIsLeftAlone(t *testing.T) {
	onHost(t, func(h *host) {
		h.run("ip link add weft type bridge")
		if err := h.Set(config()); err == nil || !strings.Contains(err.Error(), "is not weft's") {
			t.Errorf("Set = %v", err)
		}
		if _, err := h.Remove("weft", nil, nil); err != nil {
			t.Error(err)
		}
		h.run("ip link show weft")
	})
}

func TestAcceptingRulesGoWhereTheDroppingIsAndComeBack(t *testing.T) {
	for name, tc := range map[string]struct{ drop, list string }{
		"iptables-nft":    {"iptables-nft -P FORWARD DROP", "iptables-nft -S"},
		"iptables-legacy": {"iptables-legacy -P FORWARD DROP", "iptables-legacy -S"},
		"Docker":          {"iptables-nft -N DOCKER-USER; iptables-nft -A DOCKER-USER -j RETURN; iptables-nft -A FORWARD -j DOCKER-USER; iptables-nft -P FORWARD DROP", "iptables-nft -S"},
		"nft":             {"nft 'add table inet mine; add chain inet mine f { type filter hook forward priority 0; policy drop; }'", "nft list table inet mine"},
	} {
		t.Run(name, func(t *testing.T) {
			onHost(t, func(h *host) {
				h.run(tc.drop)
				before := h.run(tc.list)
				cfg := config()
				cfg.Ports = []Port{h.port(0, "10.32.0.2"), h.port(1, "10.32.0.3")}
				h.set(cfg)
				h.run("sysctl -q -w net.bridge.bridge-nf-call-iptables=1")
				if !h.pings(0, "10.32.0.3") {
					t.Errorf("dropped:\n%s", h.run(tc.list))
				}
				rules := h.run(tc.list)
				h.set(cfg)
				if again := h.run(tc.list); again != rules {
					t.Errorf("the second Set changed the rules:\n%s\nwas:\n%s", again, rules)
				}
				if _, err := h.Remove("weft", cfg.Tunnels, h.sysctls); err != nil {
					t.Fatal(err)
				}
				if after := h.run(tc.list); after != before {
					t.Errorf("Remove leaves:\n%s\nwas:\n%s", after, before)
				}
			})
		})
	}
}

func TestHostsWithoutIptablesGetNoTables(t *testing.T) {
	onHost(t, func(h *host) {
		h.set(config())
		if out := h.run("nft list tables; cat /proc/thread-self/net/ip_tables_names 2>/dev/null || true"); strings.TrimSpace(out) != "table inet weft" {
			t.Errorf("tables: %s", out)
		}
	})
}

func TestRulesNeverMasqueradeInsideOfTheRange(t *testing.T) {
	want := `ip saddr 10.32.0.0/12 ip daddr != { 10.32.0.0/12, 224.0.0.0/4, 255.255.255.255 } oifname != { "weft", "weft-vx" } masquerade`
	if got := rules(config()); len(got) != 1 || got[0] != want {
		t.Errorf("rules:\n%q\nwant:\n%q", got, want)
	}
	cfg := config()
	cfg.Masquerade = false
	if got := rules(cfg); len(got) != 0 {
		t.Errorf("without masquerading: %q", got)
	}
}

func TestSysctlsAreRestoredExactly(t *testing.T) {
	onHost(t, func(h *host) {
		h.run("ip link add d0 type veth peer name d1; sysctl -q -w net.ipv4.conf.d0.forwarding=1 net.ipv4.conf.all.accept_redirects=0")
		look := "sysctl -a -r '^net.ipv4.(conf|ip_forward)' 2>/dev/null"
		before := h.run(look)
		h.set(config())
		if _, err := h.Remove("weft", nil, maps.Clone(h.sysctls)); err != nil {
			t.Fatal(err)
		}
		if after := h.run(look); after != before {
			t.Errorf("sysctls differ after Remove")
		}
	})
}

func TestNamesAndAddressesOfPorts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := rapid.Uint32().Draw(t, "a"), rapid.Uint32().Draw(t, "b")
		x := netip.AddrFrom4([4]byte{byte(a >> 24), byte(a >> 16), byte(a >> 8), byte(a)})
		y := netip.AddrFrom4([4]byte{byte(b >> 24), byte(b >> 16), byte(b >> 8), byte(b)})
		if (x == y) != (MACOf(x).String() == MACOf(y).String()) || MACOf(x)[0]&3 != 2 {
			t.Fatalf("%s has %s, %s has %s", x, MACOf(x), y, MACOf(y))
		}
		if n := HostInterfaceName(uint64(a), "eth0"); len(n) > 15 || n == HostInterfaceName(uint64(a), "eth1") {
			t.Fatalf("name %q", n)
		}
	})
}
