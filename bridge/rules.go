package bridge

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// defaultName is the bridge's name where there is one weft on a host.
const defaultName = "weft"

// tableName is the nftables table of a bridge: two wefts on one host do not
// meet, and a bridge that is called filter does not replace somebody's filter.
func tableName(bridge string) string {
	if bridge == defaultName {
		return defaultName
	}
	return defaultName + "_" + bridge
}

// tablesOf is the whole firewall but for the rules in others' chains.
func tablesOf(cfg Config) tables {
	name := tableName(cfg.Name)
	routed := table{family: "inet", name: name}
	routed.sets = publishedMaps(cfg)
	routed.chains = append(publishedChains(cfg), chain{name: "postrouting", hook: "type nat hook postrouting priority srcnat - 1;", rules: source(cfg)})
	bridged := table{family: "bridge", name: name, counters: []string{spoofedCounter}}
	bridged.sets, bridged.chains = senderSets(cfg), senderChains()
	if len(cfg.Subnets) > 0 {
		inet, onBridge := isolationSets(cfg)
		routed.sets, bridged.sets = append(routed.sets, inet...), append(bridged.sets, onBridge...)
	}
	sets, looked := guardSets(cfg)
	routed.sets, routed.looked = append(routed.sets, sets...), looked
	routed.sets = append(routed.sets, relaySets(cfg)...)
	routed.chains = append(routed.chains, guardChains(cfg)...)
	routed.chains = append(routed.chains, isolationRouted(cfg)...)
	if cfg.GossipPort != 0 {
		set, chain := gossip(cfg)
		routed.sets, routed.chains = append(routed.sets, set), append(routed.chains, chain)
	}
	routed.chains = append(routed.chains, inputRules(cfg)...)
	bridged.chains = append(bridged.chains, isolationBridged(cfg)...)
	passing := chain{name: "forward", hook: "type filter hook forward priority filter;"}
	if len(cfg.Published) > 0 || cfg.Services {
		bridged.sets = append(bridged.sets, reflecting(cfg))
		for _, many := range []string{"broadcast", "multicast"} {
			passing.rules = append(passing.rules, "meta pkttype "+many+" iifname . oifname @reflecting drop")
		}
	}
	if len(cfg.Subnets) > 0 {
		passing.rules = append(passing.rules, "iifname @ports oifname @ports goto isolation")
	}
	if len(passing.rules) > 0 {
		bridged.chains = append(bridged.chains, passing)
	}
	return tables{routed, bridged}
}

// source is what the postrouting chain holds. Traffic inside of the range keeps
// its addresses, whatever way it takes; so does multicast, which has no way back.
func source(cfg Config) []string {
	var out []string
	if len(cfg.Published) > 0 || cfg.Services {
		// From a container of the same bridge the answer would go directly, and nobody
		// would turn it back, unless weft has the bridge do that; to itself it always would.
		from := "%[1]s saddr @local%[2]s"
		if cfg.Services && cfg.filtersBridged {
			from = "%[1]s saddr . %[1]s daddr @itself%[2]s"
		}
		for _, f := range cfg.families() {
			out = append(out, fmt.Sprintf(from+" oifname %[3]q ct status dnat masquerade", f.name, f.set, cfg.Name))
		}
	}
	if cfg.loopbackPublished() {
		out = append(out, fmt.Sprintf("ip saddr 127.0.0.0/8 oifname %q ct status dnat masquerade", cfg.Name))
	}
	if !cfg.Masquerade {
		return out
	}
	for _, f := range cfg.families() {
		rng := f.prefix(cfg.Range)
		out = append(out, fmt.Sprintf("%s saddr %s %s daddr != { %s, %s } oifname != { %s } masquerade",
			f.name, rng, f.name, rng, f.multicast, quoted(cfg.devices())))
		if len(cfg.Tunnels) > 0 {
			// Other hosts take nothing from a tunnel that is not of the range: what
			// the host sends or forwards by another address goes as the host.
			out = append(out, fmt.Sprintf("%s saddr != %s %s daddr %s oifname { %s } snat %s to %s",
				f.name, rng, f.name, rng, quoted(cfg.Tunnels), f.name, f.addr(cfg.Gateway)))
		}
	}
	return out
}

func quoted(names []string) string {
	var out []string
	for _, n := range names {
		out = append(out, strconv.Quote(n))
	}
	return strings.Join(out, ", ")
}

// Network names the network of an address for people: its subnet, or the zero
// value for the rest of the range.
func Network(subnets []netip.Prefix, addr netip.Addr) netip.Prefix {
	n, _ := find(networks(subnets), addr)
	return n.subnet
}
