package bridge

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
)

// Subnets cut the range in networks that do not reach each other: an address is
// in the smallest subnet that it lies in, and all that lie in none are one
// network more. So two addresses may talk or may not, whoever has them and
// wherever; a container that is in two networks has an address in each.

// network is one subnet without those inside of it, as disjoint prefixes.
type network struct {
	subnet netip.Prefix
	parts  []netip.Prefix
}

// networks are the subnets, each with the part of the range that is its own.
func networks(subnets []netip.Prefix) []network {
	subnets = slices.Clone(subnets)
	slices.SortFunc(subnets, func(a, b netip.Prefix) int { return cmp.Or(a.Addr().Compare(b.Addr()), a.Bits()-b.Bits()) })
	subnets = slices.Compact(subnets)
	var out []network
	for _, s := range subnets {
		parts := []netip.Prefix{s}
		for _, inner := range subnets {
			if inner != s && s.Bits() < inner.Bits() && s.Contains(inner.Addr()) {
				parts = Without(parts, inner)
			}
		}
		out = append(out, network{s, parts})
	}
	return out
}

// Without takes a hole out of prefixes.
func Without(prefixes []netip.Prefix, hole netip.Prefix) []netip.Prefix {
	var out []netip.Prefix
	for _, p := range prefixes {
		switch {
		case !p.Overlaps(hole):
			out = append(out, p)
		case p.Bits() < hole.Bits():
			out = append(out, Without(halves(p), hole)...)
		}
	}
	return out
}

func halves(p netip.Prefix) []netip.Prefix {
	upper := p.Addr().As4()
	upper[p.Bits()/8] |= 0x80 >> (p.Bits() % 8)
	return []netip.Prefix{netip.PrefixFrom(p.Addr(), p.Bits()+1), netip.PrefixFrom(netip.AddrFrom4(upper), p.Bits()+1)}
}

// find returns the network that an address is in; ok is false for the rest of
// the range.
func find(nets []network, addr netip.Addr) (network, bool) {
	for _, n := range nets {
		if slices.ContainsFunc(n.parts, func(p netip.Prefix) bool { return p.Contains(addr) }) {
			return n, true
		}
	}
	return network{}, false
}

// isolationSets are what the rules of isolation look things up in: in both
// tables whose addresses are in one network, and which are in any; on the
// bridge also which ports are in which.
func isolationSets(cfg Config) (inet, bridge []set) {
	nets := networks(cfg.Subnets)
	same := set{name: "same", spec: "type ipv4_addr . ipv4_addr; flags interval;"}
	subnets := set{name: "subnets", spec: "type ipv4_addr; flags interval;"}
	for _, n := range nets {
		for _, a := range n.parts {
			subnets.add(a.String())
			for _, b := range n.parts {
				same.add(a.String() + " . " + b.String())
			}
		}
	}
	hosts := set{name: "hosts", spec: "type ipv4_addr;"}
	for _, h := range cfg.Hosts {
		hosts.add(h.String())
	}
	members := set{name: "members", spec: "type ifname . ipv4_addr; flags interval;"}
	confined := set{name: "confined", spec: "type ifname;"}
	inside := set{name: "inside", spec: "type ifname;"}
	for _, p := range cfg.Ports {
		all, any := true, false
		for _, a := range p.addresses() {
			n, ok := find(nets, a.Addr())
			all, any = all && ok, any || ok
			for _, part := range n.parts {
				members.add(fmt.Sprintf("%q . %s", p.HostInterface, part))
			}
		}
		if any {
			confined.add(fmt.Sprintf("%q", p.HostInterface))
		}
		if any && all {
			inside.add(fmt.Sprintf("%q", p.HostInterface))
		}
	}
	return []set{hosts, same, subnets}, []set{same, subnets, openPorts(cfg), members, confined, inside}
}

// isolationRouted keeps networks apart where packets are routed: on their way
// to another host and from it, and to an exposed address of this one. Hosts
// themselves are in all networks by their gateways' addresses, and a published
// port is for everybody.
func isolationRouted(cfg Config) []chain {
	if len(cfg.Subnets) == 0 {
		return nil
	}
	return []chain{
		{name: "isolation", rules: []string{
			"ct status dnat return",
			"ip saddr @hosts return",
			"ip daddr @hosts return",
			"ip saddr . ip daddr @same return",
			"ip saddr @subnets drop",
			"ip daddr @subnets drop",
		}},
		{name: "forward", hook: "type filter hook forward priority filter;", rules: []string{
			fmt.Sprintf("ip saddr %s ip daddr %s goto isolation", cfg.Range, cfg.Range),
		}},
		{name: "input", hook: "type filter hook input priority filter;", rules: []string{
			fmt.Sprintf("iifname { %s } ip saddr %s ip daddr %s goto isolation", quoted(cfg.devices()), cfg.Range, cfg.Range),
		}},
	}
}

// isolationBridged keeps networks apart between two ports of the bridge. What
// goes to many at once reaches the ports that are in the sender's network.
func isolationBridged(cfg Config) []chain {
	if len(cfg.Subnets) == 0 {
		return nil
	}
	return []chain{
		{name: "group", rules: []string{
			"oifname . ip saddr @members accept",
			"ip saddr @subnets drop",
			"oifname @inside drop",
		}},
		{name: "isolation", rules: []string{
			"ip saddr . ip daddr @same accept",
			"ip daddr . meta l4proto . th dport @open accept",
			"ip saddr . meta l4proto . th sport @open accept",
			"arp saddr ip . arp daddr ip @same accept",
			fmt.Sprintf("ip daddr { 224.0.0.0/4, 255.255.255.255, %s } goto group", broadcast(cfg.Range)),
			"ip saddr @subnets drop",
			"ip daddr @subnets drop",
			"arp saddr ip @subnets drop",
			"arp daddr ip @subnets drop",
			"ether type { ip, arp } accept",
			// The subnets say nothing of IPv6.
			"iifname @confined drop",
			"oifname @confined drop",
		}},
	}
}

// broadcast is a network's last address.
func broadcast(p netip.Prefix) netip.Addr {
	a := p.Addr().As4()
	for i := p.Bits(); i < 32; i++ {
		a[i/8] |= 0x80 >> (i % 8)
	}
	return netip.AddrFrom4(a)
}
