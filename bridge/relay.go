package bridge

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/weft-net/weft/internal/nl"
)

// A host passes on what is between two others whose direct link does not work. It
// does so only if the packet came from the peer by which the host itself sends to
// the packet's source: so no packet passes the same host twice, whatever each
// believes of the links. WireGuard has that from its allowed IPs; for what comes
// in the clear it takes these rules, which only such packets meet.

// senders are the ways by which packets of other hosts' prefixes come in the clear.
func senders(g Guard) []sender {
	var out []sender
	for _, p := range g.Peers {
		if p.VXLAN && g.VXLAN != "" {
			out = append(out, sender{g.VXLAN, p.VTEP, p.Prefixes})
		}
		if p.Direct && g.Underlay != "" && p.NIC != (nl.MAC{}) {
			out = append(out, sender{g.Underlay, p.NIC, p.Prefixes})
		}
	}
	return out
}

type sender struct {
	device   string
	mac      nl.MAC
	prefixes []netip.Prefix
}

// clear are the devices by which packets come in the clear.
func (g Guard) clear() []string {
	return slices.DeleteFunc([]string{g.VXLAN, g.Underlay}, func(d string) bool { return d == "" })
}

// relaySets say by which hardware address what may come. Single addresses, which
// may lie in the prefix of another host, have a set of their own.
func relaySets(cfg Config) []set {
	if len(cfg.Guard.clear()) == 0 {
		return nil
	}
	var out []set
	for _, f := range cfg.families() {
		wide := set{name: "relayed" + f.set, spec: fmt.Sprintf("type ifname . ether_addr . %s; flags interval;", f.addrs)}
		single := set{name: "relayed_single" + f.set, spec: fmt.Sprintf("type ifname . ether_addr . %s;", f.addrs)}
		singles := set{name: "single" + f.set, spec: fmt.Sprintf("type %s;", f.addrs)}
		for _, s := range senders(cfg.Guard) {
			from := fmt.Sprintf("%q . %s . ", s.device, s.mac)
			var blocks []netip.Prefix
			for _, p := range s.prefixes {
				if p.IsSingleIP() {
					single.add(from + f.prefix(p).Addr().String())
				} else {
					blocks = append(blocks, f.prefix(p))
				}
			}
			for _, p := range outermost(blocks) {
				wide.add(from + p.String())
			}
		}
		for _, peer := range cfg.Guard.Peers {
			for _, p := range peer.Prefixes {
				if p.IsSingleIP() {
					singles.add(f.prefix(p).Addr().String())
				}
			}
		}
		out = append(out, wide, single, singles)
	}
	return out
}

// relayChains drop what is passed on and came by another way. The host tells
// nobody of a better way: it is one because the direct one does not work.
func relayChains(cfg Config) []chain {
	g := cfg.Guard
	var out []chain
	if in := g.clear(); len(in) > 0 {
		relay := chain{name: "relay"}
		forward := chain{name: "relaying", hook: "type filter hook forward priority filter;"}
		for _, f := range cfg.families() {
			from := fmt.Sprintf("iifname . ether saddr . %s saddr @relayed", f.name)
			relay.rules = append(relay.rules,
				from+"_single"+f.set+" return",
				fmt.Sprintf("%s saddr @single%s counter drop", f.name, f.set),
				from+f.set+" return")
			rng := f.prefix(cfg.Range)
			forward.rules = append(forward.rules, fmt.Sprintf("iifname { %s } oifname { %s } %s saddr %s goto relay",
				quoted(in), quoted(cfg.ways()), f.name, rng))
		}
		relay.rules = append(relay.rules, "counter drop")
		out = append(out, relay, forward)
	}
	if ways := cfg.ways(); len(ways) > 0 {
		out = append(out, chain{name: "redirects", hook: "type filter hook output priority filter;",
			rules: []string{fmt.Sprintf("oifname { %s } ip daddr %s icmp type redirect drop", quoted(ways), cfg.Range)}})
	}
	return out
}

// ways are the devices that lead to other hosts.
func (c Config) ways() []string {
	out := slices.Clone(c.Tunnels)
	if c.Guard.Underlay != "" {
		out = append(out, c.Guard.Underlay)
	}
	return out
}
