package e2e

import (
	"fmt"
	"strings"
	"testing"

	"github.com/weft-net/weft/internal/netlab"
)

// inSubnet makes a container that is attached with a subnet.
func inSubnet(h *netlab.Host, name, subnet string) (*netlab.Container, string) {
	c := h.Container(name)
	return c, h.Run("weft", "attach", name, "--subnet", subnet)
}

// unreachable fails the test if from reaches an address.
func unreachable(t *testing.T, from netlab.Pinger, to, what string) {
	t.Helper()
	if from.Try("ping", "-c", "2", "-i", "0.05", "-W", "0.5", to).Code == 0 {
		t.Errorf("it is reached: %s (%s)", what, to)
	}
}

func TestSubnetsDoNotReachEachOtherOnAnyHost(t *testing.T) {
	const red, blue = "10.40.1.0/24", "10.40.2.0/24"
	_, hosts := launched(t, 2)
	type end struct {
		name, addr string
		nets       string
		at         *netlab.Container
	}
	var ends []end
	for i, h := range hosts {
		for _, net := range []string{red, blue} {
			c, addr := inSubnet(h, fmt.Sprintf("%s%d", map[string]string{red: "red", blue: "blue"}[net], i), net)
			ends = append(ends, end{c.Name, addr, net, c})
		}
		c, addr := attached(t, h, fmt.Sprintf("plain%d", i))
		ends = append(ends, end{c.Name, addr, "", c})
	}
	both, bothRed := inSubnet(hosts[0], "both", red)
	out := strings.Fields(hosts[0].Run("weft", "attach", "both", "--subnet", blue))
	if len(out) != 2 || out[0] != bothRed || !strings.HasPrefix(out[1], "10.40.2.") {
		t.Fatalf("attach with a second subnet = %q", out)
	}
	if again := strings.Fields(hosts[0].Run("weft", "attach", "both", "--subnet", blue)); len(again) != 2 {
		t.Errorf("the same again gives %q", again)
	}
	netlab.Eventually(t, "both hosts know the subnets", func() bool {
		return len(status(t, hosts[0]).IPAM.Subnets) == 2 && len(status(t, hosts[1]).IPAM.Subnets) == 2
	})
	for _, a := range ends {
		for _, b := range ends {
			if a.nets == b.nets {
				netlab.Eventually(t, a.name+" reaches "+b.name, func() bool { return netlab.Pings(a.at, b.addr) })
			} else {
				unreachable(t, a.at, b.addr, a.name+" to "+b.name)
			}
		}
		reached := map[string]string{red: bothRed, blue: out[1]}
		for net, addr := range reached {
			if net == a.nets {
				mustPing(t, a.at, addr, a.name+" to the one in both")
			} else {
				unreachable(t, a.at, addr, a.name+" to the one in both, by the other subnet")
			}
		}
		if a.nets != "" {
			mustPing(t, both, a.addr, "the one in both to "+a.name)
		} else {
			unreachable(t, both, a.addr, "the one in both to "+a.name)
		}
		for _, h := range hosts {
			mustPing(t, h, a.addr, h.Name+" to "+a.name)
			mustPing(t, a.at, status(t, h).Bridge.Gateway.Addr().String(), a.name+" to "+h.Name)
		}
	}
	t.Run("not by ARP either", func(t *testing.T) {
		if r := ends[0].at.Try("arping", "-c", "2", "-w", "2", "-I", "eth0", ends[1].addr); r.Code == 0 {
			t.Errorf("blue answers red: %s", r.Stdout)
		}
		ends[0].at.Run("arping", "-c", "1", "-w", "5", "-I", "eth0", bothRed)
	})
	t.Run("not by IPv6 either", func(t *testing.T) {
		link := func(c *netlab.Container) string {
			return strings.Split(strings.Fields(c.Run("ip", "-6", "-o", "address", "show", "dev", "eth0", "scope", "link"))[3], "/")[0]
		}
		unreachable(t, ends[0].at, link(ends[1].at)+"%eth0", "link-local")
	})
	t.Run("broadcasts stay in their subnet", func(t *testing.T) {
		red0, blue0 := ends[0].at, ends[1].at
		stopBoth := both.Start("tcpdump", "-l", "-n", "-i", "eth0", "-c", "1", "udp", "and", "port", "7777")
		stopBlue := blue0.Start("tcpdump", "-l", "-n", "-i", "eth0", "-c", "1", "udp", "and", "port", "7777")
		netlab.Eventually(t, "one in the subnet hears it", func() bool {
			red0.Run("python3", "-c", `import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1); s.bind(("`+ends[0].addr+`", 0)); s.sendto(b"x", ("255.255.255.255", 7777)); s.sendto(b"x", ("224.0.0.251", 7777))`)
			return strings.Count(strings.Join(hosts[0].Processes(), ";"), "tcpdump") < 2 || strings.Contains(strings.Join(hosts[0].Processes(), ";"), "tcpdump") == false
		})
		stopBoth()
		if out := stopBlue(); strings.Contains(out, ends[0].addr) {
			t.Errorf("another subnet hears it: %s", out)
		}
	})
	t.Run("a published port is for all of them", func(t *testing.T) {
		serveTCP(t, ends[0].at, 80)
		hosts[0].Run("weft", "publish", ends[0].name, "8080:80")
		for _, from := range []end{ends[1], ends[2], ends[4]} {
			if got := askTCP(from.at, hosts[0].Addr.String(), 8080); !strings.HasPrefix(got, ends[0].name) {
				t.Errorf("from %s: %q", from.name, got)
			}
		}
	})
	t.Run("a host is exposed in a subnet", func(t *testing.T) {
		addr := hosts[1].Run("weft", "expose", red)
		if !strings.HasPrefix(addr, "10.40.1.") {
			t.Fatalf("exposed by %s", addr)
		}
		for _, e := range ends {
			if e.nets == red {
				netlab.Eventually(t, e.name+" reaches it", func() bool { return netlab.Pings(e.at, addr) })
			} else {
				unreachable(t, e.at, addr, e.name+" to a host exposed in red")
			}
		}
		if got := hosts[1].Run("weft", "expose", "10.40.2.200/24"); !strings.Contains(got, "10.40.2.200") {
			t.Errorf("exposed by %s", got)
		}
		hosts[1].Run("weft", "hide", red)
		if got := hosts[1].Run("weft", "hide"); got != "" {
			t.Errorf("left: %s", got)
		}
	})
	t.Run("a plain address is in no subnet, though the host has no others near", func(t *testing.T) {
		h := hosts[0]
		for i := range 3 {
			_, addr := attached(t, h, fmt.Sprintf("p%d", i))
			if strings.HasPrefix(addr, "10.40.1.") || strings.HasPrefix(addr, "10.40.2.") {
				t.Errorf("a container without a subnet has %s", addr)
			}
		}
	})
	t.Run("when the last one is gone nobody is kept apart", func(t *testing.T) {
		for i, h := range hosts {
			for _, n := range []string{fmt.Sprintf("red%d", i), fmt.Sprintf("blue%d", i)} {
				h.Run("weft", "detach", n)
			}
		}
		hosts[0].Run("weft", "detach", "both")
		netlab.Eventually(t, "no subnet is left", func() bool {
			return len(status(t, hosts[0]).IPAM.Subnets)+len(status(t, hosts[1]).IPAM.Subnets) == 0
		})
		netlab.Eventually(t, "no rule is left", func() bool { return !strings.Contains(hosts[1].Run("nft", "list", "ruleset"), "isolation") })
	})
}

func TestSubnetsStandTheDaemonsDeathAndARestart(t *testing.T) {
	_, hosts := launched(t, 2)
	red, _ := inSubnet(hosts[0], "red", "10.40.1.0/24")
	_, blueAddr := inSubnet(hosts[1], "blue", "10.40.2.0/24")
	kill9(t, hosts[0])
	kill9(t, hosts[1])
	unreachable(t, red, blueAddr, "without daemons")
	hosts[0].Run("weft", "launch")
	unreachable(t, red, blueAddr, "with one, which does not hear the other")
	hosts[1].Run("weft", "launch")
	_, redAddr := inSubnet(hosts[1], "red2", "10.40.1.0/24")
	netlab.Eventually(t, "the subnet itself goes on", func() bool { return netlab.Pings(red, redAddr) })
	unreachable(t, red, blueAddr, "after the restart")
}
