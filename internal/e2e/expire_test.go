package e2e

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weft-net/weft/api"
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

func TestObserverThatCrashedIsRemovedByItself(t *testing.T) {
	lab, hosts := launched(t, 1)
	home := hosts[0]
	observer := lab.Host("observer")
	observer.Run("weft", "launch", "--observer", "--join", home.Addr.String(), "--token", tokenOf(t, home))
	home.Run("weft", "stop")
	home.Run("weft", "launch", "--reclaim-after", "1m")
	state := func(want string) {
		t.Helper()
		netlab.Eventually(t, "the observer is "+want, func() bool {
			return slices.ContainsFunc(status(t, home).Peers, func(p api.Peer) bool { return p.Name == "observer" && p.State == want })
		})
	}
	state("alive")
	kill9(t, observer)
	state("failed")
	time.Sleep(45 * time.Second)
	state("removed")
	observer.Run("weft", "launch")
	state("alive")
}
