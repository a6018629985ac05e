package nl

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func toIPNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

func familyOf(a netip.Addr) int {
	if a.Is6() {
		return netlink.FAMILY_V6
	}
	return netlink.FAMILY_V4
}

// fromIPNet keeps host bits; ok is false for nil and for a mask with holes.
func fromIPNet(n *net.IPNet) (p netip.Prefix, ok bool) {
	if n == nil {
		return p, false
	}
	a, ok := netip.AddrFromSlice(n.IP)
	ones, bits := n.Mask.Size()
	if !ok || bits == 0 {
		return p, false
	}
	return netip.PrefixFrom(a.Unmap(), ones), true
}

// Addrs returns a link's addresses of both families, with their prefix lengths.
func (c *Conn) Addrs(l Link) ([]netip.Prefix, error) {
	list, err := dump(func() ([]netlink.Addr, error) { return c.h.AddrList(l.raw, netlink.FAMILY_ALL) })
	if err != nil {
		return nil, fmt.Errorf("list addresses of %s: %w", l.Name, err)
	}
	var out []netip.Prefix
	for _, a := range list {
		if p, ok := fromIPNet(a.IPNet); ok {
			out = append(out, p)
		}
	}
	return out, nil
}

// LinkWithAddr returns the link that carries an address of either family, or
// an error that wraps ErrNotFound. The loopback's MTU is given as what its packets have
// on their way: that of the links to gateways.
func (c *Conn) LinkWithAddr(addr netip.Addr) (Link, error) {
	list, err := dump(func() ([]netlink.Addr, error) { return c.h.AddrList(nil, familyOf(addr)) })
	if err != nil {
		return Link{}, fmt.Errorf("list addresses: %w", err)
	}
	for _, a := range list {
		if p, ok := fromIPNet(a.IPNet); !ok || p.Addr() != addr {
			continue
		}
		l, err := c.h.LinkByIndex(a.LinkIndex)
		if err != nil {
			return Link{}, fmt.Errorf("look up the link of address %s: %w", addr, err)
		}
		out := fromKernel(l)
		if l.Attrs().Flags&net.FlagLoopback != 0 {
			out.MTU, err = c.uplinkMTU(out.MTU)
		}
		return out, err
	}
	return Link{}, fmt.Errorf("link with address %s: %w", addr, ErrNotFound)
}

// uplinkMTU is the least MTU of the links by which gateways are reached, not weft's own,
// and no more than that.
func (c *Conn) uplinkMTU(most int) (int, error) {
	list, err := c.mainRoutes(&netlink.Route{}, 0)
	if err != nil {
		return 0, err
	}
	links := map[int]bool{}
	for _, r := range list {
		if r.Gw != nil || r.Via != nil {
			links[r.LinkIndex] = true
		}
		for _, hop := range r.MultiPath {
			links[hop.LinkIndex] = true
		}
	}
	for index := range links {
		switch l, err := c.LinkAt(index); {
		case errors.Is(err, ErrNotFound):
		case err != nil:
			return 0, err
		case !l.IsWeft():
			most = min(most, l.MTU)
		}
	}
	return most, nil
}

// SyncAddrs makes the addresses of a link that are ours be exactly those
// wanted, and leaves the others alone. The kernel makes no route for an IPv4
// one that its prefix length does not imply, and none for an IPv6 one; nor does
// it ask whether somebody else has that, which takes a second.
func (c *Conn) SyncAddrs(l Link, want []netip.Prefix, ours func(netip.Prefix) bool) error {
	have, err := c.Addrs(l)
	if err != nil {
		return err
	}
	missing, extra := difference(have, want)
	if err := c.addAddrs(l, missing); err != nil {
		return err
	}
	removed := false
	for _, p := range extra {
		if !ours(p) {
			continue
		}
		if err := c.h.AddrDel(l.raw, &netlink.Addr{IPNet: toIPNet(p)}); err != nil {
			return fmt.Errorf("remove address %s from %s: %w", p, l.Name, err)
		}
		removed = true
	}
	if !removed {
		return nil
	}
	// With the first address of a network the kernel removes all others of it.
	if have, err = c.Addrs(l); err != nil {
		return err
	}
	missing, _ = difference(have, want)
	return c.addAddrs(l, missing)
}

func (c *Conn) addAddrs(l Link, list []netip.Prefix) error {
	for _, p := range list {
		addr := &netlink.Addr{IPNet: toIPNet(p)}
		if p.Addr().Is6() {
			addr.Flags = unix.IFA_F_NODAD | unix.IFA_F_NOPREFIXROUTE
		}
		if err := c.h.AddrReplace(l.raw, addr); err != nil {
			return fmt.Errorf("add address %s to %s: %w", p, l.Name, err)
		}
	}
	return nil
}

// difference returns what is wanted and not there, and what is there and not wanted.
func difference[T comparable](have, want []T) (missing, extra []T) {
	in := func(list []T) map[T]bool {
		m := make(map[T]bool, len(list))
		for _, v := range list {
			m[v] = true
		}
		return m
	}
	h, w := in(have), in(want)
	for _, v := range want {
		if !h[v] {
			missing = append(missing, v)
			h[v] = true // a duplicate in want is added once
		}
	}
	for _, v := range have {
		if !w[v] {
			extra = append(extra, v)
		}
	}
	return missing, extra
}
