package bridge

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
)

// spoofedCounter counts what containers sent by addresses that are not theirs.
const spoofedCounter = "spoofed"

// portSet is the set of the ports.
const portSet = "ports"

// key is the port as an element of sets.
func (p Port) key() string { return strconv.Quote(p.HostInterface) }

// target is the address that a neighbour advertisement is of (RFC 4861, 4.4), for
// which not every nft has a name.
const target = "@th,64,128"

// linkLocal is the IPv6 address that goes with a hardware address (RFC 4291,
// appendix A).
func linkLocal(mac net.HardwareAddr) netip.Addr {
	return netip.AddrFrom16([16]byte{0: 0xfe, 1: 0x80, 8: mac[0] ^ 2, 9: mac[1], 10: mac[2], 11: 0xff, 12: 0xfe, 13: mac[3], 14: mac[4], 15: mac[5]})
}

// senderSets say what each port may send by. The addresses 0.0.0.0 and :: are
// those of one who has none yet: probes for addresses (RFC 5227, RFC 4862), DHCP
// and the groups that it listens to.
func senderSets(cfg Config) []set {
	ports := set{name: portSet, spec: "type ifname;"}
	own := set{name: "own", spec: "type ifname . ether_addr . ipv4_addr;"}
	own6 := set{name: "own6", spec: "type ifname . ether_addr . ipv6_addr;"}
	targets := set{name: "targets", spec: "typeof iifname . ether saddr . " + target + ";"}
	for _, p := range cfg.Ports {
		ports.add(p.key())
		sender := fmt.Sprintf("%q . %s", p.HostInterface, p.mac())
		own.add(sender + " . 0.0.0.0")
		own6.add(sender + " . ::")
		six := []netip.Addr{linkLocal(p.mac())}
		for _, a := range p.Addresses() {
			own.add(sender + " . " + a.Addr().String())
			if cfg.IPv6.IsValid() {
				six = append(six, cfg.IPv6.Addr(a.Addr()))
			}
		}
		for _, a := range six {
			own6.add(sender + " . " + a.String())
			targets.add(fmt.Sprintf("%s . %#x", sender, a.AsSlice()))
		}
	}
	return []set{ports, own, own6, targets}
}

// senderChains drop what a container sends by another's address, before the
// bridge learns from it or anybody sees it. The number of containers does not
// change what a packet costs. No container is a router, or says where one is.
// Other protocols lead nowhere but to the same bridge and are dropped. What is most
// comes first: only ports are in that set. Which groups a container listens to nobody
// has to hear, since none is asked and all get everything; each attach would send it
// to all other containers several times, and a container that asks would have the
// bridge keep back what others do not say that they listen to.
func senderChains() []chain {
	return []chain{
		{name: "sender", rules: []string{
			"icmpv6 type { mld-listener-query, mld-listener-report, mld-listener-done, mld2-listener-report } drop",
			"ether type arp iifname . ether saddr . arp saddr ip @own iifname . arp saddr ether . arp saddr ip @own accept",
			"icmpv6 type { nd-router-advert, nd-redirect } counter name " + spoofedCounter + " drop",
			"icmpv6 type nd-neighbor-advert iifname . ether saddr . " + target + " != @targets counter name " + spoofedCounter + " drop",
			"ether type ip6 iifname . ether saddr . ip6 saddr @own6 accept",
			"ether type { ip, arp, ip6 } counter name " + spoofedCounter + " drop",
			"drop",
		}},
		{name: "prerouting", hook: "type filter hook prerouting priority dstnat;", rules: []string{
			"ether type ip iifname . ether saddr . ip saddr @own accept",
			"ether type ip6 meta l4proto != icmpv6 iifname . ether saddr . ip6 saddr @own6 accept",
			"iifname @ports goto sender",
		}},
	}
}
