package bridge

import (
	"encoding/binary"
	"encoding/hex"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"
)

// send has guest n send a frame, given in hex, out of its eth0.
func (h *host) send(n int, frame string) {
	h.t.Helper()
	out, err := h.inGuest(n, `python3 -c 'import socket,sys; s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW); s.bind(("eth0", 0)); s.send(bytes.fromhex("`+strings.ReplaceAll(frame, " ", "")+`"))'`)
	if err != nil {
		h.t.Fatalf("send: %v: %s", err, out)
	}
}

// header is that of an IPv4 packet of 28 bytes from an address, given in hex,
// to 255.255.255.255.
func header(addr string) string {
	b, err := hex.DecodeString("4500001c0000000040110000" + addr + "ffffffff")
	if err != nil {
		panic(err) // it is of this file
	}
	var sum uint32
	for i := 0; i < len(b); i += 2 {
		sum += uint32(b[i])<<8 | uint32(b[i+1])
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	binary.BigEndian.PutUint16(b[10:], ^uint16(sum))
	return hex.EncodeToString(b)
}

// received counts the frames that have come in on guest n's eth0.
func (h *host) received(n int) int {
	h.t.Helper()
	out, _ := h.inGuest(n, "awk '/eth0:/ { print $3 }' /proc/self/net/dev")
	count, err := strconv.Atoi(strings.TrimSpace(out))
	if err != nil {
		h.t.Fatalf("frames received: %q", out)
	}
	return count
}

// sees tells whether guest n receives what is sent. The marker, which always
// comes through, is sent after it. A frame of somebody else's can only look like
// the one that was sent, so that one look without is enough to deny it.
func (h *host) sees(n int, send, marker func()) (seen bool, tries uint64) {
	for tries = 1; ; tries++ {
		before := h.received(n)
		send()
		marker()
		for end := time.Now().Add(3 * time.Second); h.received(n) == before && time.Now().Before(end); {
			time.Sleep(5 * time.Millisecond)
		}
		switch h.received(n) - before {
		case 0:
			h.t.Error("not even the marker comes through")
			return false, tries
		case 1:
			return false, tries
		}
		if tries == 3 {
			return true, tries
		}
	}
}

func TestContainerSendsOnlyByItsOwnAddresses(t *testing.T) {
	const (
		to     = "ffffffffffff "
		own    = "0a570a200002 "
		other  = "0a570a200003 "
		nobody = "00000000"
	)
	// An IPv4 packet from an address to 255.255.255.255, and an ARP request.
	packet := func(mac, addr string) string {
		return to + mac + "0800" + header(addr) + "0044004300080000"
	}
	arp := func(mac, sender, addr string) string {
		return to + mac + "0806 0001080006040001 " + sender + addr + "000000000000" + "0a200063"
	}
	onHost(t, func(h *host) {
		marker := func() { h.send(0, arp(own, own, "0a200002")) }
		cfg := config()
		a := h.port(0, "10.32.0.2")
		a.More = []netip.Prefix{netip.MustParsePrefix("10.32.0.9/12")}
		cfg.Ports = []Port{a, h.port(1, "10.32.0.3")}
		for n := range 2 { // what IPv6 says by itself would be counted
			if out, err := h.inGuest(n, "sysctl -q -w net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1"); err != nil {
				t.Fatal(out)
			}
		}
		h.set(cfg)
		if !h.pings(0, "10.32.0.3") {
			t.Fatal("no ping")
		}
		for _, tc := range []struct {
			what, frame string
			passes      bool
			counted     uint64
		}{
			{"its own address", packet(own, "0a200002"), true, 0},
			{"its second address", packet(own, "0a200009"), true, 0},
			{"no address yet (DHCP)", packet(own, nobody), true, 0},
			{"ARP by its own", arp(own, own, "0a200002"), true, 0},
			{"a probe for an address", arp(own, own, nobody), true, 0},
			{"another's address", packet(own, "0a200003"), false, 1},
			{"the gateway's", packet(own, "0a200001"), false, 1},
			{"an address of the outside", packet(own, "c0000207"), false, 1},
			{"another hardware address", packet(other, "0a200002"), false, 1},
			{"ARP for another's address", arp(own, own, "0a200003"), false, 1},
			{"ARP by another's hardware address", arp(other, own, "0a200002"), false, 1},
			{"ARP that names another's hardware address", arp(own, other, "0a200002"), false, 1},
			{"IPv6 by another hardware address", to + other + "86dd 600000000000 3b40" + strings.Repeat("00", 32), false, 1},
			{"another protocol", to + own + "88cc" + strings.Repeat("00", 46), false, 0},
			{"another's address within a VLAN", to + own + "8100 0001 0800" + header("0a200003") + "0044004300080000", false, 0},
		} {
			before := Spoofed("weft")
			came, tries := h.sees(1, func() { h.send(0, tc.frame) }, marker)
			if came != tc.passes {
				t.Errorf("%s: comes through: %t; want %t", tc.what, came, tc.passes)
			}
			if n := Spoofed("weft") - before; n != tc.counted*tries {
				t.Errorf("%s: %d counted; want %d", tc.what, n, tc.counted*tries)
			}
		}
		if !h.pings(1, "10.32.0.2") || !h.pings(0, "10.32.0.1") {
			t.Error("no ping afterwards")
		}
		before := Spoofed("weft")
		cfg.Masquerade = false // the tables are made anew
		h.set(cfg)
		if n := Spoofed("weft"); n != before || n == 0 {
			t.Errorf("%d counted after the rules changed; want %d", n, before)
		}
	})
}

func TestAnAddressTakenOffOrPutOnIsSpoofedOrNotAtOnce(t *testing.T) {
	onHost(t, func(h *host) {
		cfg := config()
		a := h.port(0, "10.32.0.2")
		cfg.Ports = []Port{a, h.port(1, "10.32.0.3")}
		h.set(cfg)
		if _, err := h.inGuest(0, "ip address add 10.32.0.9/12 dev eth0"); err != nil {
			t.Fatal(err)
		}
		if out, err := h.inGuest(0, "ping -c 1 -W 1 -I 10.32.0.9 10.32.0.3"); err == nil {
			t.Errorf("by an address that it was not given it reaches another:\n%s", out)
		}
		a.More = []netip.Prefix{netip.MustParsePrefix("10.32.0.9/12")}
		if _, err := h.Plumb(cfg, a); err != nil {
			t.Fatal(err)
		}
		if out, err := h.inGuest(0, "ping -c 1 -w 5 -I 10.32.0.9 10.32.0.3"); err != nil {
			t.Errorf("by an address that it was given it does not:\n%s", out)
		}
	})
}
