package bridge

import "fmt"

// spoofedCounter counts what containers sent by addresses that are not theirs.
const spoofedCounter = "spoofed"

// senderSets say what each port may send by. The address 0.0.0.0 is that of
// one who has none yet: probes for addresses (RFC 5227) and DHCP.
func senderSets(cfg Config) []set {
	ports := set{name: "ports", spec: "type ifname;"}
	macs := set{name: "macs", spec: "type ifname . ether_addr;"}
	own := set{name: "own", spec: "type ifname . ether_addr . ipv4_addr;"}
	for _, p := range cfg.Ports {
		ports.add(fmt.Sprintf("%q", p.HostInterface))
		sender := fmt.Sprintf("%q . %s", p.HostInterface, p.mac())
		macs.add(sender)
		own.add(sender + " . 0.0.0.0")
		for _, a := range p.addresses() {
			own.add(sender + " . " + a.Addr().String())
		}
	}
	return []set{ports, macs, own}
}

// senderChains drop what a container sends by another's address, before the
// bridge learns from it or anybody sees it. The number of containers does not
// change what a packet costs. Of IPv6 only the hardware address is looked at.
// Other protocols lead nowhere but to the same bridge and are dropped.
func senderChains() []chain {
	return []chain{
		{name: "sender", rules: []string{
			"ether type ip iifname . ether saddr . ip saddr @own accept",
			"ether type arp iifname . ether saddr . arp saddr ip @own iifname . arp saddr ether . arp saddr ip @own accept",
			"ether type ip6 iifname . ether saddr @macs accept",
			"ether type { ip, arp, ip6 } counter name " + spoofedCounter + " drop",
			"drop",
		}},
		{name: "prerouting", hook: "type filter hook prerouting priority dstnat;", rules: []string{
			"iifname @ports goto sender",
		}},
	}
}
