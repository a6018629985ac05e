package bridge

import (
	"fmt"
	"slices"

	"github.com/weft-net/weft/internal/nl"
)

// A host passes on what is between two others whose direct link does not work. It
// does so only if the packet came from the peer by which the host itself sends to
// the packet's source: so no packet passes the same host twice, whatever each
// believes of the links. WireGuard has that from its allowed IPs; for what comes
// in the clear it takes these rules, which only such packets meet.

// senders are the ways by which a peer's packets come in the clear: devices with
// hardware addresses.
func (g Guard) senders(p GuardedPeer) (out []string) {
	add := func(devices []string, macs ...nl.MAC) {
		for _, device := range devices {
			for _, mac := range macs {
				out = append(out, fmt.Sprintf("%q . %s", device, mac))
			}
		}
	}
	if p.VXLAN {
		add(g.VXLAN, p.VTEP)
	}
	if p.Direct {
		add(g.Direct, p.NICs...)
	}
	return out
}

// clear are the devices by which packets come in the clear.
func (g Guard) clear() []string { return slices.Concat(g.VXLAN, g.Direct) }

// relaySets say by which hardware address what may come.
func relaySets(cfg Config) (out []set) {
	if len(cfg.Guard.clear()) == 0 {
		return nil
	}
	parts := spans(cfg.Guard.Peers)
	for _, f := range cfg.families() {
		relayed := set{name: "relayed" + f.set, spec: fmt.Sprintf("type ifname . ether_addr . %s; flags interval;", f.addrs)}
		for _, s := range parts {
			for _, from := range cfg.Guard.senders(s.peer) {
				relayed.add(from + " . " + s.of(f))
			}
		}
		out = append(out, relayed)
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
			relay.rules = append(relay.rules, fmt.Sprintf("iifname . ether saddr . %s saddr @relayed%s return", f.name, f.set))
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
	return slices.Concat(c.Tunnels, c.Guard.Direct)
}
