package bridge

import (
	"cmp"
	"fmt"
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

// guardRules are the rules of each chain that guards the plaintext.
type guardRules struct {
	arriving []string // hook prerouting
	leaving  []string // hook postrouting
	tunnelIn []string // hook input: the outer packets of VXLAN
	tunnelTo []string // hook output
}

// guard computes the rules. What is dropped is counted.
func guard(cfg Config) guardRules {
	g := cfg.Guard
	var out guardRules
	if g.VXLAN != "" {
		// Of other networks that use VXLAN on that port nothing is known.
		ours := fmt.Sprintf("udp dport %d @th,96,24 %#x", g.Port, g.VNI)
		for _, family := range []string{"ip", "ip6"} {
			var ends []string
			for _, p := range g.Peers {
				if p.VXLAN && (family == "ip") == p.Underlay.Is4() {
					ends = append(ends, p.Underlay.String())
				}
			}
			none := " meta nfproto ipv" + map[string]string{"ip": "4", "ip6": "6"}[family]
			out.tunnelIn = append(out.tunnelIn, ours+cmp.Or(noneOf(family+" saddr", ends), none)+" counter drop")
			out.tunnelTo = append(out.tunnelTo, ours+cmp.Or(noneOf(family+" daddr", ends), none)+" counter drop")
		}
	}
	out.add(cfg, "ip", cfg.Range, func(p netip.Prefix) netip.Prefix { return p })
	if cfg.IPv6.IsValid() {
		out.add(cfg, "ip6", cfg.IPv6.Prefix(cfg.Range), cfg.IPv6.Prefix)
	}
	return out
}

// add adds the rules for what is carried, of one family: its range, and what a
// prefix of a peer's is in it.
func (out *guardRules) add(cfg Config, family string, rng netip.Prefix, of func(netip.Prefix) netip.Prefix) {
	g, from, to := cfg.Guard, family+" saddr", family+" daddr"
	if g.VXLAN != "" {
		allowed := plain(g.Peers, of, func(p GuardedPeer) bool { return p.VXLAN })
		// Whatever its address, as with WireGuard.
		out.arriving = append(out.arriving, allowed.rules("iifname "+strconv.Quote(g.VXLAN), from, "")...)
		out.leaving = append(out.leaving, allowed.rules("oifname "+strconv.Quote(g.VXLAN), to, "")...)
	}
	if g.Underlay != "" {
		allowed := plain(g.Peers, of, func(p GuardedPeer) bool { return p.Direct })
		within := " " + rng.String()
		out.arriving = append(out.arriving, allowed.rules("iifname "+strconv.Quote(g.Underlay), from, within)...)
		out.leaving = append(out.leaving, allowed.rules("oifname "+strconv.Quote(g.Underlay), to, within)...)
	}
	inside := []string{strconv.Quote("lo")}
	for _, d := range cfg.devices() {
		inside = append(inside, strconv.Quote(d))
	}
	if g.Underlay != "" {
		inside = append(inside, strconv.Quote(g.Underlay)) // judged above
	}
	others := strings.Join(inside, ", ")
	out.arriving = append(out.arriving, fmt.Sprintf("iifname != { %s } %s %s counter drop", others, from, rng))
	out.leaving = append(out.leaving, fmt.Sprintf("oifname != { %s } %s %s counter drop", others, to, rng))
}

// sift is which addresses may be in the clear on a device: those in allowed, but
// not in except, which are single addresses that others hold in it.
type sift struct{ allowed, except []string }

func plain(peers []GuardedPeer, of func(netip.Prefix) netip.Prefix, may func(GuardedPeer) bool) sift {
	var allowed, others []netip.Prefix
	for _, p := range peers {
		for _, prefix := range p.Prefixes {
			if may(p) {
				allowed = append(allowed, of(prefix))
			} else {
				others = append(others, of(prefix))
			}
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

// rules drop what is on a device, and in the networks given, if any, unless it
// may be there.
func (s sift) rules(device, field, within string) []string {
	var out []string
	if len(s.except) > 0 {
		out = append(out, fmt.Sprintf("%s %s { %s } counter drop", device, field, strings.Join(s.except, ", ")))
	}
	if within != "" {
		within = " " + field + within
	}
	return append(out, device+within+noneOf(field, s.allowed)+" counter drop")
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
	var quoted []string
	for _, d := range devices {
		quoted = append(quoted, strconv.Quote(d))
	}
	list := strings.Join(quoted, ", ")
	const size = "tcp flags & (syn|rst) == syn tcp option maxseg size set rt mtu"
	rules := []string{
		fmt.Sprintf("oifname { %s } ip daddr %s %s", list, cfg.Range, size),
		fmt.Sprintf("iifname { %s } ip saddr %s %s", list, cfg.Range, size),
	}
	if rng := cfg.IPv6.Prefix(cfg.Range); rng.IsValid() {
		rules = append(rules,
			fmt.Sprintf("oifname { %s } ip6 daddr %s %s", list, rng, size),
			fmt.Sprintf("iifname { %s } ip6 saddr %s %s", list, rng, size))
	}
	return rules
}
