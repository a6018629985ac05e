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
	c := chain{name: gossipChain, rules: []string{
		"meta l4proto != { tcp, udp } return",
		fmt.Sprintf("iifname %q drop", cfg.Name),
		fmt.Sprintf("iifname != \"lo\" ip saddr @gateways ip daddr %s accept", cfg.Gateway),
	}}
	if len(cfg.Tunnels) > 0 {
		c.rules = append(c.rules, fmt.Sprintf("iifname { %s } drop", quoted(cfg.Tunnels)))
	}
	for _, f := range cfg.families() {
		c.rules = append(c.rules, fmt.Sprintf("iifname != \"lo\" %s daddr %s drop", f.name, f.prefix(cfg.Range)))
	}
	return gateways, c
}

const gossipChain = "gossip"

// inputRules lead what comes to the host itself to those who judge it. Tunnels'
// packets come here, too, so that what is cheapest to tell comes first: the port of
// gossip, of whatever protocol.
func inputRules(cfg Config) []chain {
	in := chain{name: "input", hook: "type filter hook input priority filter;"}
	if len(cfg.Guard.VXLAN) > 0 {
		in.rules = append(in.rules, cfg.Guard.outer()+" goto "+endsIn)
	}
	if cfg.GossipPort != 0 {
		in.rules = append(in.rules, fmt.Sprintf("@th,16,16 %d jump %s", cfg.GossipPort, gossipChain))
	}
	if in.rules = append(in.rules, isolationInput(cfg)...); len(in.rules) == 0 {
		return nil
	}
	return []chain{in}
}
