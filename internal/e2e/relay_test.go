package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/weft-net/weft/internal/netlab"
)

// via are the relays by which a host reaches another, by name.
func via(t *testing.T, h, to *netlab.Host) string {
	t.Helper()
	var names []string
	for _, l := range status(t, h).Links {
		if l.Name == to.Name {
			for _, v := range l.Via {
				names = append(names, v.Name)
			}
		}
	}
	return strings.Join(names, " ")
}

// relayed waits until two hosts reach each other by others.
func relayed(t *testing.T, a, b *netlab.Host, by string) {
	t.Helper()
	netlab.Eventually(t, fmt.Sprintf("%s and %s reach each other by %q", a.Name, b.Name, by), func() bool { return via(t, a, b) == by && via(t, b, a) == reversed(by) })
}

func reversed(words string) string {
	list := strings.Fields(words)
	for i, j := 0, len(list)-1; i < j; i, j = i+1, j-1 {
		list[i], list[j] = list[j], list[i]
	}
	return strings.Join(list, " ")
}

func TestBrokenLinkIsRelayedAndTakenBack(t *testing.T) {
	lab, hosts := launched(t, 3)
	var containers []*netlab.Container
	var addrs []string
	for _, h := range hosts {
		c, addr := attached(t, h, "c")
		containers, addrs = append(containers, c), append(addrs, addr)
	}
	time.Sleep(3 * time.Second)
	lab.Partition(hosts[:1], hosts[2:])
	began := time.Now()
	netlab.Eventually(t, "pings pass by the other", func() bool {
		return containers[0].Try("ping", "-c", "1", "-W", "1", addrs[2]).Code == 0
	})
	t.Logf("relayed after %s", time.Since(began).Round(10*time.Millisecond))
	relayed(t, hosts[0], hosts[2], "h2")
	t.Log(hosts[0].Try("weft", "status", "links", "-o", "wide").Stdout)
	t.Log(hosts[0].Try("ip", "route", "show", "proto", "87").Stdout)
	lab.Heal()
	began = time.Now()
	relayed(t, hosts[0], hosts[2], "")
	t.Logf("direct after %s", time.Since(began).Round(10*time.Millisecond))
	mustPing(t, containers[0], addrs[2], "direct again")
}
