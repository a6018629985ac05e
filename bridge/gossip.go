package bridge

import "fmt"

// gossip keeps this host's gossip, which listens on all of its addresses, from
// containers: in the network other hosts speak to it by their gateways' addresses,
// which no container can send by. What comes from the underlay to an address there
// is not judged.
func gossip(cfg Config) (set, chain) {
	gateways := set{name: "gateways", spec: "type ipv4_addr;"}
	for _, h := range cfg.Hosts {
		gateways.add(h.String())
	}
	to := fmt.Sprintf("meta l4proto { tcp, udp } th dport %d", cfg.GossipPort)
	c := chain{name: "gossip", hook: "type filter hook input priority filter;", rules: []string{
		fmt.Sprintf("iifname %q %s drop", cfg.Name, to),
		fmt.Sprintf("iifname != \"lo\" ip saddr @gateways ip daddr %s %s accept", cfg.Gateway, to),
	}}
	if len(cfg.Tunnels) > 0 {
		c.rules = append(c.rules, fmt.Sprintf("iifname { %s } %s drop", quoted(cfg.Tunnels), to))
	}
	for _, f := range cfg.families() {
		c.rules = append(c.rules, fmt.Sprintf("iifname != \"lo\" %s daddr %s %s drop", f.name, f.prefix(cfg.Range), to))
	}
	return gateways, c
}
