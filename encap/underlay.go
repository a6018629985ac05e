package encap

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"

	"github.com/weft-net/weft/internal/nl"
	"github.com/weft-net/weft/internal/ula"
)

// minMTU is the least that a tunnel is worth having with: what an underlay of
// 1280 bytes, the least that IPv6 takes, leaves to IPv4.
const minMTU = 1200

// ipv6MTU is the least MTU of a device that can have IPv6 (RFC 8200).
const ipv6MTU = 1280

// underlay is what a tunnel's packets travel over.
type underlay struct {
	log   *slog.Logger
	conn  *nl.Conn
	fits  int // inside of a tunnel, as it was last seen
	asked int // the MTU that was asked for then
}

// fit is the MTU of a tunnel: that of the device that carries the underlay
// address, less what the tunnel adds, unless another is asked for.
func (u *underlay) fit(local Local, overhead int) (mtu int, err error) {
	dev, err := underlayDevice(u.conn, local.Underlay)
	if err != nil {
		return 0, err
	}
	fits := dev.MTU - overhead
	if changed := fits != u.fits || local.MTU != u.asked; changed && local.MTU > fits {
		u.log.Warn("the MTU asked for is more than the underlay leaves, which counts", "mtu", local.MTU, "fits", fits, "device", dev.Name)
	}
	u.fits, u.asked = fits, local.MTU
	switch {
	case fits < minMTU:
		return 0, fmt.Errorf("the underlay leaves an MTU of %d, and %d are needed: raise it on the device of %s", fits, minMTU, local.Underlay)
	case local.MTU != 0:
		return min(local.MTU, fits), nil
	}
	return fits, nil
}

// deviceMTU is the MTU of a tunnel's device into which so much fits: for IPv6 to
// be there it may have to be more, and the largest packets travel in fragments.
// Routes say what fits to IPv4.
func (l Local) deviceMTU(fits int) int {
	if l.IPv6.IsValid() && l.MTU == 0 {
		return max(fits, ipv6MTU)
	}
	return fits
}

// on is local without IPv6 if its device has none.
func (l Local) on() Local {
	if nl.IPv6Off(l.Device) != "" {
		l.IPv6 = ula.Net{}
	}
	return l
}

// single is local for a transport that takes one family of the underlay alone.
func (l Local) single() Local {
	l.Also = netip.Addr{}
	return l
}

// underlayDevice is the one that carries this host's underlay address.
func underlayDevice(conn *nl.Conn, addr netip.Addr) (nl.Link, error) {
	dev, err := conn.LinkWithAddr(addr)
	if errors.Is(err, nl.ErrNotFound) {
		err = fmt.Errorf("the underlay address %s is on no interface any more", addr)
	}
	return dev, err
}

// overhead is what a transport adds to each packet, in bytes.
func overhead(transport string, underlay netip.Addr) int {
	switch transport {
	case TransportVXLAN:
		return vxlanOverhead(underlay)
	case TransportWireGuard:
		return wireguardOverhead(underlay)
	}
	return 0
}

// Fits is what of an underlay MTU a transport leaves, in bytes.
func Fits(transport string, underlay netip.Addr, mtu int) int {
	return mtu - overhead(transport, underlay)
}

// withoutLinkLocal keeps a tunnel's device, before it is up, from an address that
// nobody on it could use.
func withoutLinkLocal(device string) error {
	if err := nl.SetSysctl("ipv6/conf/"+device+"/addr_gen_mode", "1"); !errors.Is(err, nl.ErrNotFound) {
		return err
	}
	return nil
}

// FitsThere is Fits for the other end's underlay, if that is smaller than this
// one's: WireGuard pads packets to 16 bytes as far as its device's MTU allows.
func FitsThere(transport string, underlay netip.Addr, mtu int) int {
	fits := Fits(transport, underlay, mtu)
	if transport == TransportWireGuard {
		fits -= fits % 16
	}
	return fits
}

// forwards makes the host forward what comes out of a tunnel device, whichever
// way the answers take. The two ends of a link may choose differently for a
// while; a filter that is strict on all devices would drop that, a loose one
// passes it only on a device that has an address. So it gets the bridge's.
func forwards(conn *nl.Conn, dev nl.Link, local Local) error {
	for key, value := range map[string]string{
		"forwarding": "1",
		// The device is shared by all peers, which are no neighbours of each other.
		"send_redirects": "0",
		"rp_filter":      "2", // of this and that of all devices the larger counts
	} {
		if err := nl.SetSysctl("ipv4/conf/"+dev.Name+"/"+key, value); err != nil {
			return err
		}
	}
	for key, value := range map[string]string{
		"forwarding": "1",
		// No peer tells this host its routes.
		"accept_ra":        "0",
		"accept_redirects": "0",
	} {
		if err := nl.SetSysctl("ipv6/conf/"+dev.Name+"/"+key, value); err != nil && !errors.Is(err, nl.ErrNotFound) {
			return err
		}
	}
	var own []netip.Prefix
	if local.Source.IsValid() {
		own = append(own, netip.PrefixFrom(local.Source, local.Source.BitLen()))
	}
	return conn.SyncAddrs(dev, own, func(netip.Prefix) bool { return true })
}
