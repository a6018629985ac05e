package e2e

import (
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
			a, _ := attached(t, hosts[0], "a")
			b, addr := attached(t, hosts[1], "b")
			b.Start("iperf3", "-s")
			netlab.Eventually(t, "iperf3 listens", func() bool { return b.Try("bash", "-c", "echo >/dev/tcp/127.0.0.1/5201").Code == 0 })

			firewalls := []string{firewall(hosts[0]), firewall(hosts[1])}
			// Less than any transport carries: what is lost is lost by the daemons.
			stream := a.Start("iperf3", "-c", addr, "-b", "50M", "-t", "600", "-f", "m")
			pings := a.Start("ping", "-i", "0.001", "-W", "1", addr)
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
					t.Errorf("%s: the daemons that began made the firewall of %s anew: %s, was %s", transport, h.Name, now, firewalls[i])
				}
			}
			out := pings()
			sent, lost, err := netlab.Lost(out)
			t.Logf("%s: %d pings, %d lost", transport, sent, lost)
			if err != nil || sent < 300 || lost != 0 {
				t.Errorf("%s: lost %d of %d pings, %v", transport, lost, sent, err)
			}
			if !flows(stream()) {
				t.Errorf("%s: the stream stood still", transport)
			}
		})
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

// flows tells whether something moved in each second that iperf3 has printed.
func flows(printed string) bool {
	intervals := 0
	for line := range strings.Lines(printed) {
		if !strings.Contains(line, "bits/sec") || strings.Contains(line, "sender") || strings.Contains(line, "receiver") {
			continue
		}
		if strings.Contains(line, " 0.00 Mbits/sec") {
			return false
		}
		intervals++
	}
	return intervals > 0
}
