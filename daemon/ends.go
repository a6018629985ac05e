package daemon

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/weft-net/weft/encap"
	"github.com/weft-net/weft/encap/probe"
	"github.com/weft-net/weft/internal/nl"
	"github.com/weft-net/weft/mesh"
)

// ends are the two addresses of a link on the underlay, which are of one family.
type ends struct{ own, theirs netip.Addr }

// common are the ends of each family that this host and a peer both have, in the
// order of this host's: its first address of the family, and the peer's first that
// is not this host's own, too. The one by which gossip reaches it comes before the
// others.
func common(own, theirs []netip.Addr, reached netip.Addr) (out []ends) {
	if slices.Contains(theirs, reached) {
		theirs = append([]netip.Addr{reached}, theirs...)
	}
	for _, mine := range firsts(own) {
		if i := slices.IndexFunc(theirs, func(a netip.Addr) bool { return a.Is4() == mine.Is4() && !slices.Contains(own, a) }); i >= 0 {
			out = append(out, ends{mine, theirs[i]})
		}
	}
	return out
}

// At most so many ways of gossip are looked for at once, and again after a pause.
const (
	waysAtOnce = 3
	waysAgain  = time.Second
)

// findWays has gossip find the way to peers that it may not be able to connect to:
// packets go by the one that is likely, and only a stream shows which one works.
func (d *Daemon) findWays() {
	now := d.now()
	if now.Sub(d.waysFound) < waysAgain {
		return
	}
	d.waysFound = now
	confined, left := d.mesh.Reachability().Confined, waysAtOnce
	for _, p := range d.mesh.Peers() {
		if p.Self || p.State != mesh.StateAlive || !confined && !p.Record.Confined {
			continue
		}
		if _, _, known := d.mesh.Reached(p.ID); !known && left > 0 {
			left--
			d.mesh.Compare(p.ID)
		}
	}
}

// directTo is the address on the underlay by which gossip gets to a peer; before is
// where it did in an earlier process. The holder of the kernel's lock calls it.
func (d *Daemon) directTo(p mesh.Peer, before netip.Addr) netip.Addr {
	way, at, known := d.mesh.Reached(p.ID)
	if known && way != mesh.WayDirect {
		return netip.Addr{}
	}
	if l := d.decided[p.ID]; l != nil {
		before = l.direct
	}
	return lastDirect(at.Addr(), before, underlaysOf(p.Record))
}

// wasDirect is where a peer was reached, if an earlier process led its traffic by
// that device: other transports than WireGuard are for peers that gossip gets to.
func (d *Daemon) wasDirect(r mesh.Body, device string) netip.Addr {
	if ends := common(d.underlays(), underlaysOf(r), netip.Addr{}); len(ends) > 0 && device != "" && !slices.Contains(d.opts.tunnelDevices()[encap.TransportWireGuard], device) {
		return ends[0].theirs
	}
	return netip.Addr{}
}

// lastDirect is where gossip gets to a peer now, or, if it does not get there by any
// way, where it did before: a daemon that stops is no reason to move the tunnels to
// it. What the peer does not say any more is forgotten.
func lastDirect(now, before netip.Addr, says []netip.Addr) netip.Addr {
	if !now.IsValid() && slices.Contains(says, before) {
		return before
	}
	return now
}

// For so long nothing may come from a peer that has answered probes and does not any
// more. Where its daemon has stopped its kernel answers each probe, that nobody is
// there, or, if a firewall drops that, by a keepalive of WireGuard after ten seconds.
const (
	patienceWithAlive  = time.Second
	patienceWithFailed = 15 * time.Second
)

// patience is that with a peer's end of WireGuard, see encap.Way: alive tells that its
// daemon is heard by other ways.
func patience(q probe.Quality, alive bool) time.Duration {
	switch {
	case q.Works || q.RTT == 0:
		return 0
	case alive:
		return patienceWithAlive
	}
	return patienceWithFailed
}

// firsts are the first address of each family.
func firsts(list []netip.Addr) (out []netip.Addr) {
	for _, a := range list {
		if !hasFamily(out, a) {
			out = append(out, a)
		}
	}
	return out
}

// underlay is the device of each of this host's addresses, as far as they are on
// one for now.
type underlay map[netip.Addr]nl.Link

func (d *Daemon) devices() underlay {
	out := underlay{}
	for _, a := range d.underlays() {
		if dev, err := d.conn.LinkWithAddr(a); err == nil {
			out[a] = dev
		}
	}
	return out
}

// mtus are the MTU of the device of the first address, and those of the devices of all
// that are announced, if one of these is another.
func (u underlay) mtus(first netip.Addr, announced []netip.Addr) (of int, all []int) {
	of = u[first].MTU
	for _, a := range announced {
		all = append(all, u[a].MTU)
	}
	if !slices.ContainsFunc(all, func(n int) bool { return n != 0 && n != of }) {
		all = nil
	}
	return of, all
}

// mtuAt is what a peer says of the device of one of its addresses; 0 if it says
// nothing.
func mtuAt(r mesh.Body, a netip.Addr) int {
	if i := slices.Index(r.Underlay, a); i >= 0 && i < len(r.MTUs) {
		return cmp.Or(r.MTUs[i], r.UnderlayMTU)
	}
	return r.UnderlayMTU
}

// towards are the ends of a link with that own address from whose device the route to
// the other end leads, the first of them, if there is one: on a host with several
// networks that is the one of which the other end, too, sees it to be.
func (d *Daemon) towards(e ends, u underlay) (ends, error) {
	own := slices.DeleteFunc(slices.Clone(d.underlays()), func(a netip.Addr) bool { return a.Is4() != e.own.Is4() })
	if len(own) < 2 {
		return e, nil
	}
	hop, err := d.conn.NextHop(e.theirs)
	if errors.Is(err, nl.ErrNotFound) {
		return e, nil
	}
	return e.from(own, u, hop.Device), err
}

// from is what towards says of a route by a device.
func (e ends) from(own []netip.Addr, u underlay, device int) ends {
	for _, a := range own {
		if dev, ok := u[a]; ok && dev.Index == device {
			e.own = a
			break
		}
	}
	return e
}

// instances are this host's ends for a transport: of WireGuard its slots, which
// take both families, of VXLAN one for each family, and the underlay's devices
// for direct.
func (d *Daemon) instances(slots []encap.Slot, transport string, u underlay) (out []encap.Instance) {
	devices, port := d.opts.tunnelDevices()[transport], d.settings.port(transport)
	switch transport {
	case encap.TransportWireGuard:
		for index, device := range devices {
			if s, ok := slotAt(slots, index); ok {
				out = append(out, encap.Instance{Transport: transport, Device: device, Port: d.settings.slotPort(index, d.opts.Port), Key: s.Key})
			}
		}
	case encap.TransportVXLAN:
		for index, addr := range firsts(d.underlays()) {
			out = append(out, encap.Instance{Transport: transport, Device: devices[index], Port: port, Underlay: addr})
		}
	case encap.TransportDirect:
		for _, addr := range d.underlays() {
			device := u[addr].Name
			i := slices.IndexFunc(out, func(i encap.Instance) bool { return i.Device == device })
			switch {
			case i >= 0 && !out[i].Also.IsValid() && out[i].Underlay.Is4() != addr.Is4():
				out[i].Also = addr
			case i >= 0:
			case device != "":
				out = append(out, encap.Instance{Transport: transport, Device: device, Underlay: addr})
			}
		}
	}
	return out
}

// unused are those tunnels that this host could have and that are none of these.
func (d *Daemon) unused(held []encap.Instance) (out []encap.Instance) {
	for transport, devices := range d.opts.tunnelDevices() {
		for _, device := range devices {
			if !slices.ContainsFunc(held, func(i encap.Instance) bool { return i.Device == device }) {
				out = append(out, encap.Instance{Transport: transport, Device: device})
			}
		}
	}
	return out
}

// endsOn are those of the ends that a link has on one of this host's instances.
func endsOn(i encap.Instance, allowed []ends, u underlay) (ends, bool) {
	for _, e := range allowed {
		switch i.Transport {
		case encap.TransportVXLAN:
			if e.own != i.Underlay {
				continue
			}
		case encap.TransportDirect:
			if u[e.own].Name != i.Device {
				continue
			}
		}
		return e, true
	}
	return ends{}, false
}

// judge is what policy says of the link to a peer: of each transport whether it is
// allowed, and between which ends. Without a family in common there is none, and
// WireGuard alone finds its way through NAT; forbidden tells that no transport is
// allowed whatever stands between the two.
func (d *Daemon) judge(p tunnelPeer, u underlay) (verdicts []encap.Verdict, allowed map[string][]ends, forbidden bool, err error) {
	own := encap.End{Name: d.opts.Name, Underlay: d.advertise(), Trusts: d.opts.Trusted, Can: d.can}
	if len(p.ends) == 0 {
		verdicts = encap.Policy(d.settings.mode(), own, p.end, false)
		forbidden = !slices.ContainsFunc(verdicts, isAllowed)
		for i := range verdicts {
			switch {
			case slices.Contains(d.underlays(), p.Underlay):
				verdicts[i].Allowed, verdicts[i].Why = false, fmt.Sprintf("%s is at %s, as this host is, and nobody has told yet where else it is seen", p.end.Name, p.Underlay)
			case p.Underlay.IsValid():
				verdicts[i].Allowed, verdicts[i].Why = false, fmt.Sprintf("%s has %s on the underlay, and this host %s, which are of no common family", p.end.Name, p.Underlay, d.advertise())
			}
		}
		return verdicts, nil, forbidden, nil
	}
	allowed, forbidden = map[string][]ends{}, true
	for n, e := range p.ends {
		near, err := d.towards(e, u)
		if err != nil {
			return nil, nil, false, err
		}
		there := p.end
		own.Underlay, there.Underlay = near.own, e.theirs
		onSegment, stray := false, ""
		if dev, ok := u[near.own]; ok && (d.settings.mode() == encap.ModeDirect || encap.Untrusted(own, there) == "") {
			if onSegment, err = encap.OnSegment(d.conn, dev.Name, e.theirs); err != nil && !errors.Is(err, nl.ErrNotFound) {
				return nil, nil, false, err
			}
		}
		direct := encap.Policy(d.settings.mode(), own, there, onSegment)
		own.Underlay = e.own
		if d.settings.mode().Encrypts() {
			if stray = p.mistrusted(own, e); stray == "" {
				if stray, err = d.straysTo(e, u); err != nil {
					return nil, nil, false, err
				}
			}
		}
		for i, v := range encap.Policy(d.settings.mode(), own, there, onSegment) {
			at := e
			switch {
			case v.Transport == encap.TransportDirect:
				v, at = direct[i], near
			case v.Transport == encap.TransportVXLAN && v.Allowed && stray != "":
				v.Allowed, v.Why = false, stray
			}
			forbidden = forbidden && !v.Allowed
			if v.Allowed && p.walled && v.Transport != encap.TransportWireGuard {
				v.Allowed, v.Why = false, "one of the two is behind NAT, or a firewall that lets nothing in"
			}
			if n == 0 {
				verdicts = append(verdicts, v)
			} else if v.Allowed && !verdicts[i].Allowed {
				verdicts[i] = v
			}
			if v.Allowed {
				allowed[v.Transport] = append(allowed[v.Transport], at)
			}
		}
	}
	return verdicts, allowed, forbidden, nil
}

// mistrusted says why the tunnels in the clear of two ends may not be; "" if they may.
// A tunnel's packets come from the first address of its host, by whichever of them the
// host is reached. So both ends look at the first addresses of both as well, and come to
// the same answer.
func (p tunnelPeer) mistrusted(own encap.End, e ends) string {
	there := p.end
	there.Underlay = e.theirs
	why := encap.Untrusted(own, there)
	for _, a := range firsts(p.tunnelsAt) {
		if there.Underlay = a; why == "" && a.Is4() == e.own.Is4() {
			why = encap.Untrusted(own, there)
		}
	}
	return why
}

func isAllowed(v encap.Verdict) bool { return v.Allowed }

// clearEnds are a peer's further addresses by which its tunnels may be in the clear.
func (d *Daemon) clearEnds(p tunnelPeer) (out []netip.Addr) {
	own := encap.End{Name: d.opts.Name, Trusts: d.opts.Trusted, Can: d.can}
	for _, a := range p.all {
		there := p.end
		there.Underlay = a
		for _, mine := range firsts(d.underlays()) {
			own.Underlay = mine
			if mine.Is4() == a.Is4() && !slices.Contains(d.underlays(), a) && (!d.settings.mode().Encrypts() || encap.Untrusted(own, there) == "") {
				out = append(out, a)
			}
		}
	}
	return out
}
