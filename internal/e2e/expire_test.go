package e2e

import (
	"strings"
	"testing"
	"time"

	"github.com/weft-net/weft/internal/netlab"
)

func TestHostThatWasCutOffForLongShutsNobodyOut(t *testing.T) {
	lab, hosts := launched(t, 3)
	hasVoters(t, hosts[2], 3)
	lost := hosts[2]
	lost.Run("weft", "stop")
	lost.Run("weft", "launch", "--reclaim-after", "1m")
	netlab.Eventually(t, "all are alive again", func() bool {
		for _, h := range hosts {
			for _, p := range status(t, h).Peers {
				if p.State != "alive" {
					return false
				}
			}
		}
		return true
	})
	lab.Partition([]*netlab.Host{lost}, hosts[:2])
	time.Sleep(80 * time.Second)
	lab.Heal()
	netlab.Eventually(t, "all are alive after the partition", func() bool {
		for _, h := range hosts {
			for _, p := range status(t, h).Peers {
				if p.State != "alive" {
					return false
				}
			}
		}
		return true
	})
	time.Sleep(3 * time.Second)
	for _, h := range hosts {
		if log := h.Run("cat", "/var/lib/weft/weft.log"); strings.Contains(log, "removed from the mesh") {
			t.Errorf("%s was shut out", h.Name)
		}
		if s := status(t, h).IPAM; len(s.Pending) > 0 || len(s.Shares) != 3 || !s.Member {
			t.Errorf("%s: shares %+v, pending %v", h.Name, s.Shares, s.Pending)
		}
	}
}
