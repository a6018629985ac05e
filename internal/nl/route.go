package nl

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// RouteProtocol marks weft's routes in the kernel's tables (`ip route show
// proto 87`): 0x57 is W, and no daemon in iproute2's rt_protos has it.
const RouteProtocol = 0x57

// Route is a route of the main table, of either family. It is comparable: two
// equal routes are the same route.
type Route struct {
	Dst netip.Prefix
	// Device is the link's index; 0 for an unreachable route.
	Device int
	// Via is the next hop, reached on the device without a look-up of its own
	// (onlink); the zero value for a destination that is on the link itself. It
	// is of the destination's family, or of IPv6.
	Via netip.Addr
	// Src is the address that the host itself prefers towards Dst.
	Src netip.Addr
	// MTU in bytes; 0 for the device's.
	MTU int
	// Metric: the lower is preferred among routes to the same destination; 0 is
	// the least.
	Metric int
	// Unreachable makes a route that refuses (ICMP host unreachable).
	Unreachable bool
}

// leastMetric6 stands for a metric of 0 in IPv6, of which the kernel would make
// 1024: that is more than those of routes that stand by.
const leastMetric6 = 1

func (r Route) toKernel() *netlink.Route {
	out := &netlink.Route{
		Dst: toIPNet(r.Dst), LinkIndex: r.Device, Protocol: RouteProtocol, Priority: r.Metric, MTU: r.MTU,
		Table: unix.RT_TABLE_MAIN, Type: unix.RTN_UNICAST,
	}
	switch {
	case r.Unreachable:
		out.Type = unix.RTN_UNREACHABLE
	case r.Via.IsValid():
		if r.Via.Is6() && r.Dst.Addr().Is4() {
			out.Via = &netlink.Via{AddrFamily: unix.AF_INET6, Addr: r.Via.AsSlice()}
		} else {
			out.Gw = r.Via.AsSlice()
		}
		out.Flags = int(netlink.FLAG_ONLINK)
	default:
		out.Scope = netlink.SCOPE_LINK
	}
	if r.Src.IsValid() {
		out.Src = r.Src.AsSlice()
	}
	if r.Dst.Addr().Is6() && r.Metric == 0 {
		out.Priority = leastMetric6
	}
	return out
}

func routeFromKernel(k netlink.Route) (Route, bool) {
	dst := DefaultDst(k.Family == netlink.FAMILY_V6)
	if k.Dst != nil {
		var ok bool
		if dst, ok = fromIPNet(k.Dst); !ok {
			return Route{}, false
		}
	}
	r := Route{Dst: dst, Device: k.LinkIndex, MTU: k.MTU, Metric: k.Priority, Unreachable: k.Type == unix.RTN_UNREACHABLE}
	if r.Unreachable {
		r.Device = 0 // the kernel shows the loopback device
	}
	if dst.Addr().Is6() && r.Metric == leastMetric6 {
		r.Metric = 0
	}
	if a, ok := netip.AddrFromSlice(k.Gw); ok {
		r.Via = a.Unmap()
	}
	if via, ok := k.Via.(*netlink.Via); ok {
		r.Via, _ = netip.AddrFromSlice(via.Addr)
	}
	if a, ok := netip.AddrFromSlice(k.Src); ok {
		r.Src = a.Unmap()
	}
	return r, true
}

// DefaultDst is the destination of a family's default route.
func DefaultDst(ipv6 bool) netip.Prefix {
	if ipv6 {
		return netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	}
	return netip.PrefixFrom(netip.IPv4Unspecified(), 0)
}

// Routes returns the routes of the main table: those that weft made, or all.
func (c *Conn) Routes(onlyWeft bool) ([]Route, error) {
	filter, mask := netlink.Route{}, uint64(0)
	if onlyWeft {
		filter.Protocol, mask = RouteProtocol, netlink.RT_FILTER_PROTOCOL
	}
	list, err := c.mainRoutes(&filter, mask)
	var out []Route
	for _, k := range list {
		if r, ok := routeFromKernel(k); ok {
			out = append(out, r)
		}
	}
	return out, err
}

// mainRoutes are those of the main table, of both families, as the library has them.
func (c *Conn) mainRoutes(filter *netlink.Route, mask uint64) (out []netlink.Route, err error) {
	filter.Table = unix.RT_TABLE_MAIN
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		list, err := dump(func() ([]netlink.Route, error) {
			return c.h.RouteListFiltered(family, filter, mask|netlink.RT_FILTER_TABLE)
		})
		if err != nil {
			return nil, fmt.Errorf("list routes: %w", err)
		}
		out = append(out, list...)
	}
	return out, nil
}

// SyncRoutes makes those of weft's routes that are ours be exactly those
// wanted: it adds and replaces first and removes last, so that no destination
// is without a route in between. A route that takes another's place, on whatever
// device, does so in one step. Ours tells apart the callers' routes. It goes on
// past errors.
func (c *Conn) SyncRoutes(want []Route, ours func(Route) bool) error {
	all, err := c.Routes(true)
	if err != nil {
		return err
	}
	var have []Route
	for _, r := range all {
		if ours(r) {
			have = append(have, r)
		}
	}
	missing, extra := difference(have, want)
	type slot struct {
		dst    netip.Prefix
		metric int
	}
	replaced := map[slot]bool{}
	for _, r := range missing {
		if e := c.h.RouteReplace(r.toKernel()); e != nil {
			err = errors.Join(err, fmt.Errorf("set route to %s: %w", r.Dst, e))
			continue
		}
		replaced[slot{r.Dst, r.Metric}] = true
	}
	for _, r := range extra {
		if replaced[slot{r.Dst, r.Metric}] {
			continue // RouteReplace took its place
		}
		if e := c.h.RouteDel(r.toKernel()); e != nil && !errors.Is(e, unix.ESRCH) {
			err = errors.Join(err, fmt.Errorf("remove route to %s: %w", r.Dst, e))
		}
	}
	return err
}

// RouteTo returns the device index and source address that the host uses
// towards an address.
func (c *Conn) RouteTo(dst netip.Addr) (device int, src netip.Addr, err error) {
	list, err := c.h.RouteGet(dst.AsSlice())
	if err != nil || len(list) == 0 {
		return 0, src, fmt.Errorf("find route to %s: %w", dst, err)
	}
	if a, ok := netip.AddrFromSlice(list[0].Src); ok {
		src = a.Unmap()
	}
	return list[0].LinkIndex, src, nil
}

// DevicesTo are the indexes of the devices by which packets from one of the host's
// addresses to another's may leave: several where they take turns. The error wraps
// ErrNotFound if there is no way.
func (c *Conn) DevicesTo(dst, src netip.Addr) (out []int, err error) {
	// The route itself has all its next hops, and the look-up shows just one.
	for _, whole := range []bool{true, false} {
		list, err := c.h.RouteGetWithOptions(dst.AsSlice(), &netlink.RouteGetOptions{SrcAddr: src.AsSlice(), FIBMatch: whole})
		if isNoWay(err) {
			err = ErrNotFound
		}
		if err != nil {
			return nil, fmt.Errorf("find the devices to %s: %w", dst, err)
		}
		for _, k := range list {
			if k.LinkIndex != 0 {
				out = append(out, k.LinkIndex)
			}
			for _, hop := range k.MultiPath {
				out = append(out, hop.LinkIndex)
			}
		}
		if len(out) > 0 {
			break
		}
	}
	return out, nil
}

// isNoWay tells whether the kernel answered that there is no way to an address.
func isNoWay(err error) bool {
	none := []error{unix.ENETUNREACH, unix.EHOSTUNREACH, unix.EACCES, unix.EINVAL} // the last is a blackhole
	return slices.ContainsFunc(none, func(e error) bool { return errors.Is(err, e) })
}

// NextHop is how the host reaches an address: the device, and the router, if
// there is one in between. The error wraps ErrNotFound if there is no way.
func (c *Conn) NextHop(dst netip.Addr) (Route, error) {
	list, err := c.h.RouteGet(dst.AsSlice())
	if err == nil && len(list) == 0 || isNoWay(err) {
		err = ErrNotFound
	}
	if err != nil {
		return Route{}, fmt.Errorf("find the next hop to %s: %w", dst, err)
	}
	r := Route{Dst: netip.PrefixFrom(dst, dst.BitLen()), Device: list[0].LinkIndex}
	if a, ok := netip.AddrFromSlice(list[0].Gw); ok {
		r.Via = a.Unmap()
	}
	return r, nil
}

// RouteOfHost is the route of the main table to an address, weft's own left out.
// The error wraps ErrNotFound if there is none that has one next hop.
func (c *Conn) RouteOfHost(dst netip.Addr) (Route, error) {
	family := netlink.FAMILY_V4
	if dst.Is6() {
		family = netlink.FAMILY_V6
	}
	list, err := dump(func() ([]netlink.Route, error) {
		return c.h.RouteListFiltered(family, &netlink.Route{Table: unix.RT_TABLE_MAIN}, netlink.RT_FILTER_TABLE)
	})
	if err != nil {
		return Route{}, fmt.Errorf("list routes: %w", err)
	}
	best := Route{Dst: netip.Prefix{}}
	for _, k := range list {
		r, ok := routeFromKernel(k)
		if !ok || k.Protocol == RouteProtocol || !r.Dst.Contains(dst) || r.Dst.Bits() < best.Dst.Bits() || r.Dst.Bits() == best.Dst.Bits() && best.Metric <= r.Metric {
			continue
		}
		if best = r; k.Type != unix.RTN_UNICAST || len(k.MultiPath) > 0 {
			best.Device = 0
		}
	}
	if best.Device == 0 {
		return Route{}, fmt.Errorf("find the host's route to %s: %w", dst, ErrNotFound)
	}
	return best, nil
}
