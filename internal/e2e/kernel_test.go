//go:build kernelwg

package e2e

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/weft-net/weft/internal/netlab"
)

// wantCarrier fails the test unless a host's packets are carried as said, and
// the host says so: by the kernel without a word, by a process with a warning.
func wantCarrier(t *testing.T, h *netlab.Host, userspace bool) {
	t.Helper()
	s := status(t, h)
	warned := false
	for _, w := range s.Health {
		warned = warned || w.Code == "slow-transport"
	}
	if s.Mesh.Encap != "auto" || !s.Mesh.TrafficEncrypted || s.Mesh.Userspace != userspace || warned != userspace {
		t.Errorf("%s says %+v, %+v; want userspace %v", h.Name, s.Mesh, s.Health, userspace)
	}
	out := h.Try("weft", "status").Stdout
	if !strings.Contains(out, "traffic encrypted by wireguard") || strings.Contains(out, "(userspace)") != userspace {
		t.Errorf("%s: status:\n%s", h.Name, out)
	}
	kind := map[bool]string{true: "tun type tun", false: "wireguard "}[userspace]
	if got := h.Run("ip", "-d", "link", "show", "weft-wg"); !strings.Contains(got, kind) {
		t.Errorf("%s: the device is no %s:\n%s", h.Name, kind, got)
	}
	if process := h.Try("pgrep", "-f", "^weft wg ").Code == 0; process != userspace {
		t.Errorf("%s runs %v", h.Name, h.Processes())
	}
}

func TestKernelCarriesTheTrafficOfTwoHosts(t *testing.T) {
	_, hosts := launched(t, 2)
	a, addrA := attached(t, hosts[0], "a")
	c, addrC := attached(t, hosts[1], "c")
	for _, h := range hosts {
		wantCarrier(t, h, false)
	}
	checks := []func(){pinging(t, a, addrC, "out to the other host"), pinging(t, c, addrA, "in from it")}
	time.Sleep(time.Second) // some pings while all is well
	kill9(t, hosts[0])
	hosts[0].Run("weft", "launch")
	hosts[0].Run("weft", "stop", "--all")
	time.Sleep(time.Second) // and some without a daemon
	hosts[0].Run("weft", "launch")
	for _, check := range checks {
		check()
	}
	wantCarrier(t, hosts[0], false)
	for _, h := range hosts {
		h.Run("weft", "reset", "--yes", "--force")
		if h.Try("ip", "link", "show", "weft-wg").Code == 0 {
			t.Errorf("%s has its device still", h.Name)
		}
	}
}

func TestKernelAndUserspaceAreOneNetwork(t *testing.T) {
	lab := netlab.New(t)
	h, other := lab.Host("h1"), lab.Host("h2")
	join := strings.Fields(h.Run("weft", "launch"))
	other.Run(append(join, "--wireguard", "userspace")...)
	a, addrA := attached(t, h, "a")
	c, addrC := attached(t, other, "c")
	passes := func(when string) {
		t.Helper()
		netlab.Eventually(t, "traffic passes "+when, func() bool { return netlab.Pings(a, addrC) && netlab.Pings(c, addrA) })
	}
	passes("between kernel and process")
	wantCarrier(t, h, false)
	wantCarrier(t, other, true)
	packets := capture(t, other, 6785)
	for from, to := range map[netlab.Pinger]string{a: addrC, c: addrA} {
		from.Try("ping", "-c", "5", "-i", "0.05", "-p", "5eed5eed", to)
	}
	if seen := packets(20); strings.Contains(seen, "5eed 5eed 5eed") {
		t.Errorf("the pattern is on the underlay in the clear:\n%s", seen)
	}
	check := pinging(t, a, addrC, "while daemons are killed")
	time.Sleep(time.Second)
	for _, h := range []*netlab.Host{h, other} {
		kill9(t, h)
		h.Run("weft", "launch")
	}
	check()
	wantCarrier(t, other, true) // as it was told before

	other.Run("weft", "stop")
	other.Run("weft", "launch", "--wireguard", "kernel")
	passes("by the kernels")
	wantCarrier(t, other, false)
	other.Run("weft", "stop")
	other.Run("weft", "launch", "--wireguard", "userspace")
	passes("by a process again")
	wantCarrier(t, other, true)
	other.Run("weft", "stop", "--all")
	other.Run("weft", "launch", "--wireguard", "auto")
	passes("by what the host has")
	wantCarrier(t, other, false)
}

func TestKernelMeshStaysUpAndGrowsUnderLossAndDelay(t *testing.T) {
	const (
		watched  = 60 * time.Second
		interval = 200 * time.Millisecond // of pings
		size     = 500000                 // bytes, of the transfer
	)
	lab := netlab.New(t)
	hosts := []*netlab.Host{lab.Host("h1"), lab.Host("h2"), lab.Host("h3")}
	join := strings.Fields(hosts[0].Run("weft", "launch"))
	hosts[1].Run(join...)
	a, addrA := attached(t, hosts[0], "a")
	c, addrC := attached(t, hosts[1], "c")
	for _, h := range hosts {
		h.Run("tc", "qdisc", "add", "dev", "eth0", "root", "netem", "delay", "100ms", "loss", "5%", "limit", "10000")
	}
	hosts[2].Run(join...)
	d, addrD := attached(t, hosts[2], "d")
	for from, to := range map[netlab.Pinger]string{d: addrA, c: addrD} {
		netlab.Eventually(t, "traffic of the third host passes", func() bool { return netlab.Pings(from, to) })
	}

	ping := a.Start("ping", "-c", fmt.Sprint(int(watched/interval)), "-i", fmt.Sprint(interval.Seconds()), "-W", "2", addrC)
	a.Start("bash", "-c", `perl -MIO::Socket::INET -e 'my $s = IO::Socket::INET->new(LocalPort => 7000, Listen => 1) or die; my $c = $s->accept; print while <$c>' | md5sum >/run/got`)
	c.Start("bash", "-c", fmt.Sprintf("head -c %d /dev/urandom >/run/sent; until cat /run/sent >/dev/tcp/%s/7000; do sleep 0.5; done", size, addrA))
	began := time.Now()
	looks := 0
	for ; time.Since(began) < watched+10*interval; time.Sleep(time.Second) {
		looks++
		for _, h := range hosts {
			s := status(t, h)
			for _, p := range s.Peers {
				if p.State != "alive" {
					t.Errorf("after %s %s holds %s for %s", time.Since(began).Round(time.Second), h.Name, p.Name, p.State)
				}
			}
			if len(s.Peers) != len(hosts) || len(s.Links) != len(hosts)-1 {
				t.Errorf("%s has %d peers and %d links", h.Name, len(s.Peers), len(s.Links))
			}
			for _, l := range s.Links {
				if l.Reason != "" {
					t.Errorf("after %s %s has no link to %s: %s", time.Since(began).Round(time.Second), h.Name, l.Name, l.Reason)
				}
			}
		}
	}
	sent, lost, err := netlab.Lost(ping())
	// 5 % on each of two ways; five standard deviations leave no room for chance.
	const loss = 1 - 0.95*0.95
	want, most := loss*float64(sent), 5*math.Sqrt(loss*(1-loss)*float64(sent))
	if err != nil || sent < 100 || math.Abs(float64(lost)-want) > most {
		t.Errorf("lost %d of %d pings, %v; want %.0f, give or take %.0f", lost, sent, err, want, most)
	}
	t.Logf("looked %d times at each of %d hosts; lost %d of %d pings", looks, len(hosts), lost, sent)
	netlab.Eventually(t, "the transfer is complete", func() bool { return hosts[0].Try("test", "-s", "/run/got").Code == 0 })
	if got, want := hosts[0].Run("cat", "/run/got"), hosts[1].Run("bash", "-c", "md5sum </run/sent"); got != want {
		t.Errorf("what arrived has the sum %s; want %s", got, want)
	}
}
