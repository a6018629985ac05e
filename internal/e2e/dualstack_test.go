package e2e

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/weft-net/weft/api"
	"github.com/weft-net/weft/internal/netlab"
)

// attachedDual makes a container that is on the network, and returns its IPv6
// address, too.
func attachedDual(t *testing.T, h *netlab.Host, name string) (c *netlab.Container, four, six string) {
	t.Helper()
	c = h.Container(name)
	var at api.Attachment
	if err := json.Unmarshal([]byte(h.Run("weft", "attach", name, "-o", "json")), &at); err != nil {
		t.Fatal(err)
	}
	if len(at.IPv6) != 1 || !status(t, h).IPAM.IPv6.Contains(at.IPv6[0]) {
		t.Fatalf("%s on %s has IPv6 addresses %v", name, h.Name, at.IPv6)
	}
	return c, at.Address.Addr().String(), at.IPv6[0].String()
}

func TestContainersHaveIPv6BesideIPv4AndEitherAddressNamesThem(t *testing.T) {
	_, hosts := launched(t, 1)
	h := hosts[0]
	a, _, aSix := attachedDual(t, h, "a")
	b, _, bSix := attachedDual(t, h, "b")
	s := status(t, h)
	mustPing(t, a, bSix, "container to container")
	mustPing(t, b, s.Bridge.IPv6.String(), "container to host")
	mustPing(t, h, aSix, "host to container")

	rng := s.IPAM.IPv6.Addr().As16()
	rng[12], rng[13], rng[14], rng[15] = 10, 32, 0, 77
	six := netip.AddrFrom16(rng).String()
	c := h.Container("c")
	if got := h.Run("weft", "attach", "c", six); strings.TrimSpace(got) != "10.32.0.77" {
		t.Errorf("attach of %s prints %q", six, got)
	}
	mustPing(t, c, bSix, "container with an address that was asked for")
	if out := h.Run("weft", "ps"); !strings.Contains(out, six) || !strings.Contains(out, aSix) {
		t.Errorf("ps:\n%s", out)
	}
	h.Run("weft", "expose", strings.Replace(six, "4d", "4e", 1))
	mustPing(t, a, strings.Replace(six, "4d", "4e", 1), "exposed host")
	h.Run("weft", "detach", "c", six)
	if netlab.Pings(a, six) {
		t.Error("a detached container answers")
	}
}

func TestBothFamiliesReachAllContainersAndHostsByEveryTransport(t *testing.T) {
	for _, encap := range []string{"wireguard", "vxlan", "direct"} {
		t.Run(encap, func(t *testing.T) {
			_, hosts := launched(t, 2, "--encap", encap)
			var from []netlab.Pinger
			var four, six []string
			for _, h := range hosts {
				s := status(t, h)
				from, four, six = append(from, h), append(four, s.Bridge.Gateway.Addr().String()), append(six, s.Bridge.IPv6.String())
				for _, name := range []string{"a", "b"} {
					c, c4, c6 := attachedDual(t, h, name)
					from, four, six = append(from, c), append(four, c4), append(six, c6)
				}
			}
			for i, p := range from {
				for j := range from {
					mustPing(t, p, four[j], fmt.Sprintf("%d to %d by IPv4", i, j))
					mustPing(t, p, six[j], fmt.Sprintf("%d to %d by IPv6", i, j))
				}
			}
			if p := from[1].Try("ping", "-c", "1", "-W", "3", "-s", "4000", six[4]); p.Code != 0 {
				t.Errorf("no large ping: %s%s", p.Stdout, p.Stderr)
			}
		})
	}
}

func TestIPv6FollowsAnAddressToAnotherHost(t *testing.T) {
	_, hosts := launched(t, 2)
	a, _, _ := attachedDual(t, hosts[0], "a")
	b, _, _ := attachedDual(t, hosts[1], "b")
	_, four, six := attachedDual(t, hosts[0], "moves")
	mustPing(t, a, six, "before, beside it")
	mustPing(t, b, six, "before, from the other host")
	hosts[0].Run("weft", "detach", "moves")
	hosts[1].Container("moved")
	hosts[1].Run("weft", "attach", "moved", four)
	mustPing(t, b, six, "after, beside it")
	// The other host hears of it: with IPv4 the first packet waits for an answer to
	// ARP meanwhile, with IPv6 it is refused.
	netlab.Eventually(t, "the other host has its new route", func() bool { return netlab.Pings(a, six) })
}

// on6 gives a host of the lab an IPv6 address on the underlay, and takes the IPv4
// one away if it is to have no other.
func on6(h *netlab.Host, only bool) string {
	six := fmt.Sprintf("2001:db8::%d", h.Addr.As4()[3])
	h.Run("ip", "address", "add", six+"/64", "dev", "eth0", "nodad")
	if only {
		h.Run("ip", "address", "delete", h.Addr.String()+"/24", "dev", "eth0")
	}
	return six
}

func TestUnderlayOfIPv6AloneCarriesBothFamilies(t *testing.T) {
	for encap, mtu := range map[string]int{"wireguard": 1500 - 80, "vxlan": 1500 - 70} {
		t.Run(encap, func(t *testing.T) {
			lab := newLab(t)
			h1, h2 := lab.Host("h1"), lab.Host("h2")
			six := on6(h1, true)
			on6(h2, true)
			join := h1.Run("weft", "launch", "--encap", encap, "--port", "7000")
			if !strings.Contains(join, "--join ["+six+"]:7000 ") {
				t.Errorf("the line to join is %s", join)
			}
			h2.Run(append(strings.Fields(join), "--port", "7000")...)
			a, a4, a6 := attachedDual(t, h1, "a")
			b, _, _ := attachedDual(t, h2, "b")
			netlab.Eventually(t, "containers reach each other", func() bool { return netlab.Pings(b, a4) && netlab.Pings(b, a6) })
			s := status(t, h1)
			if s.Bridge.MTU != mtu || len(s.Links) != 1 || s.Links[0].Reason != "" || !s.Links[0].Underlay.Is6() {
				t.Errorf("MTU %d, want %d; links %+v", s.Bridge.MTU, mtu, s.Links)
			}
			mustPing(t, a, status(t, h2).Bridge.IPv6.String(), "container to the other host")
		})
	}
}

func TestHostsWithDifferentFamiliesMeetWhereTheyHaveOneInCommon(t *testing.T) {
	lab := newLab(t)
	both, four, six := lab.Host("both"), lab.Host("four"), lab.Host("six")
	bothSix := on6(both, false)
	on6(six, true)
	join := strings.Fields(both.Run("weft", "launch", "--advertise", both.Addr.String()+","+bothSix))
	four.Run(join...)
	for i, arg := range join {
		if arg == both.Addr.String() {
			join[i] = bothSix
		}
	}
	six.Run(join...)
	a, _, a6 := attachedDual(t, both, "a")
	b, b4, b6 := attachedDual(t, four, "b")
	c, c4, c6 := attachedDual(t, six, "c")
	netlab.Eventually(t, "containers of two hosts with IPv4 reach each other", func() bool { return netlab.Pings(a, b4) && netlab.Pings(a, b6) })
	mustPing(t, b, a6, "from IPv4 alone")
	netlab.Eventually(t, "containers of two hosts with IPv6 reach each other", func() bool { return netlab.Pings(a, c4) && netlab.Pings(a, c6) })
	for range 20 { // no packet of one peer goes to where the other's went before
		mustPing(t, a, b6, "to IPv4 alone")
		mustPing(t, c, a6, "from IPv6 alone")
	}
	netlab.Eventually(t, "each link has the family that its ends have in common", func() bool {
		var at []string
		for _, l := range status(t, both).Links {
			at = append(at, l.Name+" "+l.Underlay.String()+l.Reason)
		}
		slices.Sort(at)
		return slices.Equal(at, []string{"four 192.0.2.2", "six 2001:db8::3"})
	})
	for _, h := range []*netlab.Host{four, six} {
		netlab.Eventually(t, h.Name+" says why it has no link to the third, and who relays", func() bool {
			for _, l := range status(t, h).Links {
				if strings.Contains(l.Broken, "no common family") && len(l.Via) == 1 && l.Via[0].Name == "both" {
					return true
				}
			}
			return false
		})
	}
	mustPing(t, b, c4, "between hosts of no common family")
	mustPing(t, c, b6, "between hosts of no common family, by IPv6")
}

// routerAdvertisement is a perl program that sends one (RFC 4861, 4.2) by eth0.
const routerAdvertisement = `use Socket qw(:all); socket(S, AF_INET6, SOCK_RAW, 58) or die $!; setsockopt(S, 41, 18, pack("i", 255)) or die $!;
open(F, "/sys/class/net/eth0/ifindex"); my $index = <F>;
send(S, pack("CCnCCnNN", 134, 0, 0, 64, 0, 1800, 0, 0), 0, pack_sockaddr_in6(0, inet_pton(AF_INET6, "ff02::1"), $index)) or die $!`

func TestHostKeepsTheDefaultRouteThatItsRouterAdvertises(t *testing.T) {
	lab := newLab(t)
	h, router := lab.Host("h1"), lab.Host("router")
	hasRoute := func() bool { return strings.Contains(h.Run("ip", "-6", "route", "show", "default"), "proto ra") }
	netlab.Eventually(t, "the host has a default route", func() bool { router.Run("perl", "-e", routerAdvertisement); return hasRoute() })
	was := h.Snapshot()
	h.Run("weft", "launch")
	if out := h.Run("sysctl", "-n", "net.ipv6.conf.all.forwarding", "net.ipv6.conf.eth0.accept_ra"); out != "1\n2" || !hasRoute() {
		t.Errorf("forwarding and accept_ra: %s; default route: %v", out, hasRoute())
	}
	h.Run("weft", "reset", "--yes")
	if d := netlab.Diff(was, h.Snapshot()); d != "" {
		t.Errorf("after reset the host differs:\n%s", d)
	}
}

func TestIPv6HasItsLeastMTUOnAnUnderlayThatHasNoMore(t *testing.T) {
	lab := newLab(t)
	h1, h2 := lab.Host("h1"), lab.Host("h2")
	for _, h := range []*netlab.Host{h1, h2} {
		h.Run("ip", "link", "set", "eth0", "mtu", "1280")
	}
	h2.Run(strings.Fields(h1.Run("weft", "launch"))...)
	a, a4, a6 := attachedDual(t, h1, "a")
	b, _, b6 := attachedDual(t, h2, "b")
	netlab.Eventually(t, "containers reach each other", func() bool { return netlab.Pings(b, a4) && netlab.Pings(b, a6) })
	if mtu := status(t, h1).Bridge.MTU; mtu != 1280 {
		t.Errorf("the containers' MTU is %d", mtu)
	}
	for _, to := range []string{a4, a6} {
		if p := b.Try("ping", "-c", "2", "-W", "3", "-s", "3000", to); p.Code != 0 {
			t.Errorf("large pings to %s: %s%s", to, p.Stdout, p.Stderr)
		}
	}
	if p := a.Try("ping", "-c", "1", "-W", "3", "-M", "do", "-s", "1232", b6); p.Code != 0 {
		t.Errorf("no ping of 1280 bytes: %s%s", p.Stdout, p.Stderr)
	}
}

func TestMeshWithoutIPv6AndHostsThatHaveItOff(t *testing.T) {
	_, hosts := launched(t, 1, "--no-ipv6")
	h := hosts[0]
	attached(t, h, "a")
	if out := h.Run("weft", "status"); !strings.Contains(out, "off: the mesh was founded without") {
		t.Errorf("status:\n%s", out)
	}
	if out := h.Run("sysctl", "-n", "net.ipv6.conf.all.forwarding"); strings.TrimSpace(out) != "0" {
		t.Errorf("IPv6 forwarding is %s", out)
	}

	lab := newLab(t)
	h = lab.Host("h1")
	h.Run("sysctl", "-q", "-w", "net.ipv6.conf.all.disable_ipv6=1", "net.ipv6.conf.default.disable_ipv6=1")
	netlab.Eventually(t, "its device is up", func() bool { return strings.Contains(h.Run("ip", "link", "show", "eth0"), "state UP") })
	was := h.Snapshot()
	h.Run("weft", "launch")
	a, _ := attached(t, h, "a")
	_, b := attached(t, h, "b")
	mustPing(t, a, b, "IPv4 where IPv6 is off")
	if out := h.Run("weft", "status"); !strings.Contains(out, "off: sysctl net/ipv6/conf/weft/disable_ipv6 is 1") {
		t.Errorf("status:\n%s", out)
	}
	h.Run("weft", "reset", "--yes")
	h.Run("ip", "netns", "delete", "a")
	h.Run("ip", "netns", "delete", "b")
	if d := netlab.Diff(was, h.Snapshot()); d != "" {
		t.Errorf("the host differs:\n%s", d)
	}
}

func TestPublishedPortsAndSubnetsAreOfBothFamilies(t *testing.T) {
	lab, hosts := launched(t, 2)
	outside := lab.Host("outside")
	h := hosts[0]
	on6(outside, false)
	hostSix := on6(h, false)
	web, _, webSix := attachedDual(t, h, "web")
	near, _, _ := attachedDual(t, h, "near")
	attachedWithoutIPv6(t, h, "four")
	serve := func(c *netlab.Container) {
		c.Start("python3", "-c", `import socket
s = socket.socket(socket.AF_INET6); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); s.bind(("::", 80)); s.listen(16)
while True:
    c, a = s.accept(); c.sendall(a[0].encode()); c.close()`)
		netlab.Eventually(t, c.Name+" listens", func() bool { return askTCP(c, "127.0.0.1", 80) != "" })
	}
	serve(web)
	h.Run("weft", "publish", "web", "8080:80")
	h.Run("weft", "publish", "four", "8081:80")
	gateway := status(t, h).Bridge.IPv6.String()
	for what, tc := range map[string]struct {
		from   netlab.Pinger
		source string
	}{
		"outside": {outside, "2001:db8::"}, "the host": {h, hostSix}, "another container": {near, gateway}, "the container itself": {web, gateway},
	} {
		if got := askTCP(tc.from, hostSix, 8080); !strings.HasPrefix(got, tc.source) || got == "" {
			t.Errorf("from %s: %q", what, got)
		}
	}
	if got := askTCP(near, webSix, 80); !strings.HasPrefix(got, "fd") || got == gateway {
		t.Errorf("between containers the source is hidden: %q", got)
	}
	// What has no IPv6 itself is not in the way of whoever asks by it.
	if r := outside.Try("python3", "-c", `import socket; socket.create_connection(("`+hostSix+`", 8081), 5)`); !strings.Contains(r.Stderr, "refused") {
		t.Errorf("the port of a container without IPv6: %s", r.Stderr)
	}

	sixOf := func(h *netlab.Host, name string) string {
		for _, at := range listed(t, h) {
			if at.Container == name {
				return at.IPv6[0].String()
			}
		}
		t.Fatal(name + " is not listed")
		return ""
	}
	red, _ := inSubnet(h, "red", "10.40.1.0/24")
	inSubnet(hosts[1], "red", "10.40.1.0/24")
	blue, _ := inSubnet(h, "blue", "10.40.2.0/24")
	inSubnet(hosts[1], "blue", "10.40.2.0/24")
	for _, o := range hosts {
		to := sixOf(o, "red")
		netlab.Eventually(t, "red reaches red of "+o.Name, func() bool { return netlab.Pings(red, to) })
		unreachable(t, blue, to, "blue to red of "+o.Name)
		unreachable(t, near, to, "one in no subnet to red of "+o.Name)
		mustPing(t, red, status(t, o).Bridge.IPv6.String(), "red to "+o.Name)
	}
}

// attachedWithoutIPv6 attaches a container that has IPv6 off.
func attachedWithoutIPv6(t *testing.T, h *netlab.Host, name string) {
	t.Helper()
	c := h.Container(name)
	c.Run("sysctl", "-q", "-w", "net.ipv6.conf.all.disable_ipv6=1", "net.ipv6.conf.default.disable_ipv6=1")
	h.Run("weft", "attach", name)
	if out := h.Run("weft", "ps", name, "-o", "json"); strings.Contains(out, "ipv6") {
		t.Errorf("%s has IPv6 off, and ps shows %s", name, out)
	}
}
