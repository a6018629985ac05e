package daemon

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/weft-net/weft/internal/nl"
)

// A host trusts networks by their addresses, and its routes say by which device packets
// leave. Where the device of its trusted address goes down, the address may stay, and the
// packets take the default route, into whatever network that is.

// exit is a device by which packets may leave, and its addresses.
type exit struct {
	nl.Link
	addrs []netip.Prefix
}

// leads tells whether a device may lead into a network that is trusted: one of its
// addresses is in one, or it has none that says where it leads. Uplinks that are not
// numbered are so, where the host's address is on the loopback device.
func leads(addrs []netip.Addr, trusted []netip.Prefix) bool {
	return len(addrs) == 0 || slices.ContainsFunc(addrs, func(a netip.Addr) bool { return inAny(trusted, a) })
}

// astray says why packets from an own address, which is trusted, would leave by another
// network; "" if they do not. Home is the address's device, and by are those by which
// the routes lead.
func astray(own, theirs netip.Addr, home nl.Link, by []exit, trusted []netip.Prefix) string {
	if !home.Up {
		return fmt.Sprintf("%s, which has %s, is down", home.Name, own)
	}
	for _, w := range by {
		var addrs []netip.Addr
		for _, p := range w.addrs {
			if isGlobal(p.Addr()) {
				addrs = append(addrs, p.Addr())
			}
		}
		if w.Index != home.Index && !leads(addrs, trusted) {
			return fmt.Sprintf("the route to %s is by %s, none of whose addresses is in a trusted subnet of this host", theirs, w.Name)
		}
	}
	return ""
}

// straysTo is astray for the ends of a link, by the routes for now.
func (d *Daemon) straysTo(e ends, u underlay) (string, error) {
	home, ok := u[e.own]
	if !ok {
		return "", nil // nothing leaves
	}
	indexes, err := d.conn.DevicesTo(e.theirs, e.own)
	if err != nil && !errors.Is(err, nl.ErrNotFound) {
		return "", err
	}
	var by []exit
	for _, index := range indexes {
		if index == home.Index {
			continue
		}
		link, err := d.conn.LinkAt(index)
		if errors.Is(err, nl.ErrNotFound) {
			continue
		}
		if err != nil {
			return "", err
		}
		addrs, err := d.conn.Addrs(link)
		if err != nil {
			return "", err
		}
		by = append(by, exit{link, addrs})
	}
	return astray(e.own, e.theirs, home, by, d.opts.Trusted), nil
}

// untrustedDevices are those that lead into no network that is trusted. Inner bridges
// lead nowhere.
func untrustedDevices(local map[netip.Addr]string, inner map[string]bool, trusted []netip.Prefix) (out []string) {
	addrs := map[string][]netip.Addr{}
	for a, dev := range local {
		if !inner[dev] {
			addrs[dev] = append(addrs[dev], a)
		}
	}
	for _, dev := range slices.Sorted(maps.Keys(addrs)) {
		if !leads(addrs[dev], trusted) {
			out = append(out, dev)
		}
	}
	return out
}

func isGlobal(a netip.Addr) bool { return !a.IsLoopback() && !a.IsLinkLocalUnicast() }
