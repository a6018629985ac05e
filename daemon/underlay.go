package daemon

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/weft-net/weft/api"
)

// anywhere are addresses of no host (RFC 5737, RFC 3849), by family: nothing is
// sent to them, only the route is looked up.
var anywhere = []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")}

// underlayAddresses are those that the other hosts reach this one by, at most one
// of each family and IPv4 first: the ones given, else for each family the one by
// which this host reaches the peers to be joined, else the one of the default
// route, else its only one.
func (d *Daemon) underlayAddresses() ([]netip.Addr, error) {
	local, err := d.hostAddresses()
	if err != nil {
		return nil, err
	}
	if given := d.opts.advertised(); len(given) > 0 {
		for _, want := range given {
			if _, ok := local[want]; !ok {
				return nil, &api.Error{Code: api.CodeInvalid, Message: fmt.Sprintf("address %s is not on any interface of this host", want),
					Fix: "give one that `ip address` shows to --advertise"}
			}
		}
		return given, nil
	}
	var out []netip.Addr
	for _, unknown := range anywhere {
		if a, ok := d.underlayLike(unknown, local); ok {
			out = append(out, a)
		}
	}
	if len(out) > 0 {
		return out, nil
	}
	var names []string
	for a, dev := range local {
		names = append(names, fmt.Sprintf("%s (%s)", a, dev))
	}
	slices.Sort(names)
	return nil, &api.Error{Code: api.CodeInvalid,
		Message: fmt.Sprintf("this host has no default route and %d addresses: %s", len(local), orNone(names)),
		Fix:     "say by which one the other hosts reach it: --advertise ADDRESS"}
}

// underlayLike is this host's address of the family of another.
func (d *Daemon) underlayLike(other netip.Addr, local map[netip.Addr]string) (netip.Addr, bool) {
	var probes, same []netip.Addr
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
	for a := range local {
		if a.Is4() == other.Is4() {
			same = append(same, a)
		}
	}
	if len(same) != 1 {
		return netip.Addr{}, false
	}
	return same[0], true
}

func orNone(list []string) string {
	if len(list) == 0 {
		return "none"
	}
	return strings.Join(list, ", ")
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
			if !a.Addr().IsLoopback() && !a.Addr().IsLinkLocalUnicast() {
				out[a.Addr()] = l.Name
			}
		}
	}
	return out, nil
}
