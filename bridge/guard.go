package bridge

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"

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
	// Untrusted are the devices by which no packet of VXLAN may leave, wherever it goes.
	Untrusted []string
}

// GuardedPeer is another host, and how its traffic may travel in the clear.
type GuardedPeer struct {
	ID       uuid.UUID
	Ends     []netip.Addr   // of its tunnels, on the underlay
	Prefixes []netip.Prefix // that its link leads to, its own or others'
	// Direct and VXLAN tell whether it may by these.
	Direct, VXLAN bool
	// The hardware addresses by which its packets come from the underlay, as far as
	// they are known, and from the tunnel.
	NICs []nl.MAC
	VTEP nl.MAC
}

// way is one by which peers' traffic may travel unencrypted.
type way struct {
	name string // begins those of its maps
	may  func(GuardedPeer) bool
}

// byVXLAN and direct are those that there are.
var (
	byVXLAN = way{"vxlan", func(p GuardedPeer) bool { return p.VXLAN }}
	direct  = way{"direct", func(p GuardedPeer) bool { return p.Direct }}
)

// inClear are those that this host has.
func (g Guard) inClear() (out []way) {
	if len(g.VXLAN) > 0 {
		out = append(out, byVXLAN)
	}
	if len(g.Direct) > 0 {
		out = append(out, direct)
	}
	return out
}

const (
	refusedSet = "refused"
	endsSet    = "ends" // of VXLAN, on the underlay
)

// guardSets say whose addresses may be in the clear, by each way, and between
// which hosts VXLAN may pass. So peers that come and go change no rule. Who is
// found is counted, by the same look: two counters for each peer.
func guardSets(cfg Config) (out []set, counters names) {
	g := cfg.Guard
	counters = names{}
	for _, p := range g.Peers {
		if p.Direct || p.VXLAN {
			counters[receivedBy(p.ID)], counters[sentTo(p.ID)] = true, true
		}
	}
	parts := spans(g.Peers)
	for _, w := range g.inClear() {
		for _, f := range cfg.families() {
			out = append(out, w.passing(parts, arriving, f), w.passing(parts, leaving, f))
		}
	}
	if len(g.VXLAN) > 0 {
		for _, f := range underlayFamilies {
			ends := set{name: endsSet + f.set, spec: fmt.Sprintf("type %s;", f.addrs)}
			for _, p := range g.Peers {
				for _, end := range p.Ends {
					if p.VXLAN && end.Is4() == (f.name == "ip") {
						ends.add(end.String())
					}
				}
			}
			out = append(out, ends)
		}
	}
	if len(g.Direct) > 0 {
		refused := set{name: refusedSet, spec: "type ether_addr;"}
		for _, m := range g.Refused {
			refused.add(m.String())
		}
		out = append(out, refused)
	}
	return out, counters
}

// passing is the map of the addresses that may be on one side of packets that
// travel by a way, to the counters of those whose they are.
func (w way) passing(parts []span, s side, f family) set {
	out := set{name: w.on(s, f), spec: fmt.Sprintf("type %s : counter; flags interval;", f.addrs), isMap: true}
	for _, at := range parts {
		if w.may(at.peer) {
			out.put(at.of(f), strconv.Quote(s.counter(at.peer.ID)))
		}
	}
	return out
}

func (w way) on(s side, f family) string { return w.name + "-" + s.name + f.set }

// side is how packets are told by where they come from, or where they go.
type side struct {
	name, device, address string
	counter               func(uuid.UUID) string
}

var (
	arriving = side{"arriving", "iifname", "saddr", receivedBy}
	leaving  = side{"leaving", "oifname", "daddr", sentTo}
)

func (s side) is(device string) string { return s.device + " " + strconv.Quote(device) }

// admits is the rule of one side that accepts what may travel by a way. Match is of
// the packets that take that way; "" for all.
func (w way) admits(s side, f family, match string) string {
	return fmt.Sprintf("%scounter name %s %s map @%s accept", match, f.name, s.address, w.on(s, f))
}

// guard are the chains of one side, which drop and count what may not be in the
// clear. The packets that are most come first, and meet few rules, since each costs as
// much as a good part of all else that the kernel does for a packet. What a rule
// compares with is in the rule itself or in a set that stays: a set of its own
// would be empty for who is under way while the rule is replaced.
func guard(cfg Config, s side, hook string, first ...string) (out []chain) {
	g, main := cfg.Guard, chain{name: "guard-" + s.name, hook: hook, rules: first}
	add := func(format string, args ...any) { main.rules = append(main.rules, fmt.Sprintf(format, args...)) }
	inside := chain{name: "vxlan-" + s.name}
	for _, f := range cfg.families() {
		inside.rules = append(inside.rules, byVXLAN.admits(s, f, ""))
	}
	if cfg.Link.IsValid() {
		// Links are not told apart from each other, but lead to the host alone.
		links := fmt.Sprintf("ip %s %s ", s.address, cfg.Links)
		if s.name == arriving.name {
			links += fmt.Sprintf("ip daddr %s ", cfg.Link)
		}
		inside.rules = append(inside.rules, links+"accept")
	}
	inside.rules = append(inside.rules, "counter drop") // whatever its address, as with WireGuard
	if len(g.VXLAN) > 0 {
		out = append(out, inside)
	}
	for _, d := range g.Direct {
		for _, f := range cfg.families() {
			within := fmt.Sprintf("%s %s %s %s ", s.is(d), f.name, s.address, f.prefix(cfg.Range))
			if s.name == arriving.name && len(g.Refused) > 0 {
				add("%s ether saddr @%s %s saddr %s counter drop", s.is(d), refusedSet, f.name, f.prefix(cfg.Range))
			}
			add("%s", direct.admits(s, f, within))
		}
	}
	for _, d := range cfg.Tunnels {
		if slices.Contains(g.VXLAN, d) {
			add("%s goto %s", s.is(d), inside.name)
		} else {
			add("%s accept", s.is(d))
		}
	}
	for _, f := range cfg.families() {
		add("%s %s %s %s != \"lo\" counter drop", f.name, s.address, f.prefix(cfg.Range), s.device)
	}
	return append(out, main)
}

// outer matches the packets of this mesh's VXLAN. Of other networks that use VXLAN on
// that port nothing is known.
func (g Guard) outer() string { return fmt.Sprintf("udp dport %d @th,96,24 %#x", g.Port, g.VNI) }

// guardEnds let these pass from and to the mesh's hosts alone. What leaves is of the
// host itself: a container that wraps its packets by itself could be anybody in there.
// Routes change before anybody hears of it, so devices are looked at as well.
func guardEnds(cfg Config) []chain {
	if len(cfg.Guard.VXLAN) == 0 {
		return nil
	}
	ends := func(name string, s side, first ...string) chain {
		return chain{name: name, rules: append(first,
			fmt.Sprintf("ip %s @%s accept", s.address, endsSet),
			fmt.Sprintf("ip6 %s @%s6 accept", s.address, endsSet),
			"counter drop",
		)}
	}
	first := []string{arriving.is(cfg.Name) + " counter drop"}
	switch untrusted := cfg.Guard.Untrusted; len(untrusted) {
	case 0:
	case 1:
		first = append(first, leaving.is(untrusted[0])+" counter drop")
	default:
		first = append(first, fmt.Sprintf("%s { %s } counter drop", leaving.device, quoted(untrusted)))
	}
	return []chain{ends(endsIn, arriving), ends(endsOut, leaving, first...)}
}

// The chains of guardEnds.
const (
	endsIn  = "ends-in"
	endsOut = "ends-out"
)

// guardChains keep plaintext where it is allowed, and segments small enough. A packet
// that is forwarded meets one chain as it comes and one as it leaves, besides those
// of subnets and of published ports where there are any.
func guardChains(cfg Config) []chain {
	own := cfg.Name
	first, last := []string{arriving.is(own) + " accept"}, []string{leaving.is(own) + " accept"}
	out := append(guardEnds(cfg), otherChains(cfg)...)
	if len(cfg.Guard.VXLAN) > 0 {
		// No two of these packets, there and back, are of one connection, as their
		// source port is made of what is in them. So there is nothing to keep track of.
		first = append(first, cfg.Guard.outer()+" notrack")
		last = append(last, cfg.Guard.outer()+" goto "+endsOut)
		out = append(out, chain{"untracked", "type filter hook output priority raw;", []string{cfg.Guard.outer() + " notrack"}})
	}
	if len(cfg.ways()) > 0 {
		out = append(out, clamp(cfg))
		last = append(append([]string{"tcp flags & (syn|rst) == syn jump " + clampChain}, last...),
			fmt.Sprintf("%s != %q jump %s", arriving.device, own, othersChain))
	}
	out = append(out, guard(cfg, arriving, "type filter hook prerouting priority raw;", first...)...)
	return append(out, guard(cfg, leaving, "type filter hook postrouting priority raw;", last...)...)
}

const clampChain = "clamp"

// clamp keeps TCP from segments that do not fit the way, in both directions. Only the
// first packets of a connection meet it.
func clamp(cfg Config) chain {
	const size = "tcp option maxseg size set rt mtu"
	out := chain{name: clampChain}
	for _, f := range cfg.families() {
		for _, s := range []side{leaving, arriving} {
			out.rules = append(out.rules, fmt.Sprintf("%s { %s } %s %s %s %s", s.device, quoted(cfg.ways()), f.name, s.address, f.prefix(cfg.Range), size))
		}
	}
	return out
}
