package encap

import (
	"errors"
	"fmt"
	"log/slog"

	"github.com/weft-net/weft/internal/nl"
)

// minMTU is the least that a tunnel is worth having with: IPv6 needs it, and
// below it something is wrong with the underlay.
const minMTU = 1280

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
	dev, err := u.conn.LinkWithAddr(local.Underlay)
	if errors.Is(err, nl.ErrNotFound) {
		return 0, fmt.Errorf("the underlay address %s is on no interface any more", local.Underlay)
	}
	if err != nil {
		return 0, err
	}
	fits := dev.MTU - overhead
	if changed := fits != u.fits || local.MTU != u.asked; changed && local.MTU > fits {
		u.log.Warn("the MTU asked for is larger than the underlay's: large packets travel in fragments",
			"mtu", local.MTU, "fits", fits, "device", dev.Name)
	}
	u.fits, u.asked = fits, local.MTU
	switch {
	case local.MTU != 0:
		return local.MTU, nil
	case fits < minMTU:
		return 0, fmt.Errorf("the underlay leaves an MTU of %d, and %d are needed: raise it on the device of %s, or say --mtu", fits, minMTU, local.Underlay)
	}
	return fits, nil
}

// forwards makes the host forward what comes out of a tunnel device.
func forwards(device string) error {
	for key, value := range map[string]string{
		"forwarding": "1",
		// The device is shared by all peers, which are no neighbours of each other.
		"send_redirects": "0",
	} {
		if err := nl.SetSysctl("ipv4/conf/"+device+"/"+key, value); err != nil {
			return err
		}
	}
	for key, value := range map[string]string{
		"forwarding": "1",
		// No peer tells this host its routes.
		"accept_ra":        "0",
		"accept_redirects": "0",
	} {
		if err := nl.SetSysctl("ipv6/conf/"+device+"/"+key, value); err != nil && !errors.Is(err, nl.ErrNotFound) {
			return err
		}
	}
	return nil
}

func portTaken(port uint16, err error) error {
	return fmt.Errorf("UDP port %d, which the tunnels of this network use, is taken by another program (ss -lnup shows which): %w", port, err)
}
