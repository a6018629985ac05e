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
	six      encap.Choice // for packets in IPv6, which not every path takes
	verdicts []encap.Verdict
	waits    bool   // another path may be taken, or a way found narrow, by and by
	works    bool   // the chosen one
	reason   string // why there is none; "" if there is
	// slower is since when a faster transport is allowed than is used; the zero
	// value if there is none.
	slower time.Time
	// heard is where it is heard, by the device with which its kernel holds a session.
	heard map[string]netip.AddrPort
	paths []encap.Path // those that are allowed and possible
	// forbidden tells that policy alone leaves no path: what one of the ends wants
	// encrypted does not go in the clear because others would carry it.
	forbidden bool
	// direct is tunnelPeer's.
	direct netip.Addr
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

// planLinks decides which transports every link may use, and which one it does.
// The holder of the kernel's lock calls it.
func (d *Daemon) planLinks() (linkPlan, error) {
	u := d.devices()
	adopted := d.adopted()
	carried := adopted.Carriers
	quality := d.qualities()
	slots := d.keys.list()
	needed := map[string]bool{}
	for _, i := range d.instances(slots, d.baseTransport(), u) {
		needed[i.Device] = true
		if i.Transport != encap.TransportWireGuard {
			break // of those of another family nothing is needed yet
		}
	}
	links := map[uuid.UUID]*link{}
	var plan linkPlan
	peers, six := d.tunnelPeers(carried), d.ipv6Off() == ""
	narrow := map[netip.Addr]encap.Narrow{}
	for _, p := range peers {
		verdicts, allowed, forbidden, err := d.judge(p, u)
		if err != nil {
			return plan, err
		}
		l := &link{verdicts: verdicts, forbidden: forbidden, direct: p.direct}
		links[p.ID] = l
		remote := encap.Remote{Peer: p.Peer, Ways: map[string]encap.Way{}, Narrow: map[netip.Addr]int{}}
		guarded := bridge.GuardedPeer{ID: p.ID, Ends: d.clearEnds(p), VTEP: encap.VTEPMAC(p.ID)}
		settles := false
		for _, v := range l.verdicts {
			var held []encap.Instance
			for _, i := range d.instances(slots, v.Transport, u) {
				at, ok := endsOn(i, allowed[v.Transport], u)
				if !ok {
					continue
				}
				needed[i.Device] = true
				held = append(held, i)
				switch v.Transport {
				case encap.TransportDirect:
					guarded.Direct = true
				case encap.TransportVXLAN:
					guarded.VXLAN, guarded.Ends = true, append(guarded.Ends, at.theirs)
				}
				way, ok := d.way(p, i, at, u, knownMTU(p, i, quality, adopted))
				if !ok {
					continue
				}
				n := d.narrowed(narrow, adopted, i, at, u, way.MTU, six)
				if n != (encap.Narrow{}) {
					narrow[at.theirs], settles = n, settles || n.Pending()
				}
				if n.MTU > 0 && d.mayBeOutside(at.theirs) {
					way.MTU = min(cmp.Or(way.MTU, n.MTU), encap.Fits(i.Transport, at.own, n.MTU))
					remote.Narrow[at.theirs] = n.MTU
				}
				if v.Transport == encap.TransportWireGuard {
					way.Patience = patience(quality[probe.Path{Peer: p.ID, Device: i.Device}], p.alive)
				}
				remote.Ways[i.Device] = way
			}
			for _, i := range d.preferred(slots, p, held) {
				at, _ := endsOn(i, allowed[v.Transport], u)
				l.paths = append(l.paths, encap.Path{Device: i.Device, Transport: v.Transport})
				if p.VTEP.IsValid() {
					plan.targets = append(plan.targets, probe.Target{Path: probe.Path{Peer: p.ID, Device: i.Device}, Addr: p.VTEP, MTU: d.most(p, i, at, u), Known: knownMTU(p, i, quality, adopted)})
				}
			}
		}
		d.decide(p, l, l.paths, carried, quality)
		d.decideIPv6(p, l, slices.DeleteFunc(slices.Clone(l.paths), func(q encap.Path) bool {
			return q.Transport == encap.TransportDirect && !encap.DirectTakesIPv6(remote.Ways[q.Device].Underlay)
		}), carried, quality)
		l.waits = l.waits || settles
		remote.Chosen, remote.ChosenIPv6 = l.choice.Device, l.six.Device
		plan.peers = append(plan.peers, remote)
		plan.guarded = append(plan.guarded, guarded)
	}
	d.detour(peers, links, quality, &plan)
	for i, p := range plan.peers {
		plan.guarded[i].Prefixes = p.Carries()
		d.logDetour(peers[i], d.decided[p.ID], links[p.ID])
	}
	d.decided, d.narrow = links, narrow
	for _, transport := range []string{encap.TransportDirect, encap.TransportVXLAN, encap.TransportWireGuard} {
		for _, i := range d.instances(slots, transport, u) {
			switch {
			case needed[i.Device]:
				plan.instances = append(plan.instances, i)
			case transport == encap.TransportDirect:
				plan.idle = append(plan.idle, i)
			}
		}
	}
	plan.idle = append(plan.idle, d.unused(plan.instances)...)
	return plan, d.neighbours(u, peers, &plan)
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
	mine := ofPeer(p, paths, quality)
	l.choice = encap.Choose(paths, mine, before, now)
	l.works = mine[l.choice.Device].Works
	l.waits = waits(paths, l.choice.Path, mine)
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

// narrowed is what is known of the way over the underlay between two ends, after a
// look at what fits into a tunnel on it: 0 for all that its device takes. What was
// seen of the way before in this pass counts. Without IPv6 (six) there is nothing to see.
func (d *Daemon) narrowed(now map[netip.Addr]encap.Narrow, adopted encap.Adopted, i encap.Instance, at ends, u underlay, fits int, six bool) encap.Narrow {
	// One device for all transports: direct routes may be by another than the tunnels.
	first := slices.IndexFunc(d.underlays(), func(a netip.Addr) bool { return a.Is4() == at.own.Is4() })
	overhead, device := encap.Overhead(i.Transport, at.own), u[d.underlays()[first]].MTU
	before, seen := now[at.theirs]
	if !seen {
		before, seen = d.narrow[at.theirs]
	}
	if !seen {
		before = encap.AdoptNarrow(adopted.Narrow[at.theirs], device, d.now())
	}
	if i.Transport == encap.TransportDirect || d.opts.MTU != 0 || fits+overhead >= device || !six {
		fits = 0
	}
	return before.Next(fits, overhead, device, d.now())
}

// ofPeer are the qualities of these paths to a peer, by device.
func ofPeer(p tunnelPeer, paths []encap.Path, quality map[probe.Path]probe.Quality) map[string]probe.Quality {
	out := map[string]probe.Quality{}
	for _, path := range paths {
		out[path.Device] = quality[probe.Path{Peer: p.ID, Device: path.Device}]
	}
	return out
}

// waits tells whether another path works and is faster than the chosen one, or
// that does not work.
func waits(paths []encap.Path, chosen encap.Path, quality map[string]probe.Quality) bool {
	return slices.ContainsFunc(paths, func(q encap.Path) bool {
		return quality[q.Device].Works && (!quality[chosen.Device].Works || slices.Index(paths, q) < slices.Index(paths, chosen))
	})
}

// decideIPv6 chooses one of those paths to a peer that take IPv6: the one that is
// chosen for all, if it is one of them.
func (d *Daemon) decideIPv6(p tunnelPeer, l *link, paths []encap.Path, carried map[netip.Prefix]string, quality map[probe.Path]probe.Quality) {
	if l.six = l.choice; len(paths) == 0 || slices.Contains(paths, l.choice.Path) {
		return
	}
	before, mine := encap.Choice{}, ofPeer(p, paths, quality)
	if old, known := d.decided[p.ID]; known {
		before = old.six
	} else if i := slices.IndexFunc(paths, func(q encap.Path) bool { return carried[d.ipv6().Prefix(p.Prefixes[0])] == q.Device }); i >= 0 {
		before = encap.Choice{Path: paths[i], At: d.now()}
	}
	l.six = encap.Choose(paths, mine, before, d.now())
	l.waits = l.waits || waits(paths, l.six.Path, mine)
	if l.six.Path != before.Path {
		d.log.Info("link changed", "family", "IPv6", "peer", p.end.Name, "from", before.Transport, "to", l.six.Transport, "device", l.six.Device, "why", l.six.Why)
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

// adopted is what an earlier process has left, before this one has decided anything.
func (d *Daemon) adopted() encap.Adopted {
	if d.decided != nil {
		return encap.Adopted{}
	}
	adopted, err := d.tunnels.Adopt()
	if err != nil {
		d.log.Warn("what an earlier daemon chose is not known", "err", err)
	}
	return adopted
}

// knownMTU is the largest packet that a path to a peer is known to take, in bytes, 0 if
// nothing is known: what was measured, or what an earlier process found. Traffic
// takes a new key before its path is measured, so what another of WireGuard's takes,
// which goes the same way, counts until then.
func knownMTU(p tunnelPeer, i encap.Instance, quality map[probe.Path]probe.Quality, adopted encap.Adopted) (mtu int) {
	if q, measured := quality[probe.Path{Peer: p.ID, Device: i.Device}]; measured {
		return q.MTU
	}
	if mtu = adopted.MTUs[encap.Hop{Dst: p.Prefixes[0], Device: i.Device}]; mtu != 0 || i.Transport != encap.TransportWireGuard {
		return mtu
	}
	for device := range p.slots {
		if other := quality[probe.Path{Peer: p.ID, Device: device}].MTU; other != 0 && (mtu == 0 || other < mtu) {
			mtu = other
		}
	}
	return mtu
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
// say of their underlay. A peer's tunnels are made for the device of its first address.
func (d *Daemon) most(p tunnelPeer, i encap.Instance, at ends, u underlay) int {
	mtu := u[at.own].MTU
	most := encap.Fits(i.Transport, at.own, mtu)
	if d.opts.MTU != 0 {
		most = min(most, d.opts.MTU)
	}
	there := p.record.UnderlayMTU
	if i.Transport == encap.TransportDirect {
		there = mtuAt(p.record, at.theirs)
	}
	if there > 0 && there < mtu {
		most = min(most, encap.FitsThere(i.Transport, at.theirs, there))
	}
	return max(leastPath, most)
}

// way is a peer's end of a path, if it has one. What the path takes, of which found is
// known, is said only if it is less than what the device does.
func (d *Daemon) way(p tunnelPeer, i encap.Instance, at ends, u underlay, found int) (w encap.Way, ok bool) {
	w = encap.Way{Port: p.ports[i.Transport], Underlay: at.theirs}
	if i.Transport == encap.TransportWireGuard {
		there, ok := p.slots[i.Device]
		if !ok {
			return w, false
		}
		w.Port, w.Key = there.port, there.key
		w.Endpoints = d.endpointsOf(p, cmp.Or(there.port, i.Port))
	}
	// What the device does, which ends at an address of one family.
	own := d.most(tunnelPeer{}, i, ends{own: cmp.Or(i.Underlay, d.advertise())}, u)
	mtu := d.most(p, i, at, u)
	if found >= leastPath {
		mtu = min(mtu, found)
	}
	if mtu < own {
		w.MTU = mtu
	}
	return w, true
}

// tunnelPeer is another peer, and what it says of its tunnels.
type tunnelPeer struct {
	encap.Peer
	ends []ends       // of each family that this host has in common with it
	all  []netip.Addr // on the underlay
	// tunnelsAt are those of them that are its own, the first of each family being that
	// by which its tunnels send.
	tunnelsAt []netip.Addr
	end       encap.End            // of the first family
	ports     map[string]uint16    // by transport
	slots     map[string]theirSlot // of WireGuard, by this host's device for it
	vertex    topology.Peer        // what it says of its links
	record    mesh.Body
	// direct is its underlay address by which gossip gets to it, the zero value if it
	// gets there otherwise; walled tells that one of the two is behind NAT and there
	// is none.
	direct netip.Addr
	walled bool
	alive  bool // its daemon answers gossip
}

// tunnelPeers are the other peers with the prefixes that the address plan gives
// them, whatever they claim. A peer whose daemon does not answer keeps its
// routes: its kernel forwards without it. Carried is by which device an earlier
// process led the traffic.
func (d *Daemon) tunnelPeers(carried map[netip.Prefix]string) []tunnelPeer {
	var out []tunnelPeer
	own, confined, peers := d.ownLink(), d.mesh.Reachability().Confined, d.mesh.Peers()
	known := directory(peers)
	for _, p := range peers {
		if p.Self || p.State == mesh.StateDeparted {
			continue
		}
		peer := tunnelPeer{Peer: encap.Peer{ID: p.ID, Prefixes: d.plan.Prefixes(p.ID)}, ports: p.Record.Ports, alive: p.State == mesh.StateAlive}
		if len(peer.Prefixes) == 0 {
			continue // nothing lies behind it
		}
		peer.Link = linkTo(own, p)
		peer.vertex = vertexOf(p, peer.Link, known)
		peer.slots = d.slotsOf(p.Record)
		peer.direct = d.directTo(p, d.wasDirect(p.Record, carried[peer.Prefixes[0]]))
		peer.walled = (p.Record.Confined || confined) && !peer.direct.IsValid()
		peer.tunnelsAt = slices.DeleteFunc(slices.Clone(p.Record.Underlay), func(a netip.Addr) bool { return slices.Contains(p.Record.Forwarded, a) })
		peer.all, peer.ends = p.Record.Underlay, common(d.underlays(), underlaysOf(p.Record), peer.direct)
		switch {
		case len(peer.ends) > 0:
			peer.Underlay = peer.ends[0].theirs
		case len(peer.all) > 0:
			peer.Underlay = peer.all[0]
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
