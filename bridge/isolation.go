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
	for _, f := range cfg.families() {
		same := set{name: "same" + f.set, spec: fmt.Sprintf("type %s . %s; flags interval;", f.addrs, f.addrs)}
		subnets := set{name: "subnets" + f.set, spec: fmt.Sprintf("type %s; flags interval;", f.addrs)}
		hosts := set{name: "hosts" + f.set, spec: fmt.Sprintf("type %s;", f.addrs)}
		members := set{name: "members" + f.set, spec: fmt.Sprintf("type ifname . %s; flags interval;", f.addrs)}
		for _, n := range nets {
			for _, a := range n.parts {
				subnets.add(f.prefix(a).String())
				for _, b := range n.parts {
					same.add(fmt.Sprintf("%s . %s", f.prefix(a), f.prefix(b)))
				}
			}
		}
		for _, h := range cfg.Hosts {
			hosts.add(f.addr(h).String())
		}
		for _, p := range cfg.Ports {
			for _, a := range p.Addresses() {
				n, _ := find(nets, a.Addr())
				for _, part := range n.parts {
					members.add(fmt.Sprintf("%q . %s", p.HostInterface, f.prefix(part)))
				}
			}
		}
		inet = append(inet, hosts, same, subnets)
		bridge = append(bridge, same, subnets, openPorts(cfg, f), members)
	}
	confined := set{name: "confined", spec: "type ifname;"}
	inside := set{name: "inside", spec: "type ifname;"}
	for _, p := range cfg.Ports {
		all, any := true, false
		for _, a := range p.Addresses() {
			_, ok := find(nets, a.Addr())
			all, any = all && ok, any || ok
		}
		if any {
			confined.add(fmt.Sprintf("%q", p.HostInterface))
		}
		if any && all {
			inside.add(fmt.Sprintf("%q", p.HostInterface))
		}
	}
	return inet, append(bridge, confined, inside)
}

// isolationRouted keeps networks apart where packets are routed: on their way
// to another host and from it, and to an exposed address of this one. Hosts
// themselves are in all networks by their gateways' addresses, and a published
// port is for everybody.
func isolationRouted(cfg Config) []chain {
	if len(cfg.Subnets) == 0 {
		return nil
	}
	isolation := chain{name: "isolation", rules: []string{"ct status dnat return"}}
	forward := chain{name: "forward", hook: "type filter hook forward priority filter;"}
	for _, f := range cfg.families() {
		from, to, rng := f.name+" saddr", f.name+" daddr", f.prefix(cfg.Range)
		isolation.rules = append(isolation.rules,
			from+" @hosts"+f.set+" return",
			to+" @hosts"+f.set+" return",
			from+" . "+to+" @same"+f.set+" return",
			from+" @subnets"+f.set+" drop",
			to+" @subnets"+f.set+" drop")
		within := fmt.Sprintf("%s %s %s %s goto isolation", from, rng, to, rng)
		forward.rules = append(forward.rules, within)
	}
	return []chain{isolation, forward}
}

// isolationInput are the rules that do so for the host's exposed addresses.
func isolationInput(cfg Config) (out []string) {
	if len(cfg.Subnets) == 0 {
		return nil
	}
	for _, f := range cfg.families() {
		rng := f.prefix(cfg.Range)
		out = append(out, fmt.Sprintf("iifname { %[1]s } %[2]s saddr %[3]s %[2]s daddr %[3]s goto isolation", quoted(cfg.devices()), f.name, rng))
	}
	return out
}

// isolationBridged keeps networks apart between two ports of the bridge. What
// goes to many at once reaches the ports that are in the sender's network.
func isolationBridged(cfg Config) []chain {
	if len(cfg.Subnets) == 0 {
		return nil
	}
	group := chain{name: "group"}
	isolation := chain{name: "isolation", rules: []string{"arp saddr ip . arp daddr ip @same accept"}}
	for _, f := range cfg.families() {
		from, to, rng := f.name+" saddr", f.name+" daddr", f.prefix(cfg.Range)
		group.rules = append(group.rules,
			"oifname . "+from+" @members"+f.set+" accept",
			from+" @subnets"+f.set+" drop")
		many := fmt.Sprintf("%s %s %s { %s } goto group", from, rng, to, f.multicast)
		if f.name == "ip" { // the sender may have no address yet
			many = fmt.Sprintf("%s { %s, %s } goto group", to, f.multicast, lastOf(rng))
		}
		isolation.rules = append(isolation.rules,
			from+" . "+to+" @same"+f.set+" accept",
			to+" . meta l4proto . th dport @open"+f.set+" accept",
			from+" . meta l4proto . th sport @open"+f.set+" accept",
			many,
			from+" @subnets"+f.set+" drop",
			to+" @subnets"+f.set+" drop")
	}
	group.rules = append(group.rules, "oifname @inside drop")
	isolation.rules = append(isolation.rules,
		"arp saddr ip @subnets drop",
		"arp daddr ip @subnets drop",
		"ether type { ip, arp } accept")
	if rng := cfg.IPv6.Prefix(cfg.Range); rng.IsValid() {
		isolation.rules = append(isolation.rules, fmt.Sprintf("ip6 saddr %s ip6 daddr %s accept", rng, rng))
	}
	// Other addresses of IPv6, such as link-local ones, are in no network.
	isolation.rules = append(isolation.rules, "iifname @confined drop", "oifname @confined drop")
	return []chain{group, isolation}
}
