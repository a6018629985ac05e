package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/weft-net/weft/internal/netlab"
)

// dualStack makes two hosts that trust each other on an underlay of both families,
// or of IPv6 alone.
func dualStack(t *testing.T, ipv6Alone bool) []*netlab.Host {
	t.Helper()
	lab := newLab(t)
	hosts := []*netlab.Host{lab.Host("h1"), lab.Host("h2")}
	for _, h := range hosts {
		on6(h, ipv6Alone)
	}
	const trust = "192.0.2.0/24,2001:db8::/64"
	advertise := func(h *netlab.Host) []string {
		six := fmt.Sprintf("2001:db8::%d", h.Addr.As4()[3])
		if ipv6Alone {
			return []string{"--advertise", six}
		}
		return []string{"--advertise", h.Addr.String() + "," + six}
	}
	launched := hosts[0].Try(append([]string{"weft", "launch", "--trusted-subnets", trust}, advertise(hosts[0])...)...)
	if launched.Code != 0 || !strings.Contains(launched.Stderr, "NOT ENCRYPTED within "+strings.ReplaceAll(trust, ",", ", ")) {
		t.Fatalf("launch: %+v", launched)
	}
	join := strings.Fields(launched.Stdout)
	hosts[1].Run(append(append(join, "--trusted-subnets", trust), advertise(hosts[1])...)...)
	return hosts
}

func TestIPv6AloneOnTheUnderlayCarriesBothFamiliesDirectly(t *testing.T) {
	hosts := dualStack(t, true)
	for i, h := range hosts {
		uses(t, h, hosts[1-i], "direct")
	}
	a, _, _ := attachedDual(t, hosts[0], "a")
	_, c4, c6 := attachedDual(t, hosts[1], "c")
	answering(t, hosts...)
	counted(t, hosts, a, c4) // by a next hop in IPv6
	counted(t, hosts, a, c6)
	l := linkTo(t, hosts[0], hosts[1])
	if l.TransportIPv6 != "" || l.MTU != 1500 || l.Underlay.String() != "2001:db8::2" {
		t.Errorf("the link is %+v", l)
	}
	hosts[1].Run("nft", "table netdev direct { chain c { type filter hook ingress device eth0 priority 0; ip saddr 10.32.0.0/12 drop; }; }")
	uses(t, hosts[0], hosts[1], "vxlan")
	uses(t, hosts[1], hosts[0], "vxlan")
	counted(t, hosts, a, c4)
	counted(t, hosts, a, c6)
	sent := *linkTo(t, hosts[0], hosts[1]).Sent
	hosts[0].Run("weft", "stop")
	hosts[0].Run("weft", "launch")
	if again := linkTo(t, hosts[0], hosts[1]); again.Sent == nil || *again.Sent < sent {
		t.Errorf("after another launch: %+v, and %d were sent before", again, sent)
	}
}

func TestLinkTakesTheFamilyOfTheUnderlayThatWorksAndIPv6ItsOwnWay(t *testing.T) {
	hosts := dualStack(t, false)
	for i, h := range hosts {
		uses(t, h, hosts[1-i], "direct")
	}
	a, _, _ := attachedDual(t, hosts[0], "a")
	_, c4, c6 := attachedDual(t, hosts[1], "c")
	answering(t, hosts...)
	mustPing(t, a, c4, "IPv4")
	mustPing(t, a, c6, "IPv6")
	if l := linkTo(t, hosts[0], hosts[1]); l.TransportIPv6 != "vxlan" {
		t.Errorf("IPv6 goes by %+v", l)
	}

	// Direct by IPv4 still works, and what IPv6 has taken does not.
	unblock := blocked(hosts[1], 6784, "input")
	netlab.Eventually(t, "IPv6 goes by WireGuard, and IPv4 directly", func() bool {
		l := linkTo(t, hosts[0], hosts[1])
		return l.Transport == "direct" && l.TransportIPv6 == "wireguard"
	})
	mustPing(t, a, c6, "IPv6 where VXLAN is blocked")
	mustPing(t, a, c4, "IPv4 where VXLAN is blocked")
	unblock()

	// IPv4 of the underlay fails but for gossip.
	hosts[1].Run("nft", "table netdev four { chain c { type filter hook ingress device eth0 priority 0; ip saddr 10.32.0.0/12 drop; ip protocol udp udp dport { 6784, 6785 } drop; }; }")
	netlab.Eventually(t, "VXLAN over IPv6 is used", func() bool {
		l := linkTo(t, hosts[0], hosts[1])
		return l.Transport == "vxlan" && l.Device == "weft-v1" && l.Underlay.Is6() && l.TransportIPv6 == ""
	})
	mustPing(t, a, c4, "IPv4 by VXLAN over IPv6")
	mustPing(t, a, c6, "IPv6 by VXLAN over IPv6")
	hosts[1].Run("nft", "delete", "table", "netdev", "four")
	uses(t, hosts[0], hosts[1], "direct")
	mustPing(t, a, c4, "IPv4 in the end")
	for _, h := range hosts {
		h.Run("weft", "reset", "--yes", "--force")
		if left := h.Run("bash", "-c", "ip -o link show | grep weft; ip route show proto 87; ip -6 route show proto 87; true"); left != "" {
			t.Errorf("%s has left:\n%s", h.Name, left)
		}
	}
}

// counted fails the test unless both ends count what a container sends and gets.
func counted(t *testing.T, hosts []*netlab.Host, from *netlab.Container, to string) {
	t.Helper()
	const packets, size = 50, 1000
	before, there := linkTo(t, hosts[0], hosts[1]), linkTo(t, hosts[1], hosts[0])
	if before.Sent == nil || before.Received == nil || there.Sent == nil || there.Received == nil {
		t.Fatalf("nothing is counted: %+v, %+v", before, there)
	}
	from.Run("ping", "-c", fmt.Sprint(packets), "-i", "0.01", "-s", fmt.Sprint(size), to)
	netlab.Eventually(t, "both ends count what went both ways by "+before.Transport, func() bool {
		now, far := linkTo(t, hosts[0], hosts[1]), linkTo(t, hosts[1], hosts[0])
		for _, n := range []int64{*now.Sent - *before.Sent, *now.Received - *before.Received, *far.Sent - *there.Sent, *far.Received - *there.Received} {
			if n < packets*size || n > 3*packets*size { // with headers, and probes beside
				return false
			}
		}
		return true
	})
}

func TestIPv6PassesWhereTheUnderlayTakesNoMoreThanIPv6Does(t *testing.T) {
	lab := newLab(t)
	hosts := []*netlab.Host{lab.Host("h1"), lab.Host("h2")}
	hosts[1].Run(strings.Fields(hosts[0].Run("weft", "launch"))...)
	answering(t, hosts...)
	a, a4, a6 := attachedDual(t, hosts[0], "a")
	c, _, c6 := attachedDual(t, hosts[1], "c")
	netlab.Eventually(t, "traffic passes", func() bool { return netlab.Pings(a, c6) && netlab.Pings(c, a4) })
	// A switch that drops what is too large, and says nothing.
	lab.Underlay().Run("bash", "-c", "ip link set p1 mtu 1280; ip link set p2 mtu 1280")
	passes := func(from *netlab.Container, to string, size int) bool {
		return from.Try("ping", "-c", "3", "-i", "0.1", "-W", "1", "-s", fmt.Sprint(size), to).Code == 0
	}
	for _, size := range []int{1280 - 48, 3000} {
		netlab.Eventually(t, fmt.Sprintf("%d bytes pass in IPv6", size), func() bool { return passes(a, c6, size) && passes(c, a6, size) })
	}
	if mtu := linkTo(t, hosts[0], hosts[1]).MTU; mtu > 1280-60+4 || !passes(c, a4, 3000) {
		t.Errorf("IPv4 with an MTU of %d", mtu)
	}
	for _, h := range hosts {
		h.Run("weft", "reset", "--yes", "--force")
		if left := h.Run("bash", "-c", "ip route show proto 87; ip -6 route show proto 87"); left != "" {
			t.Errorf("%s has left:\n%s", h.Name, left)
		}
	}
}

func TestWireGuardGoesByTheOtherFamilyWhereOneIsCut(t *testing.T) {
	for what, rules := range map[string]string{
		"WireGuard is blocked": "udp dport { 6785, 6788 } drop",
		"all of it is cut":     "drop",
	} {
		lab := newLab(t)
		h1, h2 := lab.Host("h1"), lab.Host("h2")
		launch := []string{"weft", "launch", "--encap", "wireguard"}
		for i, h := range []*netlab.Host{h1, h2} {
			on6(h, false)
			launch = strings.Fields(h.Run(append(launch, "--advertise", fmt.Sprintf("%s,2001:db8::%d", h.Addr, i+1))...) + " --encap wireguard")
		}
		a, _ := attached(t, h1, "a")
		_, addr := attached(t, h2, "c")
		answering(t, h1, h2)
		netlab.Eventually(t, "the containers reach each other", func() bool { return netlab.Pings(a, addr) })
		for range 2 {
			h2.Run("nft", "table inet cut { chain in { type filter hook input priority -300; iifname eth0 meta nfproto ipv4 "+rules+"; }; chain out { type filter hook output priority -300; oifname eth0 meta nfproto ipv4 "+rules+"; }; }")
			began := time.Now()
			netlab.Eventually(t, "the containers reach each other by IPv6", func() bool { return netlab.Pings(a, addr) })
			took := time.Since(began)
			t.Logf("%s: packets pass again after %s", what, took.Round(100*time.Millisecond))
			if took > 25*time.Second*netlab.Slowness {
				t.Errorf("%s: packets pass again after %s, as if the session had to end first", what, took)
			}
			answering(t, h1, h2)
			check := pinging(t, a, addr, "while IPv4 comes back")
			h2.Run("nft", "delete", "table", "inet", "cut")
			answering(t, h1, h2)
			time.Sleep(300 * time.Millisecond) // some pings while all is well
			check()
		}
	}
}
