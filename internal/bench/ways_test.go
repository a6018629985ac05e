package bench

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/weft-net/weft/internal/netlab"
)

// place is a host or a container.
type place interface {
	netlab.Pinger
	Run(args ...string) string
	Start(args ...string) (stop func() string)
}

// way is how packets get from one place to another.
type way struct {
	name           string
	client, server place
	addr           string // of the server
}

// The ways that are compared with one another.
const (
	routed     = "routed underlay"
	tracked    = "the same, behind a masquerade"
	plainVXLAN = "plain VXLAN"
	hostToHost = "the same WireGuard, host to host"
	plainWG    = "the same, between containers"

	wovenDirect = "weft direct"
	wovenVXLAN  = "weft VXLAN"
	wovenWG     = "weft WireGuard in userspace"
)

// veth is a pair between two containers: the limit.
func veth(_ testing.TB, lab *netlab.Lab) []way {
	h := lab.Host("v1")
	a, b := h.Container("a"), h.Container("b")
	h.Run("ip", "link", "add", "eth0", "netns", "a", "type", "veth", "peer", "name", "eth0", "netns", "b")
	for i, c := range []*netlab.Container{a, b} {
		c.Run("ip", "address", "add", fmt.Sprintf("198.51.100.%d/24", i+1), "dev", "eth0")
		c.Run("ip", "link", "set", "eth0", "up")
	}
	return []way{{"veth pair", a, b, "198.51.100.2"}}
}

func plain(_ testing.TB, lab *netlab.Lab) []way {
	return straight(routed, lab.Host("r1"), lab.Host("r2"))
}

// straight are containers whose hosts reach each other without a tunnel.
func straight(name string, hosts ...*netlab.Host) []way {
	return bridged(name, hosts, 1500, func(i int) []string { return []string{"via", hosts[1-i].Addr.String()} })
}

// vxlanByHand is what VXLAN costs by itself.
func vxlanByHand(_ testing.TB, lab *netlab.Lab) []way {
	hosts := []*netlab.Host{lab.Host("x1"), lab.Host("x2")}
	for i, h := range hosts {
		h.Run("ip", "link", "add", "vx", "type", "vxlan", "id", "7", "dstport", "4789", "local", h.Addr.String(), "remote", hosts[1-i].Addr.String(), "nolearning")
		h.Run("ip", "address", "add", fmt.Sprintf("203.0.113.%d/24", i+1), "dev", "vx")
		h.Run("ip", "link", "set", "vx", "up")
	}
	return bridged(plainVXLAN, hosts, 1450, func(i int) []string { return []string{"via", fmt.Sprintf("203.0.113.%d", 2-i)} })
}

// masqueraded have the rule, too, that lets containers reach the outside, and
// that has the kernel keep track of all connections.
func masqueraded(_ testing.TB, lab *netlab.Lab) []way {
	ways := straight(tracked, lab.Host("m1"), lab.Host("m2"))
	for _, w := range ways {
		for _, c := range []place{w.client, w.server} {
			c.(*netlab.Container).Host.Run("nft", "add table ip plain; add chain ip plain out { type nat hook postrouting priority srcnat; }; "+
				"add rule ip plain out ip saddr 198.51.0.0/16 ip daddr != 198.51.0.0/16 masquerade")
		}
	}
	return ways
}

// bridged are containers on a bridge of each host. Route is how each host reaches
// the other's containers, in the words of ip; mtu is that of the containers.
func bridged(name string, hosts []*netlab.Host, mtu int, route func(i int) []string) []way {
	var containers []place
	for i, h := range hosts {
		net, other := fmt.Sprintf("198.51.%d", 100+i), containersOf(1-i)
		h.Run("ip", "link", "add", "plain", "type", "bridge")
		h.Run("ip", "address", "add", net+".1/24", "dev", "plain")
		h.Run("ip", "link", "set", "plain", "up")
		h.Run(append([]string{"ip", "route", "add", other}, route(i)...)...)
		h.Run("sysctl", "-q", "-w", "net.ipv4.ip_forward=1")
		c := h.Container("a")
		h.Run("ip", "link", "add", "port", "mtu", strconv.Itoa(mtu), "type", "veth", "peer", "name", "eth0", "mtu", strconv.Itoa(mtu), "netns", "a")
		h.Run("ip", "link", "set", "port", "master", "plain", "up")
		c.Run("ip", "address", "add", net+".2/24", "dev", "eth0")
		c.Run("ip", "link", "set", "eth0", "up")
		c.Run("ip", "route", "add", "default", "via", net+".1")
		containers = append(containers, c)
	}
	return []way{{name, containers[0], containers[1], "198.51.101.2"}}
}

// containersOf is the network of the bridge on one of two hosts.
func containersOf(i int) string { return fmt.Sprintf("198.51.%d.0/24", 100+i) }

// woven are two hosts that are a mesh, with a container each; and with two on
// one of them.
func woven(t testing.TB, lab *netlab.Lab, transport, name string) []way {
	a, b := lab.Host(transport+"1"), lab.Host(transport+"2")
	join := strings.Fields(a.Run("weft", "launch", "--encap", transport))
	b.Run(join...)
	client, server, neighbour := a.Container("a"), b.Container("b"), a.Container("c")
	a.Run("weft", "attach", "a")
	addr, near := b.Run("weft", "attach", "b"), a.Run("weft", "attach", "c")
	netlab.Eventually(t, "the hosts use "+transport, func() bool {
		var s struct {
			Links []struct{ Transport, State string }
		}
		err := json.Unmarshal([]byte(a.Try("weft", "status", "-o", "json").Stdout), &s)
		return err == nil && len(s.Links) == 1 && s.Links[0].Transport == transport
	})
	if name == wovenWG && a.Try("pidof", "weft").Code == 0 && !strings.Contains(a.Run("weft", "status"), "(userspace)") {
		name = "weft WireGuard in the kernel"
	}
	ways := []way{{name, client, server, addr}}
	if transport == "vxlan" {
		ways = append(ways, way{"the same host, over weft's bridge", client, neighbour, near})
	}
	return ways
}

func direct(t testing.TB, lab *netlab.Lab) []way { return woven(t, lab, "direct", wovenDirect) }
func vxlan(t testing.TB, lab *netlab.Lab) []way  { return woven(t, lab, "vxlan", wovenVXLAN) }
func wovenWireGuard(t testing.TB, lab *netlab.Lab) []way {
	return woven(t, lab, "wireguard", wovenWG)
}
