package bridge

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// Guard says what may travel between hosts in the clear. All else that is of the
// range comes by the bridge or an encrypted tunnel, or is dropped: a stranger on
// the underlay can neither inject packets nor have them sent to it.
type Guard struct {
	Underlay string // device that direct traffic takes; "" for none
	VXLAN    string // device of the tunnels in the clear; "" for none
	Port     uint16 // UDP, of VXLAN
	VNI      uint32 // of VXLAN
	Peers    []GuardedPeer
}

// GuardedPeer is another host, and how its traffic may travel in the clear.
type GuardedPeer struct {
	Underlay      netip.Addr
	Prefixes      []netip.Prefix
	Direct, VXLAN bool
}

// guardRules are the rules of each chain that guards the plaintext. Every packet
// that a host forwards passes them: so a device is looked up once, and leads to the
// rules for it.
type guardRules struct {
	arriving []string // hook prerouting
	leaving  []string // hook postrouting
	tunnelIn []string // hook input: the outer packets of VXLAN
	tunnelTo []string // hook output
	led      []chain  // without a hook: where arriving and leaving lead
}

const (
	fromVXLAN    = "guard-from-vxlan"
	fromUnderlay = "guard-from-underlay"
	toVXLAN      = "guard-to-vxlan"
	toUnderlay   = "guard-to-underlay"
)

// guard computes the rules. What is dropped is counted.
func guard(cfg Config) guardRules {
	g := cfg.Guard
	var out guardRules
	from, to := map[string]string{"lo": "accept"}, map[string]string{"lo": "accept"}
	for _, d := range cfg.devices() {
		from[d], to[d] = "accept", "accept"
	}
	var untracked []string
	if g.VXLAN != "" {
		var ends []string
		for _, p := range g.Peers {
			if p.VXLAN {
				ends = append(ends, p.Underlay.String())
			}
		}
		// Of other networks that use VXLAN on that port nothing is known.
		ours := fmt.Sprintf("udp dport %d @th,96,24 %#x", g.Port, g.VNI)
		// Each flow inside has a source port outside, and no answer ever comes to
		// that port: to the kernel's table of connections they are all unanswered.
		untracked = []string{ours + " notrack"}
		out.tunnelIn = []string{ours + noneOf("ip saddr", ends) + " counter drop"}
		out.tunnelTo = append([]string{ours + noneOf("ip daddr", ends) + " counter drop"}, untracked...)
		allowed := plain(g.Peers, func(p GuardedPeer) bool { return p.VXLAN })
		// Whatever its address, as with WireGuard.
		from[g.VXLAN], to[g.VXLAN] = "goto "+fromVXLAN, "goto "+toVXLAN
		out.led = append(out.led, chain{name: fromVXLAN, rules: allowed.dropOthers("ip saddr")}, chain{name: toVXLAN, rules: allowed.dropOthers("ip daddr")})
	}
	if g.Underlay != "" {
		allowed := plain(g.Peers, func(p GuardedPeer) bool { return p.Direct })
		// What is not of the range comes back from there.
		from[g.Underlay], to[g.Underlay] = "jump "+fromUnderlay, "jump "+toUnderlay
		out.led = append(out.led, chain{name: fromUnderlay, rules: allowed.accept("ip saddr")}, chain{name: toUnderlay, rules: allowed.accept("ip daddr")})
	}
	out.arriving = append([]string{byDevice("iifname", from), fmt.Sprintf("ip saddr %s counter drop", cfg.Range)}, untracked...)
	out.leaving = []string{byDevice("oifname", to), fmt.Sprintf("ip daddr %s counter drop", cfg.Range)}
	return out
}

// guardChains keep plaintext where it is allowed, and segments small enough.
func guardChains(cfg Config) []chain {
	g := guard(cfg)
	all := append(g.led, []chain{
		{"guard-arriving", "type filter hook prerouting priority raw;", g.arriving},
		{"guard-leaving", "type filter hook postrouting priority raw;", g.leaving},
		{"guard-tunnel-in", "type filter hook input priority raw;", g.tunnelIn},
		{"guard-tunnel-out", "type filter hook output priority raw;", g.tunnelTo},
		{"clamp", "type filter hook forward priority mangle;", clamp(cfg)},
	}...)
	return slices.DeleteFunc(all, func(c chain) bool { return c.hook != "" && len(c.rules) == 0 })
}

// byDevice leads packets of each device to what is for them.
func byDevice(field string, verdicts map[string]string) string {
	var list []string
	for _, d := range slices.Sorted(maps.Keys(verdicts)) {
		list = append(list, strconv.Quote(d)+" : "+verdicts[d])
	}
	return fmt.Sprintf("%s vmap { %s }", field, strings.Join(list, ", "))
}

// sift is which addresses may be in the clear on a device: those in allowed, but
// not in except, which are single addresses that others hold in it.
type sift struct{ allowed, except []string }

func plain(peers []GuardedPeer, may func(GuardedPeer) bool) sift {
	var allowed, others []netip.Prefix
	for _, p := range peers {
		if may(p) {
			allowed = append(allowed, p.Prefixes...)
		} else {
			others = append(others, p.Prefixes...)
		}
	}
	allowed = outermost(allowed)
	var s sift
	for _, p := range allowed {
		s.allowed = append(s.allowed, p.String())
	}
	for _, p := range outermost(others) {
		if slices.ContainsFunc(allowed, func(a netip.Prefix) bool { return a.Bits() < p.Bits() && a.Contains(p.Addr()) }) {
			s.except = append(s.except, p.String())
		}
	}
	return s
}

// dropExcept drops what others hold.
func (s sift) dropExcept(field string) []string {
	if len(s.except) == 0 {
		return nil
	}
	return []string{fmt.Sprintf("%s { %s } counter drop", field, strings.Join(s.except, ", "))}
}

// dropOthers drops whatever may not be there.
func (s sift) dropOthers(field string) []string {
	return append(s.dropExcept(field), strings.TrimSpace(noneOf(field, s.allowed)+" counter drop"))
}

// accept lets pass what may be there.
func (s sift) accept(field string) []string {
	if len(s.allowed) == 0 {
		return nil
	}
	return append(s.dropExcept(field), fmt.Sprintf("%s { %s } accept", field, strings.Join(s.allowed, ", ")))
}

// noneOf matches what is none of a list.
func noneOf(field string, list []string) string {
	if len(list) == 0 {
		return ""
	}
	return fmt.Sprintf(" %s != { %s }", field, strings.Join(list, ", "))
}

// outermost leaves out what is part of another, and sorts: nft takes no set
// whose elements overlap.
func outermost(list []netip.Prefix) []netip.Prefix {
	sorted := slices.SortedFunc(slices.Values(list), netip.Prefix.Compare)
	var out []netip.Prefix
	for _, p := range sorted {
		if n := len(out); n == 0 || !out[n-1].Overlaps(p) {
			out = append(out, p)
		}
	}
	return out
}

// clamp keeps TCP from segments that do not fit the way, in both directions.
func clamp(cfg Config) []string {
	devices := slices.Clone(cfg.Tunnels)
	if cfg.Guard.Underlay != "" {
		devices = append(devices, cfg.Guard.Underlay)
	}
	if len(devices) == 0 {
		return nil
	}
	list := quoted(devices)
	// The flags first: of a stream hardly any packet has these.
	const syn, size = "tcp flags & (syn|rst) == syn", "tcp option maxseg size set rt mtu"
	return []string{
		fmt.Sprintf("%s oifname { %s } ip daddr %s %s", syn, list, cfg.Range, size),
		fmt.Sprintf("%s iifname { %s } ip saddr %s %s", syn, list, cfg.Range, size),
	}
}
