package nl

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// MAC is a hardware address that can be compared.
type MAC [6]byte

// HardwareAddr is the same address in the standard library's form.
func (m MAC) HardwareAddr() net.HardwareAddr { return m[:] }

// String is the usual colon-separated form.
func (m MAC) String() string { return m.HardwareAddr().String() }

// Neighbour is a permanent ARP entry: who has an address on a link.
type Neighbour struct {
	Addr netip.Addr
	MAC  MAC
}

// FDB is an entry of a VXLAN device's forwarding database: frames for this
// MAC go to the VTEP at this underlay address.
type FDB struct {
	MAC MAC
	Dst netip.Addr
}

// Neighbours are the hardware addresses of the IPv4 neighbours of a link, as far
// as the kernel knows them for now.
func (c *Conn) Neighbours(l Link) (map[netip.Addr]MAC, error) {
	list, err := dump(func() ([]netlink.Neigh, error) { return c.h.NeighList(l.Index, netlink.FAMILY_V4) })
	if err != nil {
		return nil, fmt.Errorf("list neighbours of %s: %w", l.Name, err)
	}
	out := map[netip.Addr]MAC{}
	for _, n := range list {
		if a, ok := netip.AddrFromSlice(n.IP); ok && len(n.HardwareAddr) == 6 && n.State&netlink.NUD_FAILED == 0 {
			out[a.Unmap()] = MAC(n.HardwareAddr)
		}
	}
	return out, nil
}

// SyncNeighbours makes the permanent IPv4 neighbours of a link, which is
// weft's own, be exactly those wanted.
func (c *Conn) SyncNeighbours(l Link, want []Neighbour) error {
	list, err := dump(func() ([]netlink.Neigh, error) { return c.h.NeighList(l.Index, netlink.FAMILY_V4) })
	if err != nil {
		return fmt.Errorf("list neighbours of %s: %w", l.Name, err)
	}
	var have []Neighbour
	for _, n := range list {
		a, ok := netip.AddrFromSlice(n.IP)
		if ok && n.State&netlink.NUD_PERMANENT != 0 && len(n.HardwareAddr) == 6 {
			have = append(have, Neighbour{a.Unmap(), MAC(n.HardwareAddr)})
		}
	}
	entry := func(n Neighbour) *netlink.Neigh {
		return &netlink.Neigh{LinkIndex: l.Index, Family: netlink.FAMILY_V4, State: netlink.NUD_PERMANENT,
			IP: n.Addr.AsSlice(), HardwareAddr: n.MAC.HardwareAddr()}
	}
	kept := map[netip.Addr]bool{}
	missing, extra := difference(have, want)
	for _, n := range missing {
		if err := c.h.NeighSet(entry(n)); err != nil {
			return fmt.Errorf("set neighbour %s on %s: %w", n.Addr, l.Name, err)
		}
		kept[n.Addr] = true
	}
	for _, n := range extra {
		if kept[n.Addr] {
			continue // NeighSet overwrote it
		}
		if err := c.h.NeighDel(entry(n)); err != nil && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("remove neighbour %s from %s: %w", n.Addr, l.Name, err)
		}
	}
	return nil
}

// DeleteNeighbour forgets what is known of an address on a link, learned or
// permanent; nothing known is no error.
func (c *Conn) DeleteNeighbour(l Link, addr netip.Addr) error {
	n := &netlink.Neigh{LinkIndex: l.Index, Family: netlink.FAMILY_V4, IP: addr.AsSlice()}
	if err := c.h.NeighDel(n); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("remove neighbour %s from %s: %w", addr, l.Name, err)
	}
	return nil
}

// SyncFDB makes the forwarding entries of a VXLAN device, which is weft's
// own, be exactly those wanted, one destination a MAC.
func (c *Conn) SyncFDB(l Link, want []FDB) error {
	list, err := dump(func() ([]netlink.Neigh, error) { return c.h.NeighList(l.Index, unix.AF_BRIDGE) })
	if err != nil {
		return fmt.Errorf("list forwarding entries of %s: %w", l.Name, err)
	}
	var have []FDB
	for _, n := range list {
		a, ok := netip.AddrFromSlice(n.IP)
		if ok && len(n.HardwareAddr) == 6 {
			have = append(have, FDB{MAC(n.HardwareAddr), a.Unmap()})
		}
	}
	entry := func(f FDB) *netlink.Neigh {
		return &netlink.Neigh{LinkIndex: l.Index, Family: unix.AF_BRIDGE, Flags: netlink.NTF_SELF,
			State: netlink.NUD_PERMANENT, IP: f.Dst.AsSlice(), HardwareAddr: f.MAC.HardwareAddr()}
	}
	kept := map[MAC]bool{}
	missing, extra := difference(have, want)
	for _, f := range missing {
		if err := c.h.NeighSet(entry(f)); err != nil {
			return fmt.Errorf("set forwarding of %s to %s on %s: %w", f.MAC, f.Dst, l.Name, err)
		}
		kept[f.MAC] = true
	}
	for _, f := range extra {
		if kept[f.MAC] {
			continue // NeighSet overwrote it
		}
		if err := c.h.NeighDel(entry(f)); err != nil && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("remove forwarding of %s from %s: %w", f.MAC, l.Name, err)
		}
	}
	return nil
}
