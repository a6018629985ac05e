package e2e

import (
	"strings"
	"testing"

	"github.com/weft-net/weft/api"
	"github.com/weft-net/weft/internal/netlab"
)

// allAlive waits until each of the hosts takes n peers for alive, itself included.
func allAlive(t *testing.T, n int, hosts ...*netlab.Host) {
	t.Helper()
	for _, h := range hosts {
		netlab.Eventually(t, h.Name+" takes all for alive", func() bool {
			alive := 0
			for _, p := range status(t, h).Peers {
				if p.State == "alive" {
					alive++
				}
			}
			return alive == n
		})
	}
}

// peerNamed is a peer as a host sees it.
func peerNamed(t *testing.T, h *netlab.Host, name string) api.Peer {
	t.Helper()
	for _, p := range status(t, h).Peers {
		if p.Name == name {
			return p
		}
	}
	t.Fatalf("%s knows no peer %s", h.Name, name)
	return api.Peer{}
}

// joinLine is what a host that runs says is to be typed on the next.
func joinLine(h *netlab.Host) []string { return strings.Fields(h.Run("weft", "token", "show")) }

func TestHostBehindNATIsAMemberLikeAnyOther(t *testing.T) {
	lab, hosts := launched(t, 2)
	nat := lab.NAT("nat", true)
	inside := nat.Behind("inside")
	inside.Run(joinLine(hosts[0])...)
	everybody := append(hosts[:2:2], inside)
	allAlive(t, 3, everybody...)
	box, boxAddr := attached(t, inside, "box")
	var outer []*netlab.Container
	for _, h := range hosts {
		c, addr := attached(t, h, "c-"+h.Name)
		outer = append(outer, c)
		netlab.Eventually(t, "ping out to "+h.Name, func() bool { return netlab.Pings(box, addr) })
		netlab.Eventually(t, "ping in from "+h.Name, func() bool { return netlab.Pings(c, boxAddr) })
	}
	for _, h := range hosts {
		netlab.Eventually(t, h.Name+" knows that it is behind NAT, and where it is heard", func() bool {
			p := peerNamed(t, h, "inside")
			return p.Confined && len(p.Seen) > 0 && p.Seen[0].Addr() == nat.Addr && p.Way != "" && p.Way != "direct"
		})
	}
	check := func(what string) {
		t.Helper()
		allAlive(t, 3, everybody...)
		for _, c := range outer {
			netlab.Eventually(t, what+": ping from "+c.Name, func() bool { return netlab.Pings(c, boxAddr) })
		}
	}
	again := func(h *netlab.Host) { h.Run("weft", "launch") }
	inside.Run("weft", "stop", "--all")
	again(inside)
	check("it starts again")
	hosts[0].Run("weft", "stop", "--all")
	again(hosts[0])
	check("a public host starts again")
	for _, h := range everybody {
		h.Run("weft", "stop", "--all")
	}
	for _, h := range everybody {
		again(h)
	}
	check("all start again")
	for _, c := range outer {
		for _, to := range []string{boxAddr, status(t, inside).Bridge.Gateway.Addr().String(), c.Host.Addr.String()} {
			if r := c.Try("timeout", "1", "bash", "-c", "exec 3<>/dev/tcp/"+strings.Split(to, "/")[0]+"/6783"); r.Code == 0 {
				t.Errorf("container %s reaches gossip at %s", c.Name, to)
			}
		}
	}
}

func TestTwoHostsBehindNATThatKeepsPortsMeet(t *testing.T) {
	lab, hosts := launched(t, 1)
	nat1, nat2 := lab.NAT("nat1", false), lab.NAT("nat2", false)
	a, b := nat1.Behind("a"), nat2.Behind("b")
	for _, h := range []*netlab.Host{a, b} {
		h.Run(joinLine(hosts[0])...)
	}
	box, addr := attached(t, a, "box")
	other, otherAddr := attached(t, b, "other")
	netlab.Eventually(t, "a direct link", func() bool { return netlab.Pings(box, otherAddr) && netlab.Pings(other, addr) })
	for _, o := range []struct {
		h    *netlab.Host
		peer string
		nat  *netlab.Router
	}{{a, "b", nat2}, {b, "a", nat1}} {
		netlab.Eventually(t, o.h.Name+" hears the other by its NAT", func() bool {
			for _, l := range status(t, o.h).Links {
				if l.Name == o.peer {
					return l.Answers && l.Heard.Addr() == o.nat.Addr
				}
			}
			return false
		})
	}
	allAlive(t, 3, hosts[0], a, b)
}

func TestHostWhoseAddressChangesCarriesOn(t *testing.T) {
	_, hosts := launched(t, 3, "--trusted-subnets", "192.0.2.0/24")
	moving := hosts[2]
	box, addr := attached(t, moving, "box")
	other, otherAddr := attached(t, hosts[0], "other")
	netlab.Eventually(t, "ping", func() bool { return netlab.Pings(other, addr) })
	moving.Run("bash", "-c", "ip address del 192.0.2.3/24 dev eth0 && ip address add 192.0.2.77/24 dev eth0")
	netlab.Eventually(t, "ping to where it is now", func() bool { return netlab.Pings(other, addr) && netlab.Pings(box, otherAddr) })
	for _, h := range hosts {
		netlab.Eventually(t, h.Name+" knows the new address", func() bool {
			p := peerNamed(t, h, "h3")
			return p.State == "alive" && len(p.Underlay) == 1 && p.Underlay[0].String() == "192.0.2.77" && p.Gossip[0].Addr().String() == "192.0.2.77"
		})
	}
	allAlive(t, 3, hosts...)
}

func TestHostWhoseAddressIsGoneForAMomentDoesNotMoveToDockersBridge(t *testing.T) {
	_, hosts := launched(t, 1, "--encap", "vxlan")
	h := hosts[0]
	h.Run("bash", "-c", "ip link add docker0 type bridge && ip address add 172.17.0.1/16 dev docker0 && ip link set docker0 up")
	h.Run("bash", "-c", "ip address del 192.0.2.1/24 dev eth0")
	var says string
	netlab.Eventually(t, "it is seen that the address is gone", func() bool {
		says = h.Try("weft", "status", "-o", "json").Stdout
		return strings.Contains(says, "is on no interface any more")
	})
	if strings.Contains(says, "172.17.0.1") {
		t.Errorf("it has moved: %s", says)
	}
	h.Run("ip", "address", "add", "192.0.2.1/24", "dev", "eth0")
	netlab.Eventually(t, "all is well again", func() bool {
		return !strings.Contains(h.Try("weft", "status", "-o", "json").Stdout, "is on no interface any more")
	})
}

func TestTwoHostsBehindHardNATsAreRelayed(t *testing.T) {
	lab, hosts := launched(t, 1)
	var inside []*netlab.Host
	var boxes []*netlab.Container
	var addrs []string
	for i, name := range []string{"a", "b"} {
		h := lab.NAT("nat-"+name, true).Behind(name)
		h.Run(joinLine(hosts[0])...)
		c, addr := attached(t, h, "box")
		inside, boxes, addrs = append(inside, h), append(boxes, c), append(addrs, addr)
		netlab.Eventually(t, "ping to the public host", func() bool { return netlab.Pings(boxes[i], status(t, hosts[0]).Bridge.Gateway.Addr().String()) })
	}
	netlab.Eventually(t, "ping from each to the other", func() bool {
		return netlab.Pings(boxes[0], addrs[1]) && netlab.Pings(boxes[1], addrs[0])
	})
	for i, h := range inside {
		netlab.Eventually(t, h.Name+" is relayed by the public host", func() bool {
			for _, l := range status(t, h).Links {
				if l.Name == inside[1-i].Name {
					return len(l.Via) == 1 && l.Via[0].Name == "h1" && l.Encrypted
				}
			}
			return false
		})
		var p api.Peer
		t.Cleanup(func() {
			if t.Failed() {
				t.Logf("%s knows the other as %+v", h.Name, p)
			}
		})
		netlab.Eventually(t, h.Name+" gossips with the other through the overlay", func() bool {
			p = peerNamed(t, h, inside[1-i].Name)
			return p.State == "alive" && p.Way == "overlay"
		})
	}
	allAlive(t, 3, hosts[0], inside[0], inside[1])
	// The owner is asked through the overlay.
	theirs := status(t, inside[1]).Self.Prefixes[0].Addr()
	for range 9 {
		theirs = theirs.Next()
	}
	guest := inside[0].Container("guest")
	inside[0].Run("weft", "attach", "guest", theirs.String())
	netlab.Eventually(t, "ping to a leased address", func() bool { return netlab.Pings(boxes[1], theirs.String()) && netlab.Pings(guest, addrs[1]) })
}

func TestHostBehindForwardedPortsIsReachedLikeAnyOther(t *testing.T) {
	lab, hosts := launched(t, 1)
	nat := lab.NAT("nat", true)
	inside := nat.Behind("inside")
	nat.Forward(inside, 6783, 6785, 6788)
	inside.Run(append(joinLine(hosts[0]), "--advertise", nat.Addr.String())...)
	late := lab.Host("late")
	late.Run(joinLine(inside)...) // by the outer address
	everybody := []*netlab.Host{hosts[0], inside, late}
	allAlive(t, 3, everybody...)
	box, boxAddr := attached(t, inside, "box")
	for _, h := range []*netlab.Host{hosts[0], late} {
		heardAt(t, h, "inside", nat.Addr.String())
		netlab.Eventually(t, h.Name+" connects to it", func() bool {
			p := peerNamed(t, h, "inside")
			return !p.Confined && p.Way == "direct" && len(p.Gossip) == 2 && p.Gossip[0].Addr() == nat.Addr
		})
		c, addr := attached(t, h, "c-"+h.Name)
		netlab.Eventually(t, "ping between inside and "+h.Name, func() bool { return netlab.Pings(c, boxAddr) && netlab.Pings(box, addr) })
	}
	inside.Run("weft", "stop")
	inside.Run("weft", "launch")
	allAlive(t, 3, everybody...)
	if p := peerNamed(t, inside, "inside"); len(p.Gossip) != 2 || p.Gossip[0].Addr() != nat.Addr {
		t.Errorf("after a restart it says that it is at %v", p.Gossip)
	}
}

func TestTwoHostsBehindOneRouterTalkToEachOtherDirectly(t *testing.T) {
	lab, hosts := launched(t, 1, "--trusted-subnets", "192.168.1.0/24")
	nat := lab.NAT("nat", true)
	a, b := nat.Behind("a"), nat.Behind("b")
	for _, h := range []*netlab.Host{a, b} {
		h.Run(append(joinLine(hosts[0]), "--trusted-subnets", "192.168.1.0/24")...)
	}
	everybody := []*netlab.Host{hosts[0], a, b}
	allAlive(t, 3, everybody...)
	allReachEachOther(t, everybody)
	near := func() bool {
		for _, l := range status(t, a).Links {
			if l.Name == "b" {
				return l.Answers && l.Underlay == b.Addr && l.Transport == "direct"
			}
		}
		return false
	}
	netlab.Eventually(t, "a sends to b on their own segment", near)
	// An earlier process has shown that b is reached so: a new one moves nothing.
	a.Run("weft", "stop")
	before := len(a.Run("cat", "/var/lib/weft/weft.log"))
	a.Run("weft", "launch")
	netlab.Eventually(t, "a sends to b as before", near)
	for line := range strings.Lines(a.Run("cat", "/var/lib/weft/weft.log")[before:]) {
		if strings.Contains(line, "link changed") && strings.Contains(line, "peer=b ") && strings.Contains(line, "to=wireguard") {
			t.Errorf("after the restart: %s", line)
		}
	}
}
