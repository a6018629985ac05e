package bridge

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/weft-net/weft/internal/nl"
)

// What is passed on must come from where the host sends what is for its source.
func TestOnlyWhatComesByTheWayBackIsPassedOn(t *testing.T) {
	onHost(t, func(h *host) {
		near, far := nl.MAC{0x02, 0, 0, 0, 0, 0xa}, nl.MAC{0x02, 0, 0, 0, 0, 0xb}
		for i, dev := range []string{"weft-vx", "weft-wg"} {
			if err := h.guests[i].Do(func() error {
				h.run("ip link set lo up")
				return nil
			}); err != nil {
				t.Fatal(err)
			}
			h.run(fmt.Sprintf("ip link add %s type veth peer name g%d netns /proc/self/fd/%d; ip link set %s up; sysctl -q -w net.ipv4.conf.%s.proxy_arp=1 net.ipv4.conf.%s.rp_filter=0", dev, i, h.guests[i].FD(), dev, dev, dev))
		}
		_ = far
		_ = near
	})
	_ = netip.Addr{}
}
