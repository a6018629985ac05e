package e2e

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weft-net/weft/internal/netlab"
)

func TestDaemonsComeAndGoAndNoPacketIsLostInAnyTransport(t *testing.T) {
	for _, transport := range []string{"direct", "vxlan", "wireguard"} {
		t.Run(transport, func(t *testing.T) {
			_, hosts := launched(t, 2, "--encap", transport)
			uses(t, hosts[0], hosts[1], transport)
			uses(t, hosts[1], hosts[0], transport)
			check := streaming(t, hosts)
			firewalls := []string{firewall(hosts[0]), firewall(hosts[1])}
			time.Sleep(time.Second) // some while all is well
			for _, h := range hosts {
				kill9(t, h)
				h.Run("weft", "launch")
				h.Run("weft", "stop")
				h.Run("weft", "launch")
				uses(t, h, other(hosts, h), transport)
			}
			for i, h := range hosts {
				if now := firewall(h); now != firewalls[i] {
					t.Errorf("the daemons that began made the firewall of %s anew: %s, was %s", h.Name, now, firewalls[i])
				}
			}
			check()
		})
	}
}

// streaming has a container on the first of two hosts ping one on the second each
// millisecond, beside a TCP stream; the result fails the test if a ping was lost, or
// if the stream stood still.
func streaming(t *testing.T, hosts []*netlab.Host) (check func()) {
	t.Helper()
	a, _ := attached(t, hosts[0], "a")
	b, addr := attached(t, hosts[1], "b")
	b.Start("iperf3", "-s")
	netlab.Eventually(t, "iperf3 listens", func() bool { return b.Try("bash", "-c", "echo >/dev/tcp/127.0.0.1/5201").Code == 0 })
	// Less than any transport carries: what is lost is lost by the daemons.
	stream := a.Start("iperf3", "-c", addr, "-b", "50M", "-t", "600", "-f", "m")
	pings := a.Start("ping", "-i", "0.001", "-W", "1", addr)
	return func() {
		t.Helper()
		sent, lost, err := netlab.Lost(pings())
		t.Logf("%d pings, %d lost", sent, lost)
		if err != nil || sent < 300 || lost != 0 {
			t.Errorf("lost %d of %d pings, %v", lost, sent, err)
		}
		if printed := stream(); !flows(printed) {
			t.Errorf("the stream stood still:\n%s", printed)
		}
	}
}

// firewall names weft's tables with the numbers that the kernel gave them, which
// are others once they are made anew.
func firewall(h *netlab.Host) string { return h.Run("nft", "-j", "list", "tables") }

func other(two []*netlab.Host, h *netlab.Host) *netlab.Host {
	if two[0] == h {
		return two[1]
	}
	return two[0]
}

// flows tells whether something moved in each second that iperf3 has printed, but
// for the last, which the end of the program cuts off.
func flows(printed string) bool {
	var moved []bool
	for line := range strings.Lines(printed) {
		if strings.Contains(line, "bits/sec") && !strings.Contains(line, "sender") && !strings.Contains(line, "receiver") {
			moved = append(moved, !strings.Contains(line, " 0.00 Mbits/sec"))
		}
	}
	return len(moved) > 1 && !slices.Contains(moved[:len(moved)-1], false)
}
