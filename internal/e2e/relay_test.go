package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weft-net/weft/internal/netlab"
)

// via are the relays by which a host reaches another, by name.
func via(t *testing.T, h, to *netlab.Host) (names []string) {
	t.Helper()
	for _, l := range status(t, h).Links {
		if l.Name == to.Name {
			for _, v := range l.Via {
				names = append(names, v.Name)
			}
		}
	}
	return names
}

// relayed waits until two hosts reach each other by others, or directly, and a
// container there is reached, in time.
func relayed(t *testing.T, a, b *netlab.Host, from *netlab.Container, to string, by ...string) {
	t.Helper()
	began := time.Now()
	netlab.Eventually(t, "pings pass", func() bool { return from.Try("ping", "-c", "1", "-W", "0.3", to).Code == 0 })
	inTime(t, "pings pass", began, 3*time.Second)
	back := slices.Clone(by)
	slices.Reverse(back)
	netlab.Eventually(t, fmt.Sprintf("%s and %s reach each other by %q", a.Name, b.Name, by), func() bool {
		return slices.Equal(via(t, a, b), by) && slices.Equal(via(t, b, a), back)
	})
	mustPing(t, from, to, fmt.Sprintf("by %q", by))
}

// settled waits until no probe of any host is without an answer, and has not been
// for long enough that others believe what a host hears.
func settled(t *testing.T, hosts []*netlab.Host) {
	t.Helper()
	for _, h := range hosts {
		netlab.Eventually(t, h.Name+" has proven all links", func() bool {
			for _, l := range status(t, h).Links {
				if !l.Answers || time.Since(l.Changed) < 3*time.Second {
					return false
				}
			}
			return true
		})
	}
}

// sixOf is the IPv6 address of a container of a host.
func sixOf(t *testing.T, c *netlab.Container) string {
	t.Helper()
	for f := range strings.FieldsSeq(c.Run("ip", "-o", "-6", "address", "show", "dev", "eth0", "scope", "global")) {
		if addr, ok := strings.CutSuffix(f, "/128"); ok {
			return addr
		}
	}
	t.Fatal("the container has no IPv6 address")
	return ""
}

// inEach attaches a container on each host.
func inEach(t *testing.T, hosts []*netlab.Host) (containers []*netlab.Container, addrs []string) {
	t.Helper()
	for _, h := range hosts {
		c, addr := attached(t, h, "c")
		containers, addrs = append(containers, c), append(addrs, addr)
	}
	return containers, addrs
}

// allReachEachOther attaches a container on each host, and waits until each reaches
// all the others.
func allReachEachOther(t *testing.T, hosts []*netlab.Host) {
	t.Helper()
	containers, addrs := inEach(t, hosts)
	for i, c := range containers {
		for j, addr := range addrs {
			if i != j {
				netlab.Eventually(t, "ping from "+hosts[i].Name+" to "+hosts[j].Name, func() bool { return netlab.Pings(c, addr) })
			}
		}
	}
}

func TestLinkThatBreaksOneWayIsRelayedAndTakenBack(t *testing.T) {
	lab, hosts := launched(t, 3, "--encap", "vxlan")
	a, c := hosts[0], hosts[2]
	containers, addrs := inEach(t, hosts)
	settled(t, hosts)
	lab.Underlay().Run("nft", "table bridge oneway { chain c { type filter hook forward priority 0; iifname p3 oifname p1 drop; }; }")
	relayed(t, a, c, containers[0], addrs[2], "h2")
	mustPing(t, containers[2], sixOf(t, containers[0]), "IPv6 by the relay")
	said := false
	for _, p := range status(t, hosts[1]).Peers {
		said = said || len(p.Broken) == 1
	}
	if out := a.Try("weft", "status", "links").Stdout; !said || !strings.Contains(out, "relay via h2") {
		t.Errorf("others know of the broken link: %v; status links:\n%s", said, out)
	}

	check := pinging(t, containers[0], addrs[2], "while the daemon at one end is launched anew")
	time.Sleep(500 * time.Millisecond) // some pings while all is well
	a.Run("weft", "stop")
	a.Run("weft", "launch")
	check()

	// The path of the relay is the narrower one.
	c.Run("ip", "link", "set", "eth0", "mtu", "1300")
	netlab.Eventually(t, "the relay knows what fits", func() bool {
		for _, l := range status(t, hosts[1]).Links {
			if l.Name == "h3" {
				return l.MTU == 1250
			}
		}
		return false
	})
	r := containers[0].Try("ping", "-M", "do", "-c", "1", "-W", "1", "-s", "1400", addrs[2])
	if out := strings.ReplaceAll(r.Stdout+r.Stderr, "mtu = ", "mtu="); !strings.Contains(out, "mtu=1250") {
		t.Errorf("a packet that is too large for the relay's path gets no answer that says so: %s", out)
	}
	containers[2].Start("python3", "-c", "import socket\ns=socket.create_server(('',7000))\nk,_=s.accept()\nn=0\nwhile n<3000000:\n n+=len(k.recv(65536))\nk.sendall(b'x'*3000000); k.close()")
	netlab.Eventually(t, "TCP passes both ways", func() bool {
		return containers[0].Try("timeout", "20", "python3", "-c", "import socket,sys\nk=socket.create_connection(('"+addrs[2]+"',7000),3); k.sendall(b'x'*3000000); n=0\nwhile True:\n d=k.recv(65536)\n if not d: break\n n+=len(d)\nsys.exit(n!=3000000)").Code == 0
	})
	if out := a.Run("nft", "list", "chain", "inet", "weft", "others"); !strings.Contains(out, "redirect") {
		t.Errorf("redirects are not kept back: %s", out)
	}

	lab.Underlay().Run("nft", "delete", "table", "bridge", "oneway")
	relayed(t, a, c, containers[0], addrs[2])
}

func TestRelayThatDiesIsReplacedAndChainsOfRelaysWork(t *testing.T) {
	lab, hosts := launched(t, 4)
	containers, addrs := inEach(t, hosts)
	settled(t, hosts)
	a, d := hosts[0], hosts[3]
	dump := hosts[1].Start("tcpdump", "-l", "-n", "-x", "-i", "eth0", "udp or icmp")
	lab.Partition(hosts[:1], hosts[3:])
	netlab.Eventually(t, "one of the others relays", func() bool { return len(via(t, a, d)) == 1 })
	relay, other, port := "h2", "h3", "p2"
	if via(t, a, d)[0] == "h3" {
		relay, other, port = other, relay, "p3"
	}
	relayed(t, a, d, containers[0], addrs[3], relay)
	lab.Underlay().Run("ip", "link", "set", port, "down")
	relayed(t, a, d, containers[0], addrs[3], other)
	lab.Underlay().Run("ip", "link", "set", port, "up")

	lab.Partition(hosts[:1], hosts[2:3])
	lab.Partition(hosts[1:2], hosts[3:])
	relayed(t, a, d, containers[0], addrs[3], "h2", "h3")
	containers[3].Try("ping", "-c", "20", "-i", "0.02", "-p", "5eed5eed", addrs[0])
	if seen := dump(); strings.Contains(seen, "5eed 5eed 5eed") || !strings.Contains(seen, "6785") {
		t.Error("a relay of encrypted links shows plaintext on the underlay")
	}

	// The kernel of a relay goes on without its daemon. Gossip and the address plan
	// reach everybody again; the links have to prove themselves first.
	lab.Heal()
	hosts[2].Run("weft", "stop")
	mustPing(t, containers[0], addrs[3], "while the daemon of a relay is stopped")
	a.Run("weft", "rmpeer", "h3", "--yes")
	netlab.Eventually(t, "nothing leads to the removed host, or by it", func() bool {
		for _, l := range status(t, a).Links {
			if l.Name == "h3" || slices.Contains(via(t, a, d), "h3") {
				return false
			}
		}
		return true
	})
}

func TestHalvesThatOneLinkJoinsReachEachOther(t *testing.T) {
	lab, hosts := launched(t, 6)
	containers, addrs := inEach(t, hosts)
	settled(t, hosts)
	// The third and the fourth are all that hears anybody of the other half.
	lab.Deafen(func(from, to int) bool { return from/3 != to/3 && (min(from, to) != 2 || max(from, to) != 3) })
	relayed(t, hosts[0], hosts[5], containers[0], addrs[5], "h3", "h4")
	for _, a := range []int{0, 1, 2} {
		for _, b := range []int{3, 4, 5} {
			netlab.Eventually(t, "pings pass", func() bool { return containers[a].Try("ping", "-c", "1", "-W", "0.3", addrs[b]).Code == 0 })
		}
	}
}

func TestRelayKeepsToWhatEachLinkAllows(t *testing.T) {
	hosts := trusting(t, "192.0.2.1/32,192.0.2.2/32", "192.0.2.1/32,192.0.2.2/32", "none")
	uses(t, hosts[0], hosts[1], "direct")
	uses(t, hosts[1], hosts[0], "direct")
	containers, addrs := inEach(t, hosts)
	settled(t, hosts)
	dump := hosts[2].Start("tcpdump", "-l", "-n", "-x", "-i", "eth0", "udp or icmp")
	hosts[2].Run("nft", "table netdev cut { chain c { type filter hook ingress device eth0 priority 0; ip saddr 192.0.2.1 drop; }; }")
	relayed(t, hosts[0], hosts[2], containers[0], addrs[2], "h2")
	containers[0].Try("ping", "-c", "20", "-i", "0.02", "-p", "5eed5eed", addrs[2])
	containers[2].Try("ping", "-c", "20", "-i", "0.02", "-p", "5eed5eed", addrs[0])
	if seen := dump(); strings.Contains(seen, "5eed 5eed 5eed") || !strings.Contains(seen, "6785") {
		t.Error("the link to the host that trusts nobody carries plaintext")
	}
}
