package nl

import (
	"fmt"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// ForgetFlows makes the kernel forget the connections of a protocol that were
// sent to a port, so that the next packet of each is judged anew.
func ForgetFlows(protocol uint8, port uint16) error {
	f := &netlink.ConntrackFilter{}
	err := f.AddProtocol(protocol)
	if err == nil {
		err = f.AddPort(netlink.ConntrackOrigDstPort, port)
	}
	for _, family := range []netlink.InetFamily{unix.AF_INET, unix.AF_INET6} {
		if err == nil {
			_, err = netlink.ConntrackDeleteFilters(netlink.ConntrackTable, family, f)
		}
	}
	if err != nil {
		return fmt.Errorf("forget connections to port %d: %w", port, err)
	}
	return nil
}
