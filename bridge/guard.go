package bridge

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"github.com/weft-net/weft/internal/nl"
)

// Guard says what may travel between hosts in the clear. All else that is of the
// range comes by the bridge or an encrypted tunnel, or is dropped: a stranger on
// the underlay can neither inject packets nor have them sent to it.
type Guard struct {
	Direct  []string // devices of the underlay that direct traffic takes
	VXLAN   []string // devices of the tunnels in the clear
	Port    uint16   // UDP, of VXLAN
	VNI     uint32   // of VXLAN
	Peers   []GuardedPeer
	Refused []nl.MAC // of hosts on the underlay by which nothing may come
}

// GuardedPeer is another host, and how its traffic may travel in the clear.
type GuardedPeer struct {
	ID       uuid.UUID
	Ends     []netip.Addr   // of its tunnels, on the underlay
	Prefixes []netip.Prefix // that its link leads to, its own or others'
	Link     netip.Addr     // by which the link is probed; the zero value for none
	// Direct and VXLAN tell whether it may by these.
	Direct, VXLAN bool
	// The hardware addresses by which its packets come from the underlay, as far as
	// they are known, and from the tunnel.
	NICs []nl.MAC
	VTEP nl.MAC
}

// guardRules are the rules of each chain that guards the plaintext, and what they
// look up. What the rules are does not depend on which peers there are.
type guardRules struct {
	arriving []string // hook prerouting
	leaving  []string // hook postrouting
	tunnelIn []string // hook input: the outer packets of VXLAN
	tunnelTo []string // hook output
	sets     []set
	counters names // of what passes, two for each peer
}

// guard computes the rules. What is dropped is counted, and what passes, too, by
// the look-up that lets it pass.
func guard(cfg Config) guardRules {
	g := cfg.Guard
	out := guardRules{counters: names{}}
	if len(g.VXLAN) > 0 {
		// Of other networks that use VXLAN on that port nothing is known.
		ours := fmt.Sprintf("udp dport %d @th,96,24 %#x", g.Port, g.VNI)
		for _, f := range underlayFamilies {
			ends := set{name: "tunnel_ends" + f.set, spec: fmt.Sprintf("type %s;", f.addrs)}
			for _, p := range g.Peers {
				for _, end := range p.Ends {
					if p.VXLAN && end.Is4() == (f.name == "ip") {
						ends.add(end.String())
					}
				}
			}
			out.sets = append(out.sets, ends)
			out.tunnelIn = append(out.tunnelIn, fmt.Sprintf("%s %s saddr != @%s counter drop", ours, f.name, ends.name))
			out.tunnelTo = append(out.tunnelTo, fmt.Sprintf("%s %s daddr != @%s counter drop", ours, f.name, ends.name))
		}
		// Whatever its address, as with WireGuard.
		out.pass(cfg, "vxlan", quoted(g.VXLAN), func(family, string) string { return "" }, func(p GuardedPeer) bool { return p.VXLAN })
		out.arriving = append(out.arriving, fmt.Sprintf("iifname { %s } counter drop", quoted(g.VXLAN)))
		out.leaving = append(out.leaving, fmt.Sprintf("oifname { %s } counter drop", quoted(g.VXLAN)))
	}
	ofRange := func(f family, field string) string {
		return fmt.Sprintf("%s %s %s ", f.name, field, f.prefix(cfg.Range))
	}
	if len(g.Direct) > 0 {
		devices := quoted(g.Direct)
		for _, f := range cfg.families() {
			if len(g.Refused) > 0 {
				var macs []string
				for _, m := range g.Refused {
					macs = append(macs, m.String())
				}
				out.arriving = append(out.arriving, fmt.Sprintf("iifname { %s } ether saddr { %s } %scounter drop", devices, strings.Join(macs, ", "), ofRange(f, "saddr")))
			}
		}
		out.pass(cfg, "direct", devices, ofRange, func(p GuardedPeer) bool { return p.Direct })
	}
	// What is left of direct traffic is judged by this, too.
	inside := quoted(append([]string{"lo"}, cfg.devices()...))
	for _, f := range cfg.families() {
		out.arriving = append(out.arriving, fmt.Sprintf("iifname != { %s } %scounter drop", inside, ofRange(f, "saddr")))
		out.leaving = append(out.leaving, fmt.Sprintf("oifname != { %s } %scounter drop", inside, ofRange(f, "daddr")))
	}
	for _, p := range g.Peers {
		if p.Direct || p.VXLAN {
			out.counters[receivedBy(p.ID)], out.counters[sentTo(p.ID)] = true, true
		}
	}
	return out
}

// pass lets through what is of the peers that may by these devices. Of says which
// packets of a family are looked up at all.
func (out *guardRules) pass(cfg Config, transport, devices string, of func(f family, field string) string, may func(GuardedPeer) bool) {
	for _, f := range cfg.families() {
		from := set{name: transport + "_from" + f.set, spec: fmt.Sprintf("type %s : counter; flags interval;", f.addrs), isMap: true}
		to := set{name: transport + "_to" + f.set, spec: from.spec, isMap: true}
		for _, s := range spans(cfg.Guard.Peers) {
			if !may(s.peer) {
				continue
			}
			from.put(s.of(f), strconv.Quote(receivedBy(s.peer.ID)))
			to.put(s.of(f), strconv.Quote(sentTo(s.peer.ID)))
		}
		for _, p := range cfg.Guard.Peers {
			if f.name == "ip" && may(p) && p.Link.IsValid() {
				from.put(p.Link.String(), strconv.Quote(receivedBy(p.ID)))
				to.put(p.Link.String(), strconv.Quote(sentTo(p.ID)))
			}
		}
		out.sets = append(out.sets, from, to)
		out.arriving = append(out.arriving, fmt.Sprintf("iifname { %s } %scounter name %s saddr map @%s accept", devices, of(f, "saddr"), f.name, from.name))
		out.leaving = append(out.leaving, fmt.Sprintf("oifname { %s } %scounter name %s daddr map @%s accept", devices, of(f, "daddr"), f.name, to.name))
	}
}

// chains keep plaintext where it is allowed, and segments small enough.
func (g guardRules) chains(cfg Config) []chain {
	all := []chain{
		{"guard-arriving", "type filter hook prerouting priority raw;", g.arriving},
		{"guard-leaving", "type filter hook postrouting priority raw;", g.leaving},
		{"guard-tunnel-in", "type filter hook input priority raw;", g.tunnelIn},
		{"guard-tunnel-out", "type filter hook output priority raw;", g.tunnelTo},
		{"clamp", "type filter hook forward priority mangle;", clamp(cfg)},
	}
	return slices.DeleteFunc(all, func(c chain) bool { return len(c.rules) == 0 })
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
