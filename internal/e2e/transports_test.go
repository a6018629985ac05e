package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/weft-net/weft/internal/netlab"
)

// transports are what a host uses to each other host, by name.
func transports(t *testing.T, h *netlab.Host) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, l := range status(t, h).Links {
		out[l.Name] = l.Transport
	}
	return out
}

// uses waits until a host uses a transport to another.
func uses(t *testing.T, h, to *netlab.Host, transport string) {
	t.Helper()
	began := time.Now()
	netlab.Eventually(t, fmt.Sprintf("%s uses %s to %s", h.Name, transport, to.Name), func() bool {
		return transports(t, h)[to.Name] == transport
	})
	t.Logf("%s uses %s to %s after %s", h.Name, transport, to.Name, time.Since(began).Round(100*time.Millisecond))
}

// trusting are hosts that trust the networks given for each.
func trusting(t *testing.T, trusted ...string) []*netlab.Host {
	t.Helper()
	lab := newLab(t)
	var hosts []*netlab.Host
	var join []string
	for i, subnets := range trusted {
		h := lab.Host(fmt.Sprintf("h%d", i+1))
		if i == 0 {
			join = strings.Fields(h.Run("weft", "launch", "--trusted-subnets", subnets))
		} else {
			h.Run(append(join, "--trusted-subnets", subnets)...)
		}
		hosts = append(hosts, h)
	}
	return hosts
}

func TestOnlyHostsThatTrustEachOtherTalkInTheClear(t *testing.T) {
	hosts := trusting(t, "192.0.2.0/24", "192.0.2.0/24", "none")
	uses(t, hosts[0], hosts[1], "direct")
	uses(t, hosts[1], hosts[0], "direct")
	for _, pair := range [][2]int{{0, 2}, {2, 0}, {1, 2}, {2, 1}} {
		uses(t, hosts[pair[0]], hosts[pair[1]], "wireguard")
	}
	var addrs []string
	var containers []*netlab.Container
	for _, h := range hosts {
		c, addr := attached(t, h, "c")
		containers, addrs = append(containers, c), append(addrs, addr)
	}
	for i, c := range containers {
		for j, addr := range addrs {
			mustPing(t, c, addr, fmt.Sprintf("%d to %d", i, j))
		}
	}
	if hosts[2].Try("ip", "link", "show", "weft-vx").Code == 0 {
		t.Error("a host that trusts nobody has a VXLAN device")
	}
	hosts[0].Run("ip", "link", "show", "weft-vx")
	for _, h := range hosts {
		warned := false
		for _, w := range status(t, h).Health {
			warned = warned || w.Code == "traffic-not-encrypted" && strings.Contains(w.Text, "NOT ENCRYPTED TO") && !strings.Contains(w.Text, "h3")
		}
		if warned != (h != hosts[2]) {
			t.Errorf("%s: health %+v", h.Name, status(t, h).Health)
		}
	}
}

// blocked drops one transport's packets at a host, both those that come and
// those that go, or only one of them; it returns what lets them pass again.
func blocked(h *netlab.Host, port int, hooks ...string) (unblock func()) {
	script := "table inet block {\n"
	for _, hook := range hooks {
		script += fmt.Sprintf("chain %s { type filter hook %s priority -400; udp dport %d drop; }\n", hook, hook, port)
	}
	h.Run("bash", "-c", "nft -f - <<'X'\n"+script+"}\nX")
	return func() { h.Run("nft", "delete", "table", "inet", "block") }
}

func TestBlockedTransportIsLeftAndTakenBack(t *testing.T) {
	hosts := trusting(t, "192.0.2.0/24", "192.0.2.0/24")
	a, _ := attached(t, hosts[0], "a")
	_, addrC := attached(t, hosts[1], "c")
	uses(t, hosts[0], hosts[1], "direct")
	// What is direct has no port: drop what is of the range on the underlay.
	direct := func(hook string) func() {
		hosts[1].Run("nft", fmt.Sprintf("table netdev direct { chain c { type filter hook %s device eth0 priority 0; ip saddr 10.32.0.0/12 drop; }; }", hook))
		return func() { hosts[1].Run("nft", "delete", "table", "netdev", "direct") }
	}
	for name, block := range map[string]func() func(){
		"towards the host": func() func() { return direct("ingress") },
		"from the host":    func() func() { return direct("egress") },
	} {
		t.Run(name, func(t *testing.T) {
			unblock := block()
			began := time.Now()
			netlab.Eventually(t, "traffic passes by another transport", func() bool { return netlab.Pings(a, addrC) })
			inTime(t, fmt.Sprintf("it passes by %v", transports(t, hosts[0])), began, 3*time.Second)
			uses(t, hosts[0], hosts[1], "vxlan")
			unblockVXLAN := blocked(hosts[1], 6784, "input", "output")
			for i, h := range hosts { // each finds out by itself
				uses(t, h, hosts[1-i], "wireguard")
			}
			mustPing(t, a, addrC, "by what is left")
			unblockVXLAN()
			unblock()
			uses(t, hosts[0], hosts[1], "direct")
			uses(t, hosts[1], hosts[0], "direct")
			mustPing(t, a, addrC, "by what is back")
		})
	}
}

func TestBlockedWireGuardIsNeverReplacedByPlaintext(t *testing.T) {
	hosts := trusting(t, "192.0.2.0/24", "none")
	a, addrA := attached(t, hosts[0], "a")
	c, addrC := attached(t, hosts[1], "c")
	netlab.Eventually(t, "traffic passes", func() bool { return netlab.Pings(a, addrC) && netlab.Pings(c, addrA) })
	dump := hosts[1].Start("tcpdump", "-l", "-n", "-x", "-i", "eth0", "udp or icmp")
	time.Sleep(500 * time.Millisecond) // until it listens
	unblock := blocked(hosts[1], 6785, "input", "output")
	a.Try("ping", "-c", "40", "-i", "0.1", "-p", "5eed5eed", addrC)
	c.Try("ping", "-c", "40", "-i", "0.1", "-p", "5eed5eed", addrA)
	hosts[0].Try("ip", "link", "delete", "weft-wg")
	a.Try("ping", "-c", "40", "-i", "0.1", "-p", "5eed5eed", addrC)
	unblock()
	netlab.Eventually(t, "traffic passes again", func() bool { return netlab.Pings(a, addrC) })
	if seen := dump(); strings.Contains(seen, "5eed 5eed 5eed") || !strings.Contains(seen, "6785") {
		t.Errorf("plaintext is on the underlay, or nothing was heard:\n%s", seen)
	}
	if got := transports(t, hosts[0])["h2"]; got != "wireguard" {
		t.Errorf("the link is %s", got)
	}
}

func TestChangeOfTrustIsFollowedOnBothEnds(t *testing.T) {
	hosts := trusting(t, "192.0.2.0/24", "none")
	a, addrA := attached(t, hosts[0], "a")
	c, addrC := attached(t, hosts[1], "c")
	uses(t, hosts[0], hosts[1], "wireguard")
	again := func(subnets string) {
		hosts[1].Run("weft", "stop")
		hosts[1].Run("weft", "launch", "--trusted-subnets", subnets)
	}
	again("192.0.2.0/24")
	uses(t, hosts[0], hosts[1], "direct")
	uses(t, hosts[1], hosts[0], "direct")
	mustPing(t, a, addrC, "in the clear")

	check := pinging(t, a, addrC, "while the daemon is launched anew")
	time.Sleep(500 * time.Millisecond)
	hosts[1].Run("weft", "stop")
	hosts[1].Run("weft", "launch")
	time.Sleep(500 * time.Millisecond)
	check()
	uses(t, hosts[1], hosts[0], "direct")

	again("none")
	uses(t, hosts[0], hosts[1], "wireguard")
	uses(t, hosts[1], hosts[0], "wireguard")
	for _, h := range hosts {
		netlab.Eventually(t, h.Name+" has no VXLAN device", func() bool { return h.Try("ip", "link", "show", "weft-vx").Code != 0 })
		if got := h.Run("ip", "route", "show", "proto", "87", "dev", "eth0"); got != "" {
			t.Errorf("%s has direct routes still:\n%s", h.Name, got)
		}
	}
	dump := hosts[0].Start("tcpdump", "-l", "-n", "-x", "-i", "eth0", "udp or icmp")
	time.Sleep(500 * time.Millisecond) // until it listens
	for from, to := range map[*netlab.Container]string{a: addrC, c: addrA} {
		if r := from.Try("ping", "-c", "10", "-i", "0.05", "-W", "2", "-p", "5eed5eed", to); r.Code != 0 {
			t.Errorf("no ping to %s: %s", to, r.Stdout)
		}
	}
	if seen := dump(); strings.Contains(seen, "5eed 5eed 5eed") || !strings.Contains(seen, "6785") {
		t.Errorf("plaintext is on the underlay, or nothing was heard:\n%s", seen)
	}
}

func TestStrangerOnTheSegmentInjectsNothing(t *testing.T) {
	lab := newLab(t)
	h1, h2, stranger := lab.Host("h1"), lab.Host("h2"), lab.Host("h3")
	join := strings.Fields(h1.Run("weft", "launch", "--trusted-subnets", "192.0.2.1/32,192.0.2.2/32"))
	h2.Run(append(join, "--trusted-subnets", "192.0.2.1/32,192.0.2.2/32")...)
	uses(t, h1, h2, "direct")
	c, addr := attached(t, h1, "c")
	_, other := attached(t, h2, "o")
	mustPing(t, c, other, "between peers")
	gateway := status(t, h1).Bridge.Gateway.Addr().String()
	free := "10.32.0.99" // of h1's own part, and of nobody
	vni := status(t, h1).Mesh.VNI
	mac := h1.Run("cat", "/sys/class/net/weft-vx/address")
	stranger.Run("bash", "-c", fmt.Sprintf("ip address add %s/32 dev lo; ip route add 10.32.0.0/13 via 192.0.2.1 src %s", free, free))
	dump := c.Start("tcpdump", "-l", "-n", "-i", "eth0", "icmp")
	time.Sleep(500 * time.Millisecond) // until it listens
	stranger.Try("ping", "-c", "3", "-i", "0.1", "-W", "1", addr)
	stranger.Run("bash", "-c", fmt.Sprintf("ip route delete 10.32.0.0/13; ip link add vx type vxlan id %d dstport 6784 local 192.0.2.3 nolearning; ip link set vx up; "+
		"bridge fdb append %s dev vx dst 192.0.2.1; ip neigh add %s lladdr %s dev vx; ip route add 10.32.0.0/13 via %s dev vx onlink src %s", vni, mac, gateway, mac, gateway, free))
	stranger.Try("ping", "-c", "3", "-i", "0.1", "-W", "1", addr)
	if seen := dump(); strings.Contains(seen, free) {
		t.Errorf("the container got packets of a stranger:\n%s", seen)
	}
	rules := h1.Run("nft", "list", "table", "inet", "weft")
	for _, chain := range []string{"guard-arriving", "ends-in"} {
		_, rest, _ := strings.Cut(rules, "chain "+chain)
		part, _, _ := strings.Cut(rest, "\t}")
		if !strings.Contains(part, "counter packets 3 ") {
			t.Errorf("%s did not drop and count three packets:\n%s", chain, part)
		}
	}
	mustPing(t, c, other, "between peers still")
}

func TestUnderlayThatShrinksBehindARouterIsFoundOut(t *testing.T) {
	lab := newLab(t)
	h1, h2, router := lab.Host("h1"), lab.Host("h2"), lab.Host("h3")
	// The router tells nobody why it drops.
	router.Run("bash", "-c", "sysctl -q -w net.ipv4.ip_forward=1 net.ipv4.conf.all.send_redirects=0 net.ipv4.conf.eth0.send_redirects=0; "+
		"nft 'table inet mute { chain c { type filter hook output priority 0; ip protocol icmp drop; }; }'")
	shrink := func(mtu int) {
		router.Run("bash", "-c", fmt.Sprintf("ip route replace 192.0.2.1/32 dev eth0 mtu %d; ip route replace 192.0.2.2/32 dev eth0 mtu %d", mtu, mtu))
	}
	shrink(1500)
	h1.Run("ip", "route", "add", "192.0.2.2/32", "via", "192.0.2.3")
	h2.Run("ip", "route", "add", "192.0.2.1/32", "via", "192.0.2.3")
	join := strings.Fields(h1.Run("weft", "launch"))
	h2.Run(join...)
	a, _ := attached(t, h1, "a")
	c, addrC := attached(t, h2, "c")
	c.Start("python3", "-c", "import socket\ns=socket.create_server(('',7000))\nwhile True:\n k,_=s.accept(); n=0\n while n<300000:\n  d=k.recv(65536)\n  if not d: break\n  n+=len(d)\n k.sendall(b'x'*300000); k.close()")
	tcp := func() bool {
		return a.Try("timeout", "5", "python3", "-c", "import socket,sys\nk=socket.create_connection(('"+addrC+"',7000),3); k.sendall(b'x'*300000); n=0\nwhile True:\n d=k.recv(65536)\n if not d: break\n n+=len(d)\nsys.exit(n!=300000)").Code == 0
	}
	full := fmt.Sprint(status(t, h1).Bridge.MTU - 28) // less the headers of ICMP and IP
	datagram := func() bool { return a.Try("ping", "-M", "dont", "-c", "1", "-W", "1", "-s", full, addrC).Code == 0 }
	for _, mtu := range []int{1500, 1400, 1280} {
		shrink(mtu)
		began := time.Now()
		netlab.Eventually(t, "datagrams of full size pass", datagram)
		netlab.Eventually(t, "TCP passes", tcp)
		inTime(t, fmt.Sprintf("all passes on an underlay of %d", mtu), began, 10*time.Second)
		// WireGuard pads to 16 bytes, up to its device's MTU.
		fits := func(h *netlab.Host) bool { got := status(t, h).Links[0].MTU; return got <= mtu-60 && got > mtu-60-16 }
		netlab.Eventually(t, "the link's MTU is what fits", func() bool { return fits(h1) && fits(h2) })
		t.Logf("underlay of %d: the link's MTU is known after %s", mtu, time.Since(began).Round(100*time.Millisecond))
		// By ICMP, or by its own kernel, which has heard that already. What is known to
		// fit grows until the search has ended.
		said := ""
		netlab.Eventually(t, "a packet that is too large gets an answer that says what fits", func() bool {
			fit := status(t, h1).Links[0].MTU
			r := a.Try("ping", "-M", "do", "-c", "1", "-W", "1", "-s", fmt.Sprint(fit+1-28), addrC)
			said = fmt.Sprintf("mtu=%d", fit)
			return strings.Contains(strings.ReplaceAll(r.Stdout+r.Stderr, "mtu = ", "mtu="), said)
		})
		t.Logf("underlay of %d: a packet that is too large is answered by %q", mtu, said)
	}
}

// A container can make VXLAN's packets, too, which the host would send by its own
// address, as it does with all that goes to the outside.
func TestContainerThatWrapsPacketsByItselfIsNobodyElse(t *testing.T) {
	lab := newLab(t)
	h1, h2 := lab.Host("h1"), lab.Host("h2")
	join := strings.Fields(h1.Run("weft", "launch", "--encap", "vxlan"))
	h2.Run(join...)
	uses(t, h1, h2, "vxlan")
	c, addr := attached(t, h1, "c")
	o, other := attached(t, h2, "o")
	mustPing(t, c, other, "between containers")
	gateway := status(t, h2).Bridge.Gateway.Addr().String()
	vni := status(t, h2).Mesh.VNI
	mac := strings.TrimSpace(h2.Run("cat", "/sys/class/net/weft-vx/address"))
	forged := "10.32.0.99" // of the container's own host, and of nobody
	dump := o.Start("tcpdump", "-l", "-n", "-i", "eth0", "icmp")
	time.Sleep(500 * time.Millisecond) // until it listens
	// The path's own MAC address is its host's, as in what that host sends.
	c.Run("bash", "-c", fmt.Sprintf("ip link add vx type vxlan id %d dstport 6784 local %s nolearning; ip link set vx up; ip address add %s/32 dev lo; "+
		"bridge fdb append %s dev vx dst %s; ip neigh add %s lladdr %s dev vx; ip route add %s/32 via %s dev vx onlink src %s",
		vni, addr, forged, mac, h2.Addr, gateway, mac, other, gateway, forged))
	c.Try("ping", "-c", "3", "-i", "0.1", "-W", "1", other)
	if seen := dump(); strings.Contains(seen, forged) {
		t.Errorf("another container got packets that were forged:\n%s", seen)
	}
	if rules := h1.Run("nft", "list", "chain", "inet", "weft", "ends-out"); !strings.Contains(rules, `iifname "weft" counter packets 3 `) {
		t.Errorf("three packets were not dropped and counted:\n%s", rules)
	}
	c.Run("ip", "link", "delete", "vx")
	mustPing(t, c, other, "between containers still")
}
