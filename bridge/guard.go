package bridge

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"

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
	Prefixes      []netip.Prefix
	Direct, VXLAN bool
}

// way is one by which peers' traffic may travel unencrypted.
type way struct {
	name string // of its sets, too
	may  func(GuardedPeer) bool
}

// byVXLAN and direct are those that there are.
var (
	byVXLAN = way{"vxlan", func(p GuardedPeer) bool { return p.VXLAN }}
	direct  = way{"direct", func(p GuardedPeer) bool { return p.Direct }}
)

// inClear are those that this host has.
func (g Guard) inClear() (out []way) {
	if g.VXLAN != "" {
		out = append(out, byVXLAN)
	}
	if g.Underlay != "" {
		out = append(out, direct)
	}
	return out
}

const (
	refusedSet = "refused"
	endsSet    = "ends" // of VXLAN, on the underlay
	exceptOf   = "not-" // begins the name of the set of what is not in the clear by a way
)

// guardSets say whose addresses may be in the clear, by each way, and between
// which hosts VXLAN may pass. Peers that come and go are elements of these.
func guardSets(cfg Config) (out []set) {
	for _, w := range cfg.Guard.inClear() {
		for _, f := range cfg.families() {
			s := plain(cfg.Guard.Peers, f.prefix, w.may)
			out = append(out,
				listed(w.name+f.set, f.addrs+"; flags interval", s.allowed),
				listed(exceptOf+w.name+f.set, f.addrs+"; flags interval", s.except))
		}
	}
	if cfg.Guard.VXLAN != "" {
		four, six := listed(endsSet, "ipv4_addr", nil), listed(endsSet+"6", "ipv6_addr", nil)
		for _, p := range cfg.Guard.Peers {
			switch {
			case !p.VXLAN:
			case p.Underlay.Is4():
				four.add(p.Underlay.String())
			default:
				six.add(p.Underlay.String())
			}
		}
		out = append(out, four, six)
	}
	if cfg.Guard.Underlay != "" {
		var macs []string
		for _, m := range cfg.Guard.Refused {
			macs = append(macs, m.String())
		}
		out = append(out, listed(refusedSet, "ether_addr", macs))
	}
	return out
}

func listed(name, kind string, elements []string) set {
	s := set{name: name, spec: "type " + kind + ";"}
	for _, e := range elements {
		s.add(e)
	}
	return s
}

// side is how packets are told by where they come from, or where they go.
type side struct{ name, device, address string }

var (
	arriving = side{"arriving", "iifname", "saddr"}
	leaving  = side{"leaving", "oifname", "daddr"}
)

func (s side) is(device string) string { return s.device + " " + strconv.Quote(device) }

// admits are the rules of one side that accept what may travel by a way, and drop
// what others hold among it. Match is of the packets that take that way; "" for all.
func (w way) admits(cfg Config, s side, f family, match string) (rules []string) {
	addr := f.name + " " + s.address
	if len(plain(cfg.Guard.Peers, f.prefix, w.may).except) > 0 {
		rules = append(rules, fmt.Sprintf("%s @%s%s%s counter drop", addr, exceptOf, w.name+f.set, match))
	}
	return append(rules, fmt.Sprintf("%s @%s%s accept", addr, w.name+f.set, match))
}

// guard are the chains of one side, which drop and count what may not be in the
// clear. The packets that are most come first, and meet few rules. What a rule
// compares with is in the rule itself or in a set that stays: a set of its own
// would be empty for who is under way while the rule is replaced.
func guard(cfg Config, s side, hook string) (out []chain) {
	g, main := cfg.Guard, chain{name: "guard-" + s.name, hook: hook}
	add := func(format string, args ...any) { main.rules = append(main.rules, fmt.Sprintf(format, args...)) }
	for _, d := range cfg.devices() {
		if d != g.VXLAN {
			add("%s accept", s.is(d))
			continue
		}
		inside := chain{name: "vxlan-" + s.name}
		for _, f := range cfg.families() {
			inside.rules = append(inside.rules, byVXLAN.admits(cfg, s, f, "")...)
		}
		inside.rules = append(inside.rules, "counter drop") // whatever its address, as with WireGuard
		out = append(out, inside)
		add("%s goto %s", s.is(d), inside.name)
	}
	for _, f := range cfg.families() {
		if g.Underlay == "" {
			break
		}
		if s == arriving && len(g.Refused) > 0 {
			add("%s ether saddr @%s %s saddr %s counter drop", s.is(g.Underlay), refusedSet, f.name, f.prefix(cfg.Range))
		}
		main.rules = append(main.rules, direct.admits(cfg, s, f, " "+s.is(g.Underlay))...)
	}
	for _, f := range cfg.families() {
		add("%s %s %s %s != \"lo\" counter drop", f.name, s.address, f.prefix(cfg.Range), s.device)
	}
	return append(out, main)
}

// guardEnds guard the outer packets of VXLAN: of this mesh, from and to its
// hosts. Of other networks that use VXLAN on that port nothing is known.
func guardEnds(g Guard) []chain {
	ours := fmt.Sprintf("udp dport %d @th,96,24 %#x goto ", g.Port, g.VNI)
	ends := func(name string, s side) chain {
		return chain{name: name, rules: []string{
			fmt.Sprintf("ip %s @%s accept", s.address, endsSet),
			fmt.Sprintf("ip6 %s @%s6 accept", s.address, endsSet),
			"counter drop",
		}}
	}
	in, out := ends("ends-in", arriving), ends("ends-out", leaving)
	return []chain{in, out,
		{"guard-tunnel-in", "type filter hook input priority raw;", []string{ours + in.name}},
		{"guard-tunnel-out", "type filter hook output priority raw;", []string{ours + out.name}},
	}
}

// guardChains keep plaintext where it is allowed, and segments small enough.
func guardChains(cfg Config) []chain {
	out := append(
		guard(cfg, arriving, "type filter hook prerouting priority raw;"),
		guard(cfg, leaving, "type filter hook postrouting priority raw;")...)
	if cfg.Guard.VXLAN != "" {
		out = append(out, guardEnds(cfg.Guard)...)
	}
	return append(out, clamp(cfg)...)
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

// clamp keeps TCP from segments that do not fit the way, in both directions. All
// but the first packets of a connection meet one rule.
func clamp(cfg Config) []chain {
	devices := slices.Clone(cfg.Tunnels)
	if cfg.Guard.Underlay != "" {
		devices = append(devices, cfg.Guard.Underlay)
	}
	if len(devices) == 0 {
		return nil
	}
	const size = "tcp option maxseg size set rt mtu"
	first := chain{name: "clamp-first"}
	for _, f := range cfg.families() {
		for _, s := range []side{leaving, arriving} {
			first.rules = append(first.rules, fmt.Sprintf("%s { %s } %s %s %s %s", s.device, quoted(devices), f.name, s.address, f.prefix(cfg.Range), size))
		}
	}
	return []chain{first, {"clamp", "type filter hook forward priority mangle;", []string{"tcp flags & (syn|rst) == syn goto " + first.name}}}
}
