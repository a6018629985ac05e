package bridge

import (
	"fmt"
	"maps"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/internal/nl"
	"github.com/weft-net/weft/internal/ula"
)

// dual is config with IPv6 beside IPv4, on a host that has it on.
func (h *host) dual() Config {
	h.run("sysctl -q -w net.ipv6.conf.default.disable_ipv6=0 net.ipv6.conf.lo.disable_ipv6=0")
	cfg := config()
	cfg.IPv6 = ula.Of(uuid.MustParse("7d1c6f9e-0c1b-4d6e-9a53-2f5f5b0f8a11"))
	return cfg
}

// six is the IPv6 address that goes with an IPv4 one.
func six(cfg Config, addr string) string {
	return cfg.IPv6.Addr(netip.MustParseAddr(addr)).String()
}

func TestContainersReachEachOtherAndTheHostByIPv6AndNobodyAsksForNeighbours(t *testing.T) {
	onHost(t, func(h *host) {
		cfg := h.dual()
		a, b := h.port(0, "10.32.0.2"), h.port(1, "10.32.0.3")
		b.More = h.port(1, "10.32.0.5").Addresses()
		cfg.Ports = []Port{a, b}
		cfg.Exposed = []netip.Addr{netip.MustParseAddr("10.32.0.9")}
		h.set(cfg)
		for _, to := range []string{"10.32.0.3", "10.32.0.5", "10.32.0.1", "10.32.0.9"} {
			if !h.pings(0, six(cfg, to)) {
				t.Errorf("no ping to %s", six(cfg, to))
			}
		}
		h.run("ping -c 1 -W 1 " + six(cfg, "10.32.0.5"))
		out, _ := h.inGuest(0, "ip -6 address show eth0; ip -6 route; ip -6 neigh")
		for _, want := range []string{
			six(cfg, "10.32.0.2") + "/128 scope global nodad", cfg.IPv6.Prefix(cfg.Range).String() + " via fe80::1", "default via fe80::1",
			"fe80::1 dev eth0 lladdr 0e:01:02:03:04:05 PERMANENT",
		} {
			if !strings.Contains(out, want) {
				t.Errorf("%q is not in\n%s", want, out)
			}
		}
		if strings.Contains(out, "tentative") {
			t.Errorf("addresses wait to be found free:\n%s", out)
		}
		const asked = "grep -E 'Icmp6Out(NeighborSolicits|Redirects)' /proc/net/snmp6 | awk '{n += $2} END {print n}'"
		for n := range 2 {
			if out, _ := h.inGuest(n, asked); strings.TrimSpace(out) != "0" {
				t.Errorf("container %d has sent %s solicitations", n, out)
			}
		}
		// The ports of the bridge ask whether their own link-local addresses are free.
		if out := h.run("grep Icmp6OutRedirects /proc/net/snmp6; ip -6 neigh show dev weft"); strings.Fields(out)[1] != "0" || strings.Contains(out, "REACHABLE") {
			t.Errorf("the host has sent redirects, or asked for neighbours: %s", out)
		}
	})
}

func TestNobodyAnswersForAnIPv6AddressOfNoPeer(t *testing.T) {
	onHost(t, func(h *host) {
		cfg := h.dual()
		cfg.Ports = []Port{h.port(0, "10.32.0.2")}
		h.set(cfg)
		nobody := six(cfg, "10.40.0.7")
		if out, err := h.inGuest(0, "ping -c 1 -W 3 "+nobody); err == nil || !strings.Contains(out, "Destination unreachable: No route") {
			t.Errorf("it is not refused at once: %s", out)
		}
		out, _ := h.inGuest(0, "ip -6 route add "+nobody+" dev eth0; ping -c 1 -W 1 "+nobody+"; ip -6 neigh show "+nobody)
		if strings.Contains(out, "lladdr") {
			t.Errorf("neighbour discovery is answered: %s", out)
		}
	})
}

func TestIPv6AddressThatMovedIsReachedAtOnce(t *testing.T) {
	onHost(t, func(h *host) {
		cfg := h.dual()
		second := func(n int, first string) Port {
			p := h.port(n, first)
			p.More = h.port(n, "10.32.0.9").Addresses()
			return p
		}
		// As the second address of others it has another hardware address there.
		old, watcher := second(0, "10.32.0.2"), h.port(1, "10.32.0.3")
		cfg.Ports = []Port{old, watcher}
		h.set(cfg)
		if !h.pings(1, six(cfg, "10.32.0.9")) {
			t.Fatal("no ping")
		}
		if err := h.Unplumb(cfg, old); err != nil {
			t.Fatal(err)
		}
		moved := second(2, "10.32.0.7")
		cfg.Ports = []Port{watcher, moved}
		if _, err := h.Plumb(cfg, moved); err != nil {
			t.Fatal(err)
		}
		if !h.pings(1, six(cfg, "10.32.0.9")) {
			t.Error("the first ping is lost")
		}
		h.set(cfg)
		if out := h.run("ip -6 neigh show dev weft nud permanent"); strings.Contains(out, six(cfg, "10.32.0.2")+" ") || strings.Count(out, "\n") != 3 {
			t.Errorf("neighbours:\n%s", out)
		}
	})
}

const everything6 = everything + "; ip -6 route show table all; ip -6 neigh show nud permanent; sysctl -a -r '^net.ipv6.conf' 2>/dev/null | grep -v -E 'conf.weft'"

func TestSetTwiceChangesNothingInIPv6AndRemoveTakesAllBack(t *testing.T) {
	onHost(t, func(h *host) {
		cfg := h.dual()
		h.run("ip link add d0 type veth peer name d1; sysctl -q -w net.ipv6.conf.d1.forwarding=1")
		before := h.run(everything6)
		h.set(cfg)
		first := h.run(everything6)
		rng := cfg.IPv6.Prefix(cfg.Range).String()
		for _, want := range []string{
			six(cfg, "10.32.0.1") + "/128", cfg.IPv6.Prefix(cfg.Prefixes[0]).String() + " dev weft", "unreachable " + rng, "ip6 saddr " + rng,
			"net.ipv6.conf.all.forwarding = 1", "net.ipv6.conf.d0.accept_ra = 2", "net.ipv6.conf.d1.accept_ra = 1", "net.ipv6.conf.default.accept_ra = 1",
		} {
			if !strings.Contains(first, want) {
				t.Errorf("%q is not in\n%s", want, first)
			}
		}
		h.set(cfg)
		if again := h.run(everything6); again != first {
			t.Errorf("the second Set changed something:\n%s\nwas:\n%s", again, first)
		}
		if _, err := h.Remove("weft", []string{"weft-vx"}, maps.Clone(h.sysctls), ula.Ranges{}); err != nil {
			t.Fatal(err)
		}
		if after := h.run(everything6); after != before {
			t.Errorf("Remove leaves:\n%s\nwas:\n%s", after, before)
		}
	})
}

func TestLinkLocalAddressOfTheBridgeGoesAgain(t *testing.T) {
	onHost(t, func(h *host) {
		cfg := h.dual()
		h.set(cfg)
		h.run("ip address add fe80::9/64 dev weft")
		h.set(cfg)
		if out := h.run("ip -6 address show dev weft"); strings.Contains(out, "fe80") {
			t.Errorf("the bridge could send redirects:\n%s", out)
		}
	})
}

func TestWhereIPv6IsOffIPv4WorksAlone(t *testing.T) {
	onHost(t, func(h *host) {
		cfg := h.dual()
		if _, err := h.inGuest(1, "sysctl -q -w net.ipv6.conf.default.disable_ipv6=1"); err != nil {
			t.Fatal(err)
		}
		cfg.Ports = []Port{h.port(0, "10.32.0.2"), h.port(1, "10.32.0.3")}
		h.set(cfg)
		if !h.pings(0, "10.32.0.3") || !h.pings(0, six(cfg, "10.32.0.1")) {
			t.Error("no ping with IPv6 off in one container")
		}
		h.run("sysctl -q -w net.ipv6.conf.all.disable_ipv6=1")
		h.set(cfg)
		if !h.pings(0, "10.32.0.3") {
			t.Error("no ping with IPv6 off on the host")
		}
		h.run("sysctl -q -w net.ipv6.conf.all.disable_ipv6=0")
		h.set(cfg)
		if !h.pings(0, six(cfg, "10.32.0.1")) {
			t.Error("IPv6 does not come back when it is on again")
		}
	})
	onHost(t, func(h *host) {
		cfg := h.dual()
		cfg.MTU = 1200
		cfg.Ports = []Port{h.port(0, "10.32.0.2"), h.port(1, "10.32.0.3")}
		h.set(cfg)
		if !h.pings(0, "10.32.0.3") {
			t.Error("no ping with an MTU that has no room for IPv6")
		}
	})
}

func TestDroppingIP6tablesLetIPv6Pass(t *testing.T) {
	for name, drop := range map[string]string{
		"ip6tables-nft":    "ip6tables-nft -P FORWARD DROP",
		"ip6tables-legacy": "ip6tables-legacy -P FORWARD DROP",
		"Docker":           dockerWith("ip6tables-nft"),
		"nft":              "nft 'add table ip6 mine; add chain ip6 mine f { type filter hook forward priority 0; policy drop; }'",
		"nft of both":      "nft 'add table inet mine; add chain inet mine f { type filter hook forward priority 0; policy drop; }'",
	} {
		t.Run(name, func(t *testing.T) {
			onHost(t, func(h *host) {
				const rules = "nft -a -s list ruleset; grep -q filter /proc/thread-self/net/ip6_tables_names && ip6tables-legacy -S; true"
				cfg := h.dual()
				h.run(drop)
				before := h.run(rules)
				cfg.Ports = []Port{h.port(0, "10.32.0.2"), h.port(1, "10.32.0.3")}
				h.set(cfg)
				h.run("sysctl -q -w net.bridge.bridge-nf-call-ip6tables=1")
				if !h.pings(0, six(cfg, "10.32.0.3")) {
					t.Errorf("dropped:\n%s", h.run(rules))
				}
				if _, err := h.Remove("weft", cfg.Tunnels, h.sysctls, ula.Ranges{}); err != nil {
					t.Fatal(err)
				}
				if after := h.run(rules); after != before {
					t.Errorf("Remove leaves:\n%s\nwas:\n%s", after, before)
				}
			})
		})
	}
}

// uplink connects the host with guest 2, which stands for what lies outside.
func (h *host) uplink() {
	if _, err := h.conn.CreateVeth(nl.Veth{Host: "up0", Peer: "up1", MTU: 1500, PeerNS: h.guests[2]}); err != nil {
		h.t.Fatal(err)
	}
	h.run("sysctl -q -w net.ipv6.conf.up0.accept_dad=0; ip link set up0 up; ip address add 2001:db8::1/64 dev up0 nodad")
	if out, err := h.inGuest(2, "sysctl -q -w net.ipv6.conf.up1.accept_dad=0; ip link set up1 up; ip address add 2001:db8::2/64 dev up1 nodad; until ip link show up1 | grep -q 'state UP'; do sleep 0.01; done"); err != nil {
		h.t.Fatal(err, out)
	}
}

func TestIPv6LeavesTheRangeMasqueraded(t *testing.T) {
	onHost(t, func(h *host) {
		cfg := h.dual()
		h.uplink()
		cfg.Ports = []Port{h.port(0, "10.32.0.2")}
		h.set(cfg)
		if !h.pings(0, "2001:db8::2") { // who has no way back to the container
			t.Error("no ping")
		}
		cfg.Masquerade = false
		h.set(cfg)
		if h.pings(0, "2001:db8::2") {
			t.Error("a ping comes back though its address is not hidden")
		}
	})
}

func TestDefaultRouteOfARouterAdvertisementOutlivesSetAndRemove(t *testing.T) {
	onHost(t, func(h *host) {
		cfg := h.dual()
		h.uplink()
		hasRoute := func() bool { return strings.Contains(h.run("ip -6 route show default"), "proto ra") }
		// The first may come before the devices are ready.
		for end := time.Now().Add(30 * time.Second); !hasRoute(); time.Sleep(50 * time.Millisecond) {
			err := h.guests[2].Do(func() error { return advertiseRouter("up1") })
			if time.Now().After(end) {
				t.Fatal("advertisements make no route:", err)
			}
		}
		h.set(cfg)
		if !hasRoute() || !strings.Contains(h.run("sysctl net.ipv6.conf.all.forwarding"), "= 1") {
			t.Error("the host that forwards has lost its default route")
		}
		if _, err := h.Remove("weft", nil, maps.Clone(h.sysctls), ula.Ranges{}); err != nil {
			t.Fatal(err)
		}
		if out := h.run("sysctl net.ipv6.conf.up0.accept_ra net.ipv6.conf.all.forwarding"); !hasRoute() || !strings.Contains(out, "accept_ra = 1") || !strings.Contains(out, "forwarding = 0") {
			t.Errorf("after Remove: %s", out)
		}
	})
}

// advertiseRouter sends a router advertisement (RFC 4861, 4.2) by a device.
func advertiseRouter(device string) error {
	dev, err := net.InterfaceByName(device)
	if err != nil {
		return err
	}
	s, err := unix.Socket(unix.AF_INET6, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_ICMPV6)
	if err != nil {
		return err
	}
	defer unix.Close(s)
	if err := unix.SetsockoptInt(s, unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_HOPS, 255); err != nil {
		return err
	}
	// Type, code, checksum by the kernel, hop limit, flags, a lifetime of half
	// an hour, and two times that are left open.
	ra := append([]byte{134, 0, 0, 0, 64, 0, 0x07, 0x08}, make([]byte, 8)...)
	all := netip.IPv6LinkLocalAllNodes().As16()
	return unix.Sendto(s, ra, 0, &unix.SockaddrInet6{Addr: all, ZoneId: uint32(dev.Index)})
}

func TestGuardCoversIPv6AsItDoesIPv4(t *testing.T) {
	p := peer("192.0.2.2", false, true, "10.40.0.0/13")
	p.Ends = append(p.Ends, netip.MustParseAddr("2001:db8::2"))
	cfg := guarded(p, peer("192.0.2.3", false, false, "10.36.0.0/14"))
	cfg.IPv6 = ula.Of(uuid.MustParse("7d1c6f9e-0c1b-4d6e-9a53-2f5f5b0f8a11"))
	rng := cfg.IPv6.Prefix(cfg.Range).String()
	rules := ""
	for _, c := range guard(cfg, arriving, "") {
		rules += strings.Join(c.rules, "\n") + "\n"
	}
	for _, want := range []string{
		"counter name ip6 saddr map @vxlan-arriving6 accept",
		`iifname "eth0" ip6 saddr ` + rng + ` counter name ip6 saddr map @direct-arriving6 accept`,
		`iifname "weft-vx" goto vxlan-arriving`,
		`ip6 saddr ` + rng + ` iifname != "lo" counter drop`,
	} {
		if !strings.Contains(rules, want) {
			t.Errorf("%s is not in\n%s", want, rules)
		}
	}
	theirs := fmt.Sprintf("%s-%s %q", cfg.IPv6.Addr(netip.MustParseAddr("10.40.0.0")), cfg.IPv6.Addr(netip.MustParseAddr("10.47.255.255")), receivedBy(p.ID))
	inet := tablesOf(cfg)[0]
	if vxlan, direct := elements(inet, "vxlan-arriving6"), elements(inet, "direct-arriving6"); vxlan != theirs || direct != "" {
		t.Errorf("by VXLAN %q, want %q, and direct %q", vxlan, theirs, direct)
	}
	if got := elements(inet, "ends6"); got != "2001:db8::2" {
		t.Errorf("ends: %v", got)
	}
}
