package bridge

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/weft-net/weft/internal/nl"
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
	Refused  []nl.MAC // of hosts on the underlay by which nothing may come
}

// GuardedPeer is another host, and how its traffic may travel in the clear.
type GuardedPeer struct {
	Underlay      netip.Addr
	Also          []netip.Addr   // others of its own, by which its tunnels may end
	Prefixes      []netip.Prefix // that its link leads to, its own or others'
	Direct, VXLAN bool
	// The hardware addresses by which its packets come from the underlay and from
	// the tunnel; zero where not known.
	NIC, VTEP nl.MAC
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
				for _, end := range append([]netip.Addr{p.Underlay}, p.Also...) {
					if text := end.String(); p.VXLAN && (family == "ip") == end.Is4() && !slices.Contains(ends, text) {
						ends = append(ends, text)
					}
				}
			}
			none := " meta nfproto ipv" + map[string]string{"ip": "4", "ip6": "6"}[family]
			out.tunnelIn = append(out.tunnelIn, ours+cmp.Or(noneOf(family+" saddr", ends), none)+" counter drop")
			out.tunnelTo = append(out.tunnelTo, ours+cmp.Or(noneOf(family+" daddr", ends), none)+" counter drop")
		}
	}
	for _, f := range cfg.families() {
		out.add(cfg, f)
	}
	return out
}

// add adds the rules for what is carried of one family.
func (out *guardRules) add(cfg Config, f family) {
	g, rng, from, to := cfg.Guard, f.prefix(cfg.Range), f.name+" saddr", f.name+" daddr"
	if g.VXLAN != "" {
		allowed := plain(g.Peers, f, func(p GuardedPeer) bool { return p.VXLAN })
		// Whatever its address, as with WireGuard. Links are not told apart from each
		// other here, but lead to the host alone.
		in, away := "iifname "+strconv.Quote(g.VXLAN), "oifname "+strconv.Quote(g.VXLAN)
		if cfg.Link.IsValid() && f.name == "ip" {
			out.arriving = append(out.arriving, fmt.Sprintf("%s ip saddr %s ip daddr != %s counter drop", in, cfg.Links, cfg.Link))
			in, away = fmt.Sprintf("%s ip saddr != %s", in, cfg.Links), fmt.Sprintf("%s ip daddr != %s", away, cfg.Links)
		}
		out.arriving = append(out.arriving, allowed.rules(in, from, "")...)
		out.leaving = append(out.leaving, allowed.rules(away, to, "")...)
	}
	if g.Underlay != "" {
		allowed := plain(g.Peers, f, func(p GuardedPeer) bool { return p.Direct })
		within := " " + rng.String()
		if len(g.Refused) > 0 {
			var macs []string
			for _, m := range g.Refused {
				macs = append(macs, m.String())
			}
			out.arriving = append(out.arriving, fmt.Sprintf("iifname %q ether saddr { %s } %s%s counter drop", g.Underlay, strings.Join(macs, ", "), from, within))
		}
		out.arriving = append(out.arriving, allowed.rules("iifname "+strconv.Quote(g.Underlay), from, within)...)
		out.leaving = append(out.leaving, allowed.rules("oifname "+strconv.Quote(g.Underlay), to, within)...)
	}
	inside := append([]string{"lo"}, cfg.devices()...)
	if g.Underlay != "" {
		inside = append(inside, g.Underlay) // judged above
	}
	others := quoted(inside)
	out.arriving = append(out.arriving, fmt.Sprintf("iifname != { %s } %s %s counter drop", others, from, rng))
	out.leaving = append(out.leaving, fmt.Sprintf("oifname != { %s } %s %s counter drop", others, to, rng))
}

// guardChains keep plaintext where it is allowed, and segments small enough.
func guardChains(cfg Config) []chain {
	g := guard(cfg)
	all := []chain{
		{"guard-arriving", "type filter hook prerouting priority raw;", g.arriving},
		{"guard-leaving", "type filter hook postrouting priority raw;", g.leaving},
		{"guard-tunnel-in", "type filter hook input priority raw;", g.tunnelIn},
		{"guard-tunnel-out", "type filter hook output priority raw;", g.tunnelTo},
		{"clamp", "type filter hook forward priority mangle;", clamp(cfg)},
	}
	return slices.DeleteFunc(all, func(c chain) bool { return len(c.rules) == 0 })
}

// sift is which addresses may be in the clear on a device: those in allowed, but
// not in except, which are single addresses that others hold in it.
type sift struct{ allowed, except []string }

func plain(peers []GuardedPeer, f family, may func(GuardedPeer) bool) sift {
	var allowed, others []netip.Prefix
	for _, p := range peers {
		for _, prefix := range p.Prefixes {
			if may(p) {
				allowed = append(allowed, f.prefix(prefix))
			} else {
				others = append(others, f.prefix(prefix))
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
	devices := cfg.ways()
	if len(devices) == 0 {
		return nil
	}
	list := quoted(devices)
	const size = "tcp flags & (syn|rst) == syn tcp option maxseg size set rt mtu"
	var rules []string
	for _, f := range cfg.families() {
		rules = append(rules,
			fmt.Sprintf("oifname { %s } %s daddr %s %s", list, f.name, f.prefix(cfg.Range), size),
			fmt.Sprintf("iifname { %s } %s saddr %s %s", list, f.name, f.prefix(cfg.Range), size))
	}
	return rules
}
