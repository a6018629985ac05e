package e2e

import (
	"strings"
	"testing"

	"github.com/weft-net/weft/internal/netlab"
)

// heardAt waits until the link from one host to another by name is answered, and ends
// at an address.
func heardAt(t *testing.T, h *netlab.Host, peer, addr string) {
	t.Helper()
	netlab.Eventually(t, h.Name+" has a link to "+peer+" at "+addr, func() bool {
		for _, l := range status(t, h).Links {
			if l.Name == peer {
				return l.Answers && l.Underlay.String() == addr
			}
		}
		return false
	})
}

// A host on two segments is reached by each on the segment of the one who asks, and
// relays between them.
func TestHostWithTwoInterfacesIsReachedOnEachSegment(t *testing.T) {
	lab := newLab(t)
	both, left, right := lab.Host("both"), lab.Host("left"), lab.Host("right")
	second := lab.Segment(both, right)
	right.Run("ip", "link", "delete", "eth0") // it is on the second segment alone
	join := strings.Fields(both.Run("weft", "launch", "--encap", "vxlan", "--advertise", both.Addr.String()+","+second[0].String()))
	left.Run(join...)
	onSecond := strings.Fields(strings.ReplaceAll(strings.Join(join, " "), both.Addr.String(), second[0].String()))
	right.Run(onSecond...)
	hosts := []*netlab.Host{both, left, right}
	heardAt(t, left, "both", both.Addr.String())
	heardAt(t, right, "both", second[0].String())
	heardAt(t, both, "left", left.Addr.String())
	heardAt(t, both, "right", second[1].String())
	allReachEachOther(t, hosts)
}
