package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/weft-net/weft/internal/netlab"
)

// transports are what a host uses to each other host, by name.
func transports(t *testing.T, h *netlab.Host) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, l := range status(t, h).Links {
		out[l.Name] = l.Transport
	}
	return out
}

// uses waits until a host uses a transport to another.
func uses(t *testing.T, h, to *netlab.Host, transport string) {
	t.Helper()
	began := time.Now()
	netlab.Eventually(t, fmt.Sprintf("%s uses %s to %s", h.Name, transport, to.Name), func() bool {
		return transports(t, h)[to.Name] == transport
	})
	t.Logf("%s uses %s to %s after %s", h.Name, transport, to.Name, time.Since(began).Round(100*time.Millisecond))
}

// trusting are hosts that trust the networks given for each.
func trusting(t *testing.T, trusted ...string) []*netlab.Host {
	t.Helper()
	lab := netlab.New(t)
	var hosts []*netlab.Host
	var join []string
	for i, subnets := range trusted {
		h := lab.Host(fmt.Sprintf("h%d", i+1))
		if i == 0 {
			join = strings.Fields(h.Run("weft", "launch", "--trusted-subnets", subnets))
		} else {
			h.Run(append(join, "--trusted-subnets", subnets)...)
		}
		hosts = append(hosts, h)
	}
	return hosts
}

func TestOnlyHostsThatTrustEachOtherTalkInTheClear(t *testing.T) {
	hosts := trusting(t, "192.0.2.0/24", "192.0.2.0/24", "none")
	uses(t, hosts[0], hosts[1], "direct")
	uses(t, hosts[1], hosts[0], "direct")
	for _, pair := range [][2]int{{0, 2}, {2, 0}, {1, 2}, {2, 1}} {
		uses(t, hosts[pair[0]], hosts[pair[1]], "wireguard")
	}
	var addrs []string
	var containers []*netlab.Container
	for _, h := range hosts {
		c, addr := attached(t, h, "c")
		containers, addrs = append(containers, c), append(addrs, addr)
	}
	for i, c := range containers {
		for j, addr := range addrs {
			mustPing(t, c, addr, fmt.Sprintf("%d to %d", i, j))
		}
	}
	if hosts[2].Try("ip", "link", "show", "weft-vx").Code == 0 {
		t.Error("a host that trusts nobody has a VXLAN device")
	}
	hosts[0].Run("ip", "link", "show", "weft-vx")
	for _, h := range hosts {
		warned := false
		for _, w := range status(t, h).Health {
			warned = warned || w.Code == "traffic-not-encrypted" && strings.Contains(w.Text, "NOT ENCRYPTED TO") && !strings.Contains(w.Text, "h3")
		}
		if warned != (h != hosts[2]) {
			t.Errorf("%s: health %+v", h.Name, status(t, h).Health)
		}
	}
}
