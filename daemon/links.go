package daemon

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/weft-net/weft/bridge"
	"github.com/weft-net/weft/encap"
	"github.com/weft-net/weft/encap/probe"
	"github.com/weft-net/weft/internal/nl"
	"github.com/weft-net/weft/mesh"
	"github.com/weft-net/weft/mesh/topology"
)

// link is the way to one peer as it was last decided.
type link struct {
	choice   encap.Choice
	verdicts []encap.Verdict
	waits    bool   // another path works, and may be taken by and by
	works    bool   // the chosen one
	reason   string // why there is none; "" if there is
	// slower is since when a faster transport is allowed than is used; the zero
	// value if there is none.
	slower time.Time
	// heard is where it is heard, by the device with which its kernel holds a session.
	heard map[string]netip.AddrPort
	paths []encap.Path // those that are allowed and possible
	// detour is the way by others; nil if the link itself leads there. whyBroken
	// says why it should not, "" if it should.
	detour    *topology.Detour
	whyBroken string
}

// linkPlan is what one pass decides of the links.
type linkPlan struct {
	instances []encap.Instance // that are needed
	idle      []encap.Instance // that this host could have, and that nothing needs
	peers     []encap.Remote
	guarded   []bridge.GuardedPeer
	targets   []probe.Target
	mtu       int      // bytes, of the bridge and the containers
	refused   []nl.MAC // by which nothing may come directly
}

// instances are this host's ends for a transport; underlay is the device of its
// underlay address, "" if there is none for now. Those of WireGuard are its slots.
func (d *Daemon) instances(slots []encap.Slot, transport, underlay string) (held, idle []encap.Instance) {
	if transport == encap.TransportDirect {
		if underlay != "" {
			held = append(held, encap.Instance{Transport: transport, Device: underlay})
		}
		return held, nil
	}
	for index, device := range d.opts.tunnelDevices()[transport] {
		i := encap.Instance{Transport: transport, Device: device, Port: d.settings.port(transport)}
		if transport != encap.TransportWireGuard {
			held = append(held, i)
			continue
		}
		i.Port = d.settings.slotPort(index, d.opts.Port)
		if s, ok := slotAt(slots, index); ok {
			i.Key = s.Key
			held = append(held, i)
		} else {
			idle = append(idle, i)
		}
	}
	return held, idle
}

// planLinks decides which transports every link may use, and which one it does.
// The holder of the kernel's lock calls it.
func (d *Daemon) planLinks() (linkPlan, error) {
	dev, noUnderlay := d.conn.LinkWithAddr(d.advertise())
	carried := d.adopted()
	needed := map[string]bool{d.baseTransport(): true}
	quality := d.qualities()
	slots := d.keys.list()
	links := map[uuid.UUID]*link{}
	var plan linkPlan
	peers := d.tunnelPeers()
	for _, p := range peers {
		onSegment := false
		if noUnderlay == nil && p.end.Underlay.IsValid() && (d.settings.mode() == encap.ModeDirect || encap.Untrusted(d.ownEnd(p), p.end) == "") {
			var err error
			if onSegment, err = encap.OnSegment(d.conn, dev.Name, p.end.Underlay); err != nil {
				return plan, err
			}
		}
		l := &link{verdicts: d.judge(p, onSegment)}
		links[p.ID] = l
		remote := encap.Remote{Peer: p.Peer, Ways: map[string]encap.Way{}}
		guarded := bridge.GuardedPeer{Underlay: p.Underlay, VTEP: encap.VTEPMAC(p.ID), Also: d.clearEnds(p)}
		for _, v := range l.verdicts {
			if !v.Allowed {
				continue
			}
			needed[v.Transport] = true
			guarded.Direct = guarded.Direct || v.Transport == encap.TransportDirect && dev.Name != ""
			guarded.VXLAN = guarded.VXLAN || v.Transport == encap.TransportVXLAN
			held, _ := d.instances(slots, v.Transport, dev.Name)
			for _, i := range held {
				if way, ok := d.way(p, i, dev.MTU, quality); ok {
					remote.Ways[i.Device] = way
				}
			}
			for _, i := range d.preferred(slots, p, held) {
				l.paths = append(l.paths, encap.Path{Device: i.Device, Transport: v.Transport})
				if p.VTEP.IsValid() {
					plan.targets = append(plan.targets, probe.Target{Path: probe.Path{Peer: p.ID, Device: i.Device}, Addr: p.VTEP, MTU: d.most(p, i, dev.MTU)})
				}
			}
		}
		d.decide(p, l, l.paths, carried, quality)
		remote.Chosen = l.choice.Device
		plan.peers = append(plan.peers, remote)
		plan.guarded = append(plan.guarded, guarded)
	}
	d.detour(peers, links, quality, &plan)
	for i, p := range plan.peers {
		plan.guarded[i].Prefixes = p.Carries()
		d.logDetour(peers[i], d.decided[p.ID], links[p.ID])
	}
	d.decided = links
	for _, transport := range []string{encap.TransportDirect, encap.TransportVXLAN, encap.TransportWireGuard} {
		held, idle := d.instances(slots, transport, dev.Name)
		if needed[transport] {
			plan.instances = append(plan.instances, held...)
		} else {
			plan.idle = append(plan.idle, held...)
		}
		plan.idle = append(plan.idle, idle...)
	}
	if !slices.ContainsFunc(plan.instances, func(i encap.Instance) bool { return i.Transport == encap.TransportDirect }) {
		return plan, nil
	}
	known, err := d.conn.Neighbours(dev)
	for i, p := range plan.guarded {
		plan.guarded[i].NIC = known[p.Underlay]
	}
	d.refuse(known, peers, &plan)
	return plan, err
}

// decide chooses one of the paths to a peer, and logs what is news.
func (d *Daemon) decide(p tunnelPeer, l *link, paths []encap.Path, carried map[netip.Prefix]string, quality map[probe.Path]probe.Quality) {
	before, now := encap.Choice{}, d.now()
	old, known := d.decided[p.ID]
	if known {
		before = old.choice
	} else if i := slices.IndexFunc(paths, func(q encap.Path) bool { return carried[p.Prefixes[0]] == q.Device }); i >= 0 {
		// An earlier process had chosen; nothing says that it was wrong.
		before = encap.Choice{Path: paths[i], At: now}
	}
	mine := map[string]probe.Quality{}
	for _, path := range paths {
		mine[path.Device] = quality[probe.Path{Peer: p.ID, Device: path.Device}]
	}
	l.choice = encap.Choose(paths, mine, before, now)
	l.works = mine[l.choice.Device].Works
	l.waits = slices.ContainsFunc(paths, func(q encap.Path) bool {
		return mine[q.Device].Works && (!l.works || slices.Index(paths, q) < slices.Index(paths, l.choice.Path))
	})
	switch {
	case len(paths) == 0:
		l.reason = whyNone(p, l.verdicts)
	case l.choice.Transport != paths[0].Transport && known && !old.slower.IsZero():
		l.slower = old.slower
	case l.choice.Transport != paths[0].Transport:
		l.slower = now
	}
	if l.choice.Path != before.Path {
		d.log.Info("link changed", "peer", p.end.Name, "from", before.Transport, "to", l.choice.Transport, "device", l.choice.Device, "why", oneLine(fmt.Errorf("%s%s", l.choice.Why, l.reason)))
	}
}

// whyNone says why nothing leads to a peer.
func whyNone(p tunnelPeer, verdicts []encap.Verdict) string {
	if !p.Underlay.IsValid() {
		return "it has said no underlay address"
	}
	var reasons []string
	for _, v := range verdicts {
		if v.Allowed && v.Transport == encap.TransportWireGuard {
			v.Why = "it has no key of WireGuard that fits this host's; they come together when both weft have the same version and hear of each other"
		}
		reasons = append(reasons, v.Transport+": "+v.Why)
	}
	return strings.Join(reasons, "; ")
}

// adopted says by which device an earlier process led the traffic, before this
// one has decided anything.
func (d *Daemon) adopted() map[netip.Prefix]string {
	if d.decided != nil {
		return nil
	}
	carried, err := d.tunnels.Carries()
	if err != nil {
		d.log.Warn("what an earlier daemon chose is not known", "err", err)
	}
	return carried
}

// baseTransport is the one that this host has even without a peer that needs it.
func (d *Daemon) baseTransport() string {
	order := map[encap.Mode][]string{
		encap.ModeDirect: {encap.TransportDirect},
		encap.ModeVXLAN:  {encap.TransportVXLAN},
	}[d.settings.mode()]
	for _, transport := range append(order, encap.TransportWireGuard, encap.TransportVXLAN) {
		if slices.Contains(d.can, transport) {
			return transport
		}
	}
	return encap.TransportDirect
}

// leastPath is less than any path that is of use, in bytes: what every host has
// to be able to receive.
const leastPath = 576

// most is the largest packet that a path may be able to take, by what both ends
// say of their underlay.
func (d *Daemon) most(p tunnelPeer, i encap.Instance, underlay int) int {
	most := encap.Fits(i.Transport, cmp.Or(p.own, d.advertise()), underlay)
	if d.opts.MTU != 0 {
		most = min(most, d.opts.MTU)
	}
	if p.mtu > 0 && p.mtu < underlay {
		most = min(most, encap.FitsThere(i.Transport, p.Underlay, p.mtu))
	}
	return max(leastPath, most)
}

// way is a peer's end of a path, if it has one. What the path takes is said only
// if it is less than what the device does.
func (d *Daemon) way(p tunnelPeer, i encap.Instance, underlay int, quality map[probe.Path]probe.Quality) (w encap.Way, ok bool) {
	w = encap.Way{Port: p.ports[i.Transport]}
	if i.Transport == encap.TransportWireGuard {
		there, ok := p.slots[i.Device]
		if !ok {
			return w, false
		}
		w = encap.Way{Port: there.port, Key: there.key}
		w.Endpoints = d.endpointsOf(p, cmp.Or(there.port, i.Port))
	}
	own, mtu := d.most(tunnelPeer{}, i, underlay), d.most(p, i, underlay)
	if found := quality[probe.Path{Peer: p.ID, Device: i.Device}].MTU; found >= leastPath {
		mtu = min(mtu, found)
	}
	if mtu < own {
		w.MTU = mtu
	}
	return w, true
}

// judge is what policy says of the link to a peer. Without a family in common
// there is none, and of the transports WireGuard alone takes both families.
func (d *Daemon) judge(p tunnelPeer, onSegment bool) []encap.Verdict {
	verdicts := encap.Policy(d.settings.mode(), d.ownEnd(p), p.end, onSegment)
	same := slices.Contains(d.underlays(), p.Underlay)
	confined := (p.record.Confined || d.mesh.Reachability().Confined) && !p.connects
	for i, v := range verdicts {
		switch {
		case !p.own.IsValid() && same:
			verdicts[i].Allowed, verdicts[i].Why = false, fmt.Sprintf("%s is at %s, as this host is, and nobody has told yet where else it is seen", p.end.Name, p.Underlay)
		case !p.own.IsValid() && p.Underlay.IsValid():
			verdicts[i].Allowed, verdicts[i].Why = false, fmt.Sprintf("%s has %s on the underlay, and this host %s, which are of no common family", p.end.Name, p.Underlay, d.advertise())
		case v.Allowed && p.own != d.advertise() && v.Transport != encap.TransportWireGuard:
			verdicts[i].Allowed, verdicts[i].Why = false, fmt.Sprintf("it goes by %s alone", d.advertise())
		case v.Allowed && confined && v.Transport != encap.TransportWireGuard:
			verdicts[i].Allowed, verdicts[i].Why = false, "one of the two is behind NAT, or a firewall that lets nothing in"
		}
	}
	return verdicts
}

// clearEnds are a peer's further addresses by which its tunnels may be in the clear.
func (d *Daemon) clearEnds(p tunnelPeer) []netip.Addr {
	return slices.DeleteFunc(slices.Clone(p.record.Underlay), func(a netip.Addr) bool {
		end := p.end
		end.Underlay = a
		return a == p.Underlay || slices.Contains(d.underlays(), a) || d.settings.mode().Encrypts() && encap.Untrusted(d.ownEnd(p), end) != ""
	})
}

// ownEnd is this host as policy knows it, for the link to a peer.
func (d *Daemon) ownEnd(p tunnelPeer) encap.End {
	return encap.End{Name: d.opts.Name, Underlay: cmp.Or(p.own, d.advertise()), Trusts: d.opts.Trusted, Can: d.can}
}

// tunnelPeer is another peer, and what it says of its tunnels.
type tunnelPeer struct {
	encap.Peer
	own    netip.Addr // this host's underlay address for the links to it; none without a family in common
	end    encap.End
	ports  map[string]uint16    // by transport
	slots  map[string]theirSlot // of WireGuard, by this host's device for it
	vertex topology.Peer        // what it says of its links
	record mesh.Body
	// connects tells that gossip has a connection to its underlay address.
	connects bool
	mtu      int // of its underlay, in bytes; 0 if it does not say
}

// tunnelPeers are the other peers with the prefixes that the address plan gives
// them, whatever they claim. A peer whose daemon does not answer keeps its
// routes: its kernel forwards without it.
func (d *Daemon) tunnelPeers() []tunnelPeer {
	var out []tunnelPeer
	own := d.ownLink()
	for _, p := range d.mesh.Peers() {
		if p.Self || p.State == mesh.StateDeparted {
			continue
		}
		peer := tunnelPeer{Peer: encap.Peer{ID: p.ID, Prefixes: d.plan.Prefixes(p.ID)}, ports: p.Record.Ports, mtu: p.Record.UnderlayMTU}
		if len(peer.Prefixes) == 0 {
			continue // nothing lies behind it
		}
		peer.Link = linkTo(own, p)
		peer.vertex = vertexOf(p, peer.Link)
		peer.slots = d.slotsOf(p.Record)
		var ok bool
		way, at, _ := d.mesh.Reached(p.ID)
		peer.connects = way == mesh.WayDirect
		if peer.own, peer.Underlay, ok = common(d.underlays(), underlaysOf(p.Record), at.Addr()); !ok && len(p.Record.Underlay) > 0 {
			peer.Underlay = p.Record.Underlay[0]
		}
		peer.record = p.Record
		// A next hop outside of the peer's own prefixes would let it take over
		// another peer's.
		if inAny(peer.Prefixes, p.Record.Gateway) {
			peer.VTEP = p.Record.Gateway
		}
		peer.end = encap.End{Name: d.nameIn(p), Underlay: peer.Underlay, Trusts: p.Record.Trusted, Can: p.Record.Transports}
		out = append(out, peer)
	}
	return out
}

func (d *Daemon) nameIn(p mesh.Peer) string {
	if p.Record.Name != "" {
		return p.Record.Name
	}
	return p.ID.String()
}

func inAny(prefixes []netip.Prefix, addr netip.Addr) bool {
	return slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return p.Contains(addr) })
}
