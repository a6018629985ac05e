package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/weft-net/weft/api"
	"github.com/weft-net/weft/internal/netlab"
)

// linkTo is a host's link to another.
func linkTo(t *testing.T, h, to *netlab.Host) api.Link {
	t.Helper()
	for _, l := range status(t, h).Links {
		if l.Name == to.Name {
			return l
		}
	}
	return api.Link{}
}

func warns(t *testing.T, h *netlab.Host, code string) bool {
	t.Helper()
	for _, w := range status(t, h).Health {
		if w.Code == code {
			return true
		}
	}
	return false
}

// answering waits until links between all hosts are proven.
func answering(t *testing.T, hosts ...*netlab.Host) {
	t.Helper()
	for _, h := range hosts {
		for _, to := range hosts {
			if h != to {
				netlab.Eventually(t, h.Name+" is answered by "+to.Name, func() bool { return linkTo(t, h, to).Answers })
			}
		}
	}
}

func TestEachDeadTransportIsLeftForTheNextAndTheLastOneIsAWarning(t *testing.T) {
	hosts := trusting(t, "192.0.2.0/24", "192.0.2.0/24")
	answering(t, hosts...)
	a, _ := attached(t, hosts[0], "a")
	_, addr := attached(t, hosts[1], "c")
	within := func(what string, is func() bool) {
		began := time.Now()
		netlab.Eventually(t, "traffic passes: "+what, is)
		t.Logf("%s: after %s", what, time.Since(began).Round(10*time.Millisecond))
	}
	passes := func() bool { return a.Try("ping", "-c", "1", "-W", "0.2", addr).Code == 0 }
	hosts[1].Run("nft", "table netdev direct { chain c { type filter hook egress device eth0 priority 0; ip saddr 10.32.0.0/12 drop; }; }")
	within("past direct that is blocked one way", passes)
	uses(t, hosts[0], hosts[1], "vxlan")
	uses(t, hosts[1], hosts[0], "vxlan")
	hosts[0].Run("ip", "link", "delete", "weft-vx")
	within("though weft-vx was removed", passes)
	unblock := blocked(hosts[1], 6784, "input")
	within("past VXLAN that is blocked one way", passes)
	uses(t, hosts[0], hosts[1], "wireguard")
	defer unblock()
	hosts[0].Run("bash", "-c", "nft 'table inet wg { chain c { type filter hook output priority 0; udp dport 6785 drop; }; }'")
	within("WireGuard that is blocked as the last is a warning", func() bool { return warns(t, hosts[0], "link-silent") })
	if out := hosts[0].Try("weft", "status", "links").Stdout; !strings.Contains(out, "no answer") {
		t.Errorf("status links:\n%s", out)
	}
	hosts[0].Run("nft", "delete", "table", "inet", "wg")
	within("WireGuard that is back is no warning", func() bool { return !warns(t, hosts[0], "link-silent") && passes() })
}

func TestLinksHoldStillWhileTheOtherDaemonIsAway(t *testing.T) {
	hosts := trusting(t, "192.0.2.0/24", "192.0.2.0/24")
	uses(t, hosts[0], hosts[1], "direct")
	uses(t, hosts[1], hosts[0], "direct")
	answering(t, hosts...)
	a, _ := attached(t, hosts[0], "a")
	_, addr := attached(t, hosts[1], "c")
	was := linkTo(t, hosts[0], hosts[1]).Changed
	check := pinging(t, a, addr, "while the other daemon is killed, held, stopped and launched")
	silent := func() {
		netlab.Eventually(t, "all paths are found silent", func() bool { return !linkTo(t, hosts[0], hosts[1]).Answers })
		time.Sleep(time.Second) // in which the link could move
	}
	kill9(t, hosts[1])
	silent()
	hosts[1].Run("weft", "launch")
	answering(t, hosts...)
	pid := hosts[1].Run("cat", "/var/lib/weft/lock")
	hosts[1].Run("kill", "-STOP", pid)
	silent()
	hosts[1].Run("kill", "-CONT", pid)
	answering(t, hosts...)
	hosts[1].Run("weft", "stop")
	hosts[1].Run("weft", "launch")
	answering(t, hosts...)
	check()
	if l := linkTo(t, hosts[0], hosts[1]); l.Transport != "direct" || !l.Changed.Equal(was) {
		t.Errorf("the link moved: %+v", l)
	}
	if l := linkTo(t, hosts[1], hosts[0]); l.Transport != "direct" {
		t.Errorf("the link of the new daemon: %+v", l)
	}
}

func TestRemovedHostIsCutOffInTheClearToo(t *testing.T) {
	hosts := trusting(t, "192.0.2.0/24", "192.0.2.0/24", "192.0.2.0/24")
	uses(t, hosts[0], hosts[2], "direct")
	answering(t, hosts...)
	c, addr := attached(t, hosts[0], "c")
	gone, goneAddr := attached(t, hosts[2], "g")
	mustPing(t, gone, addr, "before")
	kill9(t, hosts[2]) // its kernel goes on
	netlab.Eventually(t, "the daemon is missed", func() bool { return warns(t, hosts[0], "peer-failed") })
	netlab.Eventually(t, "the host is removed", func() bool { return hosts[0].Try("weft", "rmpeer", "h3").Code == 0 })
	netlab.Eventually(t, "its space has heirs, and nothing leads to it", func() bool {
		for _, h := range hosts[:2] {
			if len(status(t, h).IPAM.Pending) > 0 || strings.Contains(h.Run("bash", "-c", "ip route; ip neigh show nud permanent; bridge fdb show"), "192.0.2.3") {
				return false
			}
		}
		return true
	})
	dump := c.Start("tcpdump", "-l", "-n", "-i", "eth0", "icmp")
	time.Sleep(500 * time.Millisecond) // until it listens
	for range 3 {
		gone.Try("ping", "-c", "3", "-i", "0.1", "-W", "0.2", addr)
	}
	if seen := dump(); strings.Contains(seen, goneAddr) {
		t.Errorf("packets of a removed host arrive:\n%s", seen)
	}
}

func TestJumboFramesAreUsedBetweenThoseThatHaveThem(t *testing.T) {
	lab := newLab(t)
	h1, h2, h3 := lab.Host("h1"), lab.Host("h2"), lab.Host("h3")
	lab.Underlay().Run("bash", "-c", "ip link set p1 mtu 9000; ip link set p2 mtu 9000; ip link set br0 mtu 9000")
	for _, h := range []*netlab.Host{h1, h2} {
		h.Run("ip", "link", "set", "eth0", "mtu", "9000")
	}
	join := strings.Fields(h1.Run("weft", "launch"))
	h2.Run(join...)
	h3.Run(join...)
	a, _ := attached(t, h1, "a")
	for to, fit := range map[*netlab.Host]int{h2: 8940, h3: 1440} {
		_, addr := attached(t, to, "c")
		netlab.Eventually(t, "the link's MTU is known", func() bool { return linkTo(t, h1, to).MTU == fit })
		ping := func(size int) netlab.Result {
			return a.Try("ping", "-M", "do", "-c", "3", "-i", "0.1", "-W", "1", "-s", fmt.Sprint(size-28), addr)
		}
		netlab.Eventually(t, fmt.Sprintf("%d bytes pass to %s", fit, to.Name), func() bool { return ping(fit).Code == 0 })
		r := ping(fit + 1)
		if out := strings.ReplaceAll(r.Stdout+r.Stderr, "mtu = ", "mtu="); !strings.Contains(out, fmt.Sprintf("mtu=%d", fit)) {
			t.Errorf("a packet that is too large gets no answer that says %d: %s", fit, out)
		}
	}
}

func TestSegmentThatShrinksIsFoundOutInTheClear(t *testing.T) {
	for transport, overhead := range map[string]int{"direct": 0, "vxlan": 50} {
		lab := newLab(t)
		h1, h2 := lab.Host("h1"), lab.Host("h2")
		h2.Run(strings.Fields(h1.Run("weft", "launch", "--encap", transport))...)
		uses(t, h1, h2, transport)
		answering(t, h1, h2)
		a, _ := attached(t, h1, "a")
		_, addr := attached(t, h2, "c")
		full := fmt.Sprint(1500 - overhead - 28)
		for _, mtu := range []int{1400, 1280} {
			// A switch that drops what is too large, and says nothing.
			lab.Underlay().Run("ip", "link", "set", "p2", "mtu", fmt.Sprint(mtu))
			began := time.Now()
			netlab.Eventually(t, "datagrams of full size pass", func() bool {
				return a.Try("ping", "-M", "dont", "-c", "1", "-W", "0.5", "-s", full, addr).Code == 0
			})
			inTime(t, fmt.Sprintf("%s passes on a segment of %d", transport, mtu), began, 10*time.Second)
			// The lab's switch lets 4 bytes more pass, those of a VLAN's tag.
			netlab.Eventually(t, "the link's MTU is what fits", func() bool {
				got := linkTo(t, h1, h2).MTU
				return got <= mtu-overhead+4 && got >= mtu-overhead
			})
		}
		// One's own interface is looked at, not probed for.
		lab.Underlay().Run("ip", "link", "set", "p2", "mtu", "1500")
		h1.Run("ip", "link", "set", "eth0", "mtu", "1300")
		netlab.Eventually(t, "the MTU is that of the interface", func() bool { return linkTo(t, h1, h2).MTU == 1300-overhead })
		h1.Run("ip", "link", "set", "eth0", "mtu", "1500")
		netlab.Eventually(t, "all of it is used again", func() bool { return linkTo(t, h1, h2).MTU == 1500-overhead })
	}
}

func TestNewDaemonTokenAndKeysKnowHowNarrowTheWayIs(t *testing.T) {
	for _, transport := range []string{"vxlan", "wireguard"} {
		lab := newLab(t)
		h1, h2 := lab.Host("h1"), lab.Host("h2")
		h2.Run(strings.Fields(h1.Run("weft", "launch", "--encap", transport))...)
		uses(t, h1, h2, transport)
		answering(t, h1, h2)
		a, _ := attached(t, h1, "a")
		_, addr := attached(t, h2, "c")
		lab.Underlay().Run("ip", "link", "set", "p2", "mtu", "1400")
		for _, h := range []*netlab.Host{h1, h2} {
			netlab.Eventually(t, "the link's MTU is what fits", func() bool { return linkTo(t, h, map[*netlab.Host]*netlab.Host{h1: h2, h2: h1}[h]).MTU <= 1400-40 })
		}
		check := pinging(t, a, addr, transport, "-M", "dont", "-s", "1392")
		for _, h := range []*netlab.Host{h1, h2} {
			h.Run("weft", "stop")
			h.Run("weft", "launch")
			answering(t, h1, h2)
		}
		h1.Run("weft", "token", "rotate", "--yes")
		answering(t, h1, h2)
		if transport == "wireguard" {
			h1.Run("weft", "keys", "rotate", "--timeout", fmt.Sprint(3*time.Minute*netlab.Slowness))
		}
		check()
	}
}

func TestNothingButWeftsOwnIsOnTheUnderlayOfAnEncryptedMesh(t *testing.T) {
	lab := newLab(t)
	h1, h2 := lab.Host("h1"), lab.Host("h2")
	// Further fragments have no ports; they are of what a tunnel sends by a narrow way.
	h1.Start("bash", "-c", "exec tcpdump -l -n -i eth0 'ip and not icmp and not igmp and not udp port 6783 and not tcp port 6783 and not udp port 6785 and ip[6:2] & 0x1fff == 0' >/run/other 2>/run/other.log")
	h1.Start("bash", "-c", "exec tcpdump -l -n -x -i eth0 icmp >/run/icmp 2>/run/icmp.log")
	netlab.Eventually(t, "tcpdump listens", func() bool { return h1.Try("grep", "-q", "listening on", "/run/other.log", "/run/icmp.log").Code == 0 })
	h2.Run(strings.Fields(h1.Run("weft", "launch", "--trusted-subnets", "192.0.2.0/24"))...)
	a, _ := attached(t, h1, "a")
	_, addr := attached(t, h2, "c")
	send := func() {
		a.Try("bash", "-c", "ping -c 5 -i 0.05 -W 0.2 -p 5eed5eed "+addr+"; echo 5eed >/dev/udp/"+addr+"/7000")
	}
	send()
	lab.Underlay().Run("ip", "link", "set", "p2", "mtu", "1300")
	for _, h := range []*netlab.Host{h1, h2} {
		for _, what := range []string{"ip link delete weft-wg", "weft stop", "weft launch", "weft stop --all", "weft launch", "nft flush ruleset", "ip route flush proto 87"} {
			h.Run("bash", "-c", what)
			send()
		}
	}
	netlab.Eventually(t, "traffic passes in the end", func() bool { return netlab.Pings(a, addr) })
	netlab.Eventually(t, "the size of packets is found", func() bool { return linkTo(t, h1, h2).MTU < 1300 })
	if seen := h1.Run("cat", "/run/other"); seen != "" {
		t.Errorf("on the underlay is\n%s", seen)
	}
	if seen := h1.Run("cat", "/run/icmp"); strings.Contains(seen, "5eed 5eed") {
		t.Errorf("plaintext is on the underlay:\n%s", seen)
	}
}

func TestHostWithoutTUNHasLinksInTheClearOnlyWhereThatIsAllowed(t *testing.T) {
	lab := newLab(t)
	h1, h2, h3 := lab.Host("h1"), lab.Host("h2"), lab.Host("h3")
	join := strings.Fields(h1.Run("weft", "launch", "--trusted-subnets", "192.0.2.0/30"))
	if !status(t, h1).Mesh.Userspace {
		return // the kernel has WireGuard, which takes no TUN device
	}
	h2.Run("mount", "-t", "tmpfs", "tmpfs", "/dev/net")
	before := h2.Snapshot()
	refuses(t, h2, 1, "--trusted-subnets", join...)
	if left := netlab.Diff(before, h2.Snapshot()); left != "" {
		t.Errorf("a launch that failed has left:\n%s", left)
	}
	h2.Run(append(join, "--trusted-subnets", "192.0.2.0/24")...)
	h3.Run(append(join, "--trusted-subnets", "192.0.2.0/32")...)
	uses(t, h1, h2, "direct")
	uses(t, h1, h3, "wireguard")
	netlab.Eventually(t, "both ends say that they have no link", func() bool {
		return strings.Contains(linkTo(t, h2, h3).Reason, "this host cannot do it") && strings.Contains(linkTo(t, h3, h2).Reason, "h2 does not offer it")
	})
	b, _ := attached(t, h2, "b")
	_, addr := attached(t, h3, "c")
	if netlab.Pings(b, addr) {
		t.Error("hosts without a link reach each other")
	}
	if !warns(t, h3, "no-link") {
		t.Errorf("health of h3: %+v", status(t, h3).Health)
	}
}

func TestHostsBehindARouterUseVXLANWhereDirectIsNotPossible(t *testing.T) {
	lab := newLab(t)
	h1, h2, router := lab.Host("h1"), lab.Host("h2"), lab.Host("h3")
	router.Run("sysctl", "-q", "-w", "net.ipv4.ip_forward=1", "net.ipv4.conf.all.send_redirects=0", "net.ipv4.conf.eth0.send_redirects=0")
	// Lists that overlap, and one that has everything.
	join := strings.Fields(h1.Run("weft", "launch", "--trusted-subnets", "192.0.2.0/24,192.0.0.0/16,192.0.2.0/25"))
	h2.Run(append(join, "--trusted-subnets", "0.0.0.0/0")...)
	uses(t, h1, h2, "direct")
	uses(t, h2, h1, "direct")
	answering(t, h1, h2)
	a, _ := attached(t, h1, "a")
	_, addr := attached(t, h2, "c")
	mustPing(t, a, addr, "without a router")
	h1.Run("ip", "route", "add", "192.0.2.2/32", "via", "192.0.2.3")
	h2.Run("ip", "route", "add", "192.0.2.1/32", "via", "192.0.2.3")
	uses(t, h1, h2, "vxlan")
	uses(t, h2, h1, "vxlan")
	mustPing(t, a, addr, "by VXLAN")
	if l := linkTo(t, h1, h2); l.Transports[0].Allowed || !strings.Contains(l.Transports[0].Why, "router") {
		t.Errorf("direct: %+v", l.Transports[0])
	}
}

func TestResetLeavesNothingOfDirectLinks(t *testing.T) {
	lab := newLab(t)
	hosts := []*netlab.Host{lab.Host("h1"), lab.Host("h2")}
	var before []netlab.Snapshot
	for _, h := range hosts {
		h.Run("sysctl", "-q", "-w", "net.ipv4.conf.all.rp_filter=1", "net.ipv4.conf.eth0.rp_filter=1")
		before = append(before, h.Snapshot())
	}
	join := strings.Fields(hosts[0].Run("weft", "launch", "--trusted-subnets", "192.0.2.0/24"))
	hosts[1].Run(append(join, "--trusted-subnets", "192.0.2.0/24")...)
	answering(t, hosts...)
	for _, h := range hosts {
		if got := h.Run("sysctl", "-n", "net.ipv4.conf.eth0.rp_filter"); got != "2" {
			t.Errorf("%s: the filter of the underlay is %s", h.Name, got)
		}
	}
	for i, h := range hosts {
		if i == 1 {
			kill9(t, h)
		}
		h.Run("weft", "reset", "--yes", "--force")
		if left := netlab.Diff(before[i], h.Snapshot()); left != "" {
			t.Errorf("%s has left:\n%s", h.Name, left)
		}
	}
}
