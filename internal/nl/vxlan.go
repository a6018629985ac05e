package nl

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
)

// VXLAN holds a VXLAN device's own settings (RFC 7348).
type VXLAN struct {
	VNI   uint32 // 24 bits
	Port  uint16 // UDP destination port
	Local netip.Addr
	// Learning lets whoever sends a frame choose where the answer goes. Weft
	// programs every entry and has it off.
	Learning bool
}

func vxlanFromKernel(v *netlink.Vxlan) *VXLAN {
	local, _ := netip.AddrFromSlice(v.SrcAddr)
	return &VXLAN{VNI: uint32(v.VxlanId), Port: uint16(v.Port), Local: local.Unmap(), Learning: v.Learning}
}

// CreateVXLAN makes a VXLAN device, which is down.
func (c *Conn) CreateVXLAN(name string, mac net.HardwareAddr, mtu int, v VXLAN) (Link, error) {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.HardwareAddr, attrs.MTU = name, mac, mtu
	dev := &netlink.Vxlan{LinkAttrs: attrs, VxlanId: int(v.VNI), Port: int(v.Port), SrcAddr: v.Local.AsSlice(), Learning: v.Learning}
	if err := c.h.LinkAdd(dev); err != nil {
		return Link{}, fmt.Errorf("create VXLAN device %s: %w", name, err)
	}
	return c.Link(name)
}
