package nl

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// MAC is a hardware address that can be compared.
type MAC [6]byte

// HardwareAddr is the same address in the standard library's form.
func (m MAC) HardwareAddr() net.HardwareAddr { return m[:] }

// String is the usual colon-separated form.
func (m MAC) String() string { return m.HardwareAddr().String() }

// Neighbour is a permanent entry of ARP or of IPv6 neighbour discovery: who has
// an address on a link.
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

// Neighbours are the hardware addresses of the neighbours of a link, of both
// families, as far as the kernel knows them for now.
func (c *Conn) Neighbours(l Link) (map[netip.Addr]MAC, error) {
	out := map[netip.Addr]MAC{}
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		list, err := dump(func() ([]netlink.Neigh, error) { return c.h.NeighList(l.Index, family) })
		if err != nil {
			return nil, fmt.Errorf("list neighbours of %s: %w", l.Name, err)
		}
		for _, n := range list {
			if a, ok := netip.AddrFromSlice(n.IP); ok && len(n.HardwareAddr) == 6 && n.State&netlink.NUD_FAILED == 0 {
				out[a.Unmap()] = MAC(n.HardwareAddr)
			}
		}
	}
	return out, nil
}

// neighbours returns the permanent neighbours of a link, of both families.
func (c *Conn) neighbours(l Link) ([]Neighbour, error) {
	var out []Neighbour
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		list, err := dump(func() ([]netlink.Neigh, error) { return c.h.NeighList(l.Index, family) })
		if err != nil {
			return nil, fmt.Errorf("list neighbours of %s: %w", l.Name, err)
		}
		for _, n := range list {
			a, ok := netip.AddrFromSlice(n.IP)
			// A kernel without IPv6 answers with IPv4.
			if ok && n.Family == family && n.State&netlink.NUD_PERMANENT != 0 && len(n.HardwareAddr) == 6 {
				out = append(out, Neighbour{a, MAC(n.HardwareAddr)})
			}
		}
	}
	return out, nil
}

// SyncNeighbours makes the permanent neighbours of a link that are ours be
// exactly those wanted, and leaves the others alone.
func (c *Conn) SyncNeighbours(l Link, want []Neighbour, ours func(netip.Addr) bool) error {
	have, err := c.neighbours(l)
	if err != nil {
		return err
	}
	have = slices.DeleteFunc(have, func(n Neighbour) bool { return !ours(n.Addr) })
	kept := map[netip.Addr]bool{}
	missing, extra := difference(have, want)
	for _, n := range missing {
		if err := c.SetNeighbour(l, n); err != nil {
			return err
		}
		kept[n.Addr] = true
	}
	for _, n := range extra {
		if kept[n.Addr] {
			continue // SetNeighbour overwrote it
		}
		if err := c.ForgetNeighbour(l, n.Addr); err != nil {
			return err
		}
	}
	return nil
}

// ForgetNeighbour removes what is known of one neighbour. One that is not there is
// no error.
func (c *Conn) ForgetNeighbour(l Link, a netip.Addr) error {
	err := c.h.NeighDel(&netlink.Neigh{LinkIndex: l.Index, Family: familyOf(a), IP: a.AsSlice()})
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("remove neighbour %s from %s: %w", a, l.Name, err)
	}
	return nil
}

// SetNeighbour makes one permanent neighbour, in the place of what was known.
func (c *Conn) SetNeighbour(l Link, n Neighbour) error {
	err := c.h.NeighSet(&netlink.Neigh{LinkIndex: l.Index, Family: familyOf(n.Addr), State: netlink.NUD_PERMANENT,
		IP: n.Addr.AsSlice(), HardwareAddr: n.MAC.HardwareAddr()})
	if err != nil {
		return fmt.Errorf("set neighbour %s on %s: %w", n.Addr, l.Name, err)
	}
	return nil
}

// PinMAC makes a bridge send frames for a hardware address to one of its ports
// and nowhere else, whether or not it has seen frames from there.
func (c *Conn) PinMAC(port Link, mac net.HardwareAddr) error {
	err := c.h.NeighSet(&netlink.Neigh{LinkIndex: port.Index, Family: unix.AF_BRIDGE, Flags: netlink.NTF_MASTER,
		State: netlink.NUD_NOARP, HardwareAddr: mac})
	if err != nil {
		return fmt.Errorf("pin %s to port %s: %w", mac, port.Name, err)
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
