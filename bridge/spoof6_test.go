package bridge

import (
	"encoding/hex"
	"net/netip"
	"strings"
	"testing"
)

// packet6 is an IPv6 packet with a payload, given in hex, in an Ethernet frame to
// everybody.
func packet6(mac, src, protocol, payload string) string {
	from, to := netip.MustParseAddr(src).As16(), netip.IPv6LinkLocalAllNodes().As16()
	length := hex.EncodeToString([]byte{0, byte(len(payload) / 2)})
	return "ffffffffffff" + mac + "86dd" + "60000000" + length + protocol + "ff" + hex.EncodeToString(from[:]) + hex.EncodeToString(to[:]) + payload
}

// neighbour is a message of neighbour discovery of a type, about an address.
func neighbour(kind, addr string) string {
	a := netip.MustParseAddr(addr).As16()
	return kind + "00000020000000" + hex.EncodeToString(a[:])
}

func TestContainerSendsOnlyByItsOwnIPv6Addresses(t *testing.T) {
	const (
		own, other       = "0a570a200002", "0a570a200003"
		link, otherLink  = "fe80::857:aff:fe20:2", "fe80::857:aff:fe20:3"
		udp, icmp        = "11", "3a"
		datagram         = "0044004300080000"
		solicit, advert  = "87", "88"
		router, redirect = "860000004000070800000000" + "00000000", "89000000"
	)
	onHost(t, func(h *host) {
		marker := func() {
			h.send(0, "ffffffffffff"+own+"0806 0001080006040001"+own+"0a200002"+"000000000000"+"0a200063")
		}
		cfg := h.dual()
		a := h.port(0, "10.32.0.2")
		a.More = []netip.Prefix{netip.MustParsePrefix("10.32.0.9/12")}
		cfg.Ports = []Port{a, h.port(1, "10.32.0.3")}
		for n := range 2 { // what IPv6 says by itself would be counted
			if out, err := h.inGuest(n, "sysctl -q -w net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1"); err != nil {
				t.Fatal(out)
			}
		}
		h.set(cfg)
		mine, second, theirs := six(cfg, "10.32.0.2"), six(cfg, "10.32.0.9"), six(cfg, "10.32.0.3")
		for _, tc := range []struct {
			what, frame string
			passes      bool
		}{
			{"its own address", packet6(own, mine, udp, datagram), true},
			{"its second address", packet6(own, second, udp, datagram), true},
			{"its link-local address", packet6(own, link, udp, datagram), true},
			{"no address yet", packet6(own, "::", icmp, neighbour(solicit, mine)), true},
			{"an advertisement of its own", packet6(own, mine, icmp, neighbour(advert, second)), true},
			{"an advertisement of its link-local address", packet6(own, link, icmp, neighbour(advert, link)), true},
			{"another's address", packet6(own, theirs, udp, datagram), false},
			{"the gateway's", packet6(own, six(cfg, "10.32.0.1"), udp, datagram), false},
			{"an address of the outside", packet6(own, "2001:db8::7", udp, datagram), false},
			{"another's link-local address", packet6(own, otherLink, udp, datagram), false},
			{"the name of the bridge", packet6(own, NextHop.String(), udp, datagram), false},
			{"another hardware address", packet6(other, mine, udp, datagram), false},
			{"an advertisement of another's", packet6(own, mine, icmp, neighbour(advert, theirs)), false},
			{"an advertisement of the bridge", packet6(own, link, icmp, neighbour(advert, NextHop.String())), false},
			{"an advertisement of a router", packet6(own, link, icmp, router), false},
			{"a redirect", packet6(own, link, icmp, redirect+neighbour("00", mine)[8:]), false},
		} {
			counted := uint64(1)
			if tc.passes {
				counted = 0
			}
			before := Spoofed("weft")
			came, tries := h.sees(1, func() { h.send(0, tc.frame) }, marker)
			if came != tc.passes {
				t.Errorf("%s: comes through: %t; want %t", tc.what, came, tc.passes)
			}
			if n := Spoofed("weft") - before; n != counted*tries {
				t.Errorf("%s: %d counted; want %d", tc.what, n, counted*tries)
			}
		}
	})
}

func TestSubnetsAreKeptApartInIPv6RoutedAndOnTheBridge(t *testing.T) {
	onHost(t, func(h *host) {
		cfg := h.dual()
		cfg.Subnets = []netip.Prefix{netip.MustParsePrefix("10.32.1.0/24"), netip.MustParsePrefix("10.32.2.0/24")}
		cfg.Hosts = []netip.Addr{cfg.Gateway}
		red, other, blue := h.port(0, "10.32.1.2"), h.port(1, "10.32.1.3"), h.port(2, "10.32.2.2")
		cfg.Ports = []Port{red, other, blue}
		h.set(cfg)
		check := func(how string) {
			t.Helper()
			if !h.pings(0, six(cfg, "10.32.1.3")) || !h.pings(1, six(cfg, "10.32.1.2")) {
				t.Errorf("%s: no ping in one subnet", how)
			}
			if h.pings(0, six(cfg, "10.32.2.2")) || h.pings(2, six(cfg, "10.32.1.2")) {
				t.Errorf("%s: a ping from one subnet to another", how)
			}
			if !h.pings(0, six(cfg, "10.32.0.1")) || !h.pings(2, six(cfg, "10.32.0.1")) {
				t.Errorf("%s: no ping to the host", how)
			}
		}
		check("by the host")
		for n, p := range cfg.Ports { // as somebody in the containers may
			for _, o := range cfg.withoutPort(p).Ports {
				to := six(cfg, o.Address.Addr().String())
				if out, err := h.inGuest(n, "ip -6 route add "+to+" dev eth0; ip -6 neigh replace "+to+" dev eth0 nud permanent lladdr "+o.mac().String()); err != nil {
					t.Fatal(out)
				}
			}
		}
		check("past the host")
		if out, err := h.inGuest(0, "ping -c 2 -i 0.2 -W 1 "+linkLocal(blue.mac()).String()+"%eth0"); err == nil {
			t.Errorf("by link-local addresses: %s", out)
		}
	})
}

func TestContainerInTwoSubnetsSendsToEachByItsIPv6AddressInThere(t *testing.T) {
	onHost(t, func(h *host) {
		cfg := h.dual()
		// To the third the container's first address is the more similar one.
		cfg.Subnets = []netip.Prefix{netip.MustParsePrefix("10.32.0.0/22"), netip.MustParsePrefix("10.32.1.0/24")}
		both := h.port(0, "10.32.1.2")
		both.More = h.port(0, "10.32.2.9").Addresses()
		cfg.Ports = []Port{both, h.port(1, "10.32.1.3"), h.port(2, "10.32.0.5")}
		h.set(cfg)
		if !h.pings(0, six(cfg, "10.32.1.3")) || !h.pings(0, six(cfg, "10.32.0.5")) {
			t.Error("no ping")
		}
		out, _ := h.inGuest(0, "ip -6 route get "+six(cfg, "10.32.0.5")+"; ip -6 route get "+six(cfg, "10.32.1.3"))
		if want := "src " + six(cfg, "10.32.2.9") + " "; !strings.Contains(out, want) || !strings.Contains(out, "src "+six(cfg, "10.32.1.2")+" ") {
			t.Errorf("sources:\n%s", out)
		}
	})
}

func TestDriftOfTheOlderIP6tablesIsNoticed(t *testing.T) {
	onHost(t, func(h *host) {
		cfg := h.dual()
		h.run("ip6tables-legacy -P FORWARD DROP")
		h.set(cfg)
		h.set(cfg) // which finds what the first one wrote
		if h.Drifted() {
			t.Error("something has changed, though nobody changed it")
		}
		h.run("ip6tables-legacy -F")
		if !h.Drifted() {
			t.Fatal("the rules are gone, and it is not noticed")
		}
		h.set(cfg)
		if out := h.run("ip6tables-legacy -S FORWARD"); !strings.Contains(out, "weft weft") {
			t.Errorf("they do not come back:\n%s", out)
		}
	})
}
