package daemon

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/weft-net/weft/api"
	"github.com/weft-net/weft/internal/nl"
)

// anywhere are addresses of no host (RFC 5737, RFC 3849), by family: nothing is
// sent to them, only the route is looked up.
var anywhere = []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")}

// underlays are this host's addresses by which the others reach it, the first
// choice first.
func (d *Daemon) underlays() []netip.Addr { return *d.underlay.Load() }

// advertise is the first of them.
func (d *Daemon) advertise() netip.Addr { return d.underlays()[0] }

// announced are the addresses by which the others are told to reach this host: its
// own, and those that a router forwards to it, in the order in which they were given.
func (d *Daemon) announced() []netip.Addr {
	own := d.underlays()
	if len(d.forwarded) == 0 {
		return own
	}
	var out []netip.Addr
	for _, a := range d.opts.advertised() {
		if slices.Contains(own, a) || slices.Contains(d.forwarded, a) {
			out = append(out, a)
		}
	}
	return append(out, slices.DeleteFunc(slices.Clone(own), func(a netip.Addr) bool { return slices.Contains(out, a) })...)
}

func (d *Daemon) isOwn(a netip.Addr) bool { return slices.Contains(d.underlays(), a) }

// gossipAt is where the others are told first that this host's gossip is.
func (d *Daemon) gossipAt() netip.AddrPort { return netip.AddrPortFrom(d.announced()[0], d.opts.Port) }

// isAt tells whether the others reach this host's gossip at that address, too.
func (d *Daemon) isAt(at string) bool {
	return slices.ContainsFunc(d.announced(), func(a netip.Addr) bool { return netip.AddrPortFrom(a, d.opts.Port).String() == at })
}

// also is the first of another family than advertise, else advertise.
func (d *Daemon) also() netip.Addr {
	for _, a := range d.underlays() {
		if a.Is4() != d.advertise().Is4() {
			return a
		}
	}
	return d.advertise()
}

// underlayAddresses are this host's own that the other hosts reach it by: the ones
// given, in their order, else at most one of each family and IPv4 first: the one by
// which this host reaches the peers to be joined, else the one of the default
// route, else its only one. Forwarded are those that were given and are on none of its
// interfaces.
func (d *Daemon) underlayAddresses() (own, forwarded []netip.Addr, err error) {
	local, err := d.hostAddresses()
	if err != nil {
		return nil, nil, err
	}
	for _, want := range d.opts.advertised() {
		if local[want] != "" {
			own = append(own, want)
			continue
		}
		// A router that forwards is elsewhere; what is on a segment of this host is
		// another host's.
		near, err := d.onOwnSegment(want)
		if err != nil {
			return nil, nil, err
		}
		if near {
			return nil, nil, &api.Error{Code: api.CodeInvalid, Message: fmt.Sprintf("address %s is not on any interface of this host", want),
				Fix: "give one that `ip address` shows to --advertise, auto for by the routes, or the outer one of a router that forwards weft's ports to this host"}
		}
		forwarded = append(forwarded, want)
	}
	if len(own) > 0 {
		return own, forwarded, nil
	}
	inner, err := d.inner()
	if err != nil {
		return nil, nil, err
	}
	if own = d.foundAddresses(local, inner); len(own) > 0 {
		d.homes.settle(own, local, inner)
		return own, forwarded, nil
	}
	var names []string
	for a, dev := range local {
		names = append(names, fmt.Sprintf("%s (%s)", a, dev))
	}
	slices.Sort(names)
	return nil, nil, &api.Error{Code: api.CodeInvalid,
		Message: fmt.Sprintf("this host has no default route and %d addresses: %s", len(local), orNone(names)),
		Fix:     "say by which one the other hosts reach it: --advertise ADDRESS"}
}

// foundAddresses are those that nobody has given. One on an inner bridge that no route
// leads by is the last resort, of a host that never had another.
func (d *Daemon) foundAddresses(local map[netip.Addr]string, inner map[string]bool) (out []netip.Addr) {
	for _, unknown := range anywhere {
		if a, ok := d.underlayLike(unknown, local, inner); ok {
			out = append(out, a)
		}
	}
	for _, unknown := range anywhere {
		if a, ok := only(unknown.Is4(), local, nil); ok && len(out) == 0 && len(d.homes) == 0 {
			out = append(out, a)
		}
	}
	return out
}

// renewUnderlay follows this host's addresses on the underlay. Those that were
// given stay, as long as they are there: one that is not is left out, unless none
// is there. While nothing is found it stays as it was. It notes the untrusted devices
// as well. All links are looked at only now and then, and when an address is gone.
func (d *Daemon) renewUnderlay() {
	gone := func(a netip.Addr) bool {
		_, err := d.conn.LinkWithAddr(a)
		return errors.Is(err, nl.ErrNotFound)
	}
	if d.now().Sub(d.underlayAt) < period && !slices.ContainsFunc(d.underlays(), gone) {
		return
	}
	d.underlayAt = d.now()
	local, err := d.hostAddresses()
	d.note("underlay", err)
	if err != nil {
		return
	}
	inner, err := d.inner()
	if d.note("underlay", err); err != nil {
		return
	}
	d.kernel.Lock()
	d.untrusted = untrustedDevices(local, inner, d.opts.Trusted)
	d.kernel.Unlock()
	was := d.underlays()
	d.homes.settle(was, local, inner)
	now := renewed(d.opts.advertised(), d.forwarded, local, func() []netip.Addr {
		found := d.foundAddresses(local, inner)
		return keepOrder(was, local, found, func(was, now netip.Addr) bool { return d.homes.leaves(was, now, local, inner) })
	})
	if len(now) == 0 || slices.Equal(now, was) {
		return
	}
	d.log.Info("this host's addresses on the underlay have changed", "were", was, "are", now)
	d.kernel.Lock() // a pass sees one and the same list
	d.underlay.Store(&now)
	d.kernel.Unlock()
	d.heardAt.clear()
	d.mesh.Move(d.gossipAt(), now)
}

// renewed are those of the addresses given that are on an interface, or, where
// there are none or routers had them all, those found. One that was on none at first may be by now: its
// interface has come up since.
func renewed(given, forwarded []netip.Addr, local map[netip.Addr]string, found func() []netip.Addr) []netip.Addr {
	now := slices.DeleteFunc(slices.Clone(given), func(a netip.Addr) bool { return local[a] == "" })
	if len(now) == 0 && len(given) == len(forwarded) {
		return found()
	}
	return now
}

// keepOrder keeps each address that is still there: a second address on an
// interface, or another route or none, is no reason to move, unless it leaves for one
// of those. Found are those that would be taken now, at most one of each family; IPv4
// comes first.
func keepOrder(was []netip.Addr, local map[netip.Addr]string, found []netip.Addr, leaves func(was, now netip.Addr) bool) []netip.Addr {
	there := slices.DeleteFunc(slices.Clone(was), func(a netip.Addr) bool {
		return local[a] == "" || slices.ContainsFunc(found, func(now netip.Addr) bool { return leaves(a, now) })
	})
	out := firsts(slices.Concat(there, found))
	slices.SortFunc(out, netip.Addr.Compare)
	return out
}

// underlayLike is this host's address of the family of another.
func (d *Daemon) underlayLike(other netip.Addr, local map[netip.Addr]string, inner map[string]bool) (netip.Addr, bool) {
	var probes []netip.Addr
	for _, target := range slices.Concat(d.opts.Founders, d.opts.Join) {
		if at, ok := literal(target, d.opts.Port); ok && at.Addr().Is4() == other.Is4() {
			probes = append(probes, at.Addr())
		}
	}
	for _, probe := range append(probes, other) {
		if _, src, err := d.conn.RouteTo(probe); err == nil && local[src] != "" {
			return src, true
		}
	}
	return only(other.Is4(), local, inner)
}

func orNone(list []string) string {
	if len(list) == 0 {
		return "none"
	}
	return strings.Join(list, ", ")
}

// onOwnSegment tells whether an address is in a network that an interface is in.
func (d *Daemon) onOwnSegment(a netip.Addr) (bool, error) {
	links, err := d.conn.Links()
	if err != nil {
		return false, err
	}
	for _, l := range links {
		prefixes, err := d.conn.Addrs(l)
		if err != nil {
			return false, err
		}
		if inAny(prefixes, a) {
			return true, nil
		}
	}
	return false, nil
}

// inner are this host's inner bridges.
func (d *Daemon) inner() (map[string]bool, error) {
	links, err := d.conn.Links()
	return innerBridges(links), err
}

// hostAddresses are the host's global addresses with their devices, without
// those on weft's own.
func (d *Daemon) hostAddresses() (map[netip.Addr]string, error) {
	links, err := d.conn.Links()
	if err != nil {
		return nil, err
	}
	out := map[netip.Addr]string{}
	for _, l := range links {
		if l.IsWeft() {
			continue
		}
		addrs, err := d.conn.Addrs(l)
		if err != nil {
			return nil, err
		}
		for _, a := range addrs {
			if isGlobal(a.Addr()) {
				out[a.Addr()] = l.Name
			}
		}
	}
	return out, nil
}
