package e2e

import (
	"encoding/hex"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/weft-net/weft/internal/netlab"
)

// wgProcess is the process id of a host's userspace WireGuard.
func wgProcess(t *testing.T, h *netlab.Host) string {
	t.Helper()
	pids := strings.Fields(h.Try("pgrep", "-f", "^weft wg ").Stdout)
	if len(pids) != 1 {
		t.Fatalf("%s runs %d processes of WireGuard: %v", h.Name, len(pids), h.Processes())
	}
	return pids[0]
}

// capture begins to write down the packets of UDP on a host's underlay; the
// result waits for so many of them to a port, and returns them as tcpdump shows
// them in hexadecimal.
func capture(t *testing.T, h *netlab.Host, port int) (packets func(atLeast int) string) {
	t.Helper()
	h.Start("bash", "-c", "exec tcpdump -l -n -x -i eth0 udp >/run/capture 2>/run/capture.log")
	netlab.Eventually(t, "tcpdump listens", func() bool { return h.Try("grep", "-q", "listening on", "/run/capture.log").Code == 0 })
	return func(atLeast int) (seen string) {
		t.Helper()
		netlab.Eventually(t, fmt.Sprintf("%d packets are seen on the underlay", atLeast), func() bool {
			seen = h.Run("cat", "/run/capture")
			return strings.Count(seen, fmt.Sprintf(".%d: ", port)) >= atLeast
		})
		return seen
	}
}

func TestTrafficBetweenHostsIsCiphertext(t *testing.T) {
	for encap, readable := range map[string]bool{"wireguard": false, "vxlan": true} {
		t.Run(encap, func(t *testing.T) {
			_, hosts := launched(t, 2, "--encap", encap)
			a, addrA := attached(t, hosts[0], "a")
			c, addrC := attached(t, hosts[1], "c")
			// A pattern that is easy to find, in both directions, to and from
			// containers and hosts; ff is what the capture shows of it.
			packets := capture(t, hosts[1], map[string]int{"wireguard": 6785, "vxlan": 6784}[encap])
			resolve(t, a, c, addrC)
			gateway := status(t, hosts[1]).Bridge.Gateway.Addr().String()
			for from, to := range map[netlab.Pinger]string{a: addrC, c: addrA, hosts[0]: gateway} {
				if r := from.Try("ping", "-c", "5", "-i", "0.05", "-p", "5eed5eed", to); r.Code != 0 {
					t.Errorf("no ping to %s: %s", to, r.Stdout)
				}
			}
			seen := packets(30)
			if n := strings.Count(seen, "5eed 5eed 5eed"); n > 0 != readable {
				t.Errorf("the pattern is on the underlay %d times", n)
			}
			for _, what := range []string{askedFor, answered} {
				if strings.Contains(content(seen), hex.EncodeToString([]byte(what))) != readable {
					t.Errorf("%s, of DNS, is on the underlay: %v", what, !readable)
				}
			}
			if encap == "wireguard" {
				for _, plain := range []string{addrA, addrC, inHex(addrA), inHex(addrC)} {
					if strings.Contains(seen, plain) {
						t.Errorf("%s is on the underlay in the clear", plain)
					}
				}
			}

			s := status(t, hosts[0])
			warned := false
			for _, w := range s.Health {
				warned = warned || w.Code == "traffic-not-encrypted"
			}
			if s.Mesh.Encap != encap || s.Mesh.TrafficEncrypted == readable || s.Links[0].Encrypted == readable || s.Links[0].Transport != encap || warned != readable {
				t.Errorf("status says %+v, %+v", s.Mesh, s.Links)
			}
			if out := hosts[0].Try("weft", "status").Stdout; strings.Contains(out, "traffic NOT ENCRYPTED by "+encap) != readable {
				t.Errorf("status:\n%s", out)
			}
		})
	}
}

// content is what tcpdump -x shows without spaces and offsets.
func content(seen string) string {
	var b strings.Builder
	for line := range strings.Lines(seen) {
		if offset, shown, found := strings.Cut(line, ":  "); found && strings.HasPrefix(strings.TrimSpace(offset), "0x") {
			b.WriteString(strings.ReplaceAll(strings.TrimSpace(shown), " ", ""))
		}
	}
	return b.String()
}

// inHex is an IPv4 address as tcpdump -x shows it at an even offset.
func inHex(addr string) string {
	var b [4]byte
	fmt.Sscanf(addr, "%d.%d.%d.%d", &b[0], &b[1], &b[2], &b[3])
	return fmt.Sprintf("%02x%02x %02x%02x", b[0], b[1], b[2], b[3])
}

func TestUserspaceWireGuardOutlivesTheDaemonAndEndsWhenItIsToldTo(t *testing.T) {
	_, hosts := launched(t, 2)
	h := hosts[0]
	if !status(t, h).Mesh.Userspace {
		return // this kernel has WireGuard: there is no process to be tested
	}
	a, _ := attached(t, h, "a")
	_, addrC := attached(t, hosts[1], "c")
	pid := wgProcess(t, h)

	check := pinging(t, a, addrC, "while the daemon is killed, stopped and launched")
	time.Sleep(500 * time.Millisecond)
	kill9(t, h)
	h.Run("weft", "launch")
	h.Run("weft", "stop")
	h.Run("weft", "launch")
	time.Sleep(500 * time.Millisecond)
	check()
	if now := wgProcess(t, h); now != pid {
		t.Errorf("the process is %s, was %s", now, pid)
	}

	t.Run("killed, it is started again", func(t *testing.T) {
		time.Sleep(2 * time.Second) // the least time between two starts
		h.Run("kill", "-9", pid)
		netlab.Eventually(t, "traffic passes again", func() bool { return netlab.Pings(a, addrC) })
		if now := wgProcess(t, h); now == pid {
			t.Error("it is the same process")
		}
	})
	t.Run("stop --all ends it, and launch starts it again", func(t *testing.T) {
		h.Run("weft", "stop", "--all")
		for _, p := range h.Processes() {
			if strings.Contains(p, "weft") {
				t.Errorf("still runs %s", p)
			}
		}
		if h.Try("ip", "link", "show", "weft-wg").Code == 0 {
			t.Error("its device is there still")
		}
		h.Run("weft", "launch")
		netlab.Eventually(t, "traffic passes again", func() bool { return netlab.Pings(a, addrC) })
	})
	t.Run("stop --all ends it without a daemon, too", func(t *testing.T) {
		h.Run("weft", "stop")
		wgProcess(t, h)
		h.Run("weft", "stop", "--all")
		if h.Try("pgrep", "-f", "^weft wg ").Code == 0 {
			t.Error("it still runs")
		}
		refuses(t, h, 3, "weft launch", "weft", "stop", "--all")
		h.Run("weft", "launch")
		netlab.Eventually(t, "traffic passes again", func() bool { return netlab.Pings(a, addrC) })
	})
	t.Run("many at once start one", func(t *testing.T) {
		h.Run("weft", "stop", "--all")
		h.Run("bash", "-c", "for n in 1 2 3 4; do weft launch & done; wait")
		wgProcess(t, h)
	})
	t.Run("reset removes it, with and without a daemon", func(t *testing.T) {
		hosts[1].Run("weft", "reset", "--yes")
		h.Run("weft", "stop")
		h.Run("weft", "reset", "--yes", "--force")
		for _, h := range hosts {
			left := h.Run("bash", "-c", "ip -o link show | grep weft; pgrep weft; find /run /var/lib -name '*we*ft*' -o -name '*wireguard*'; true")
			if left != "" {
				t.Errorf("%s has left:\n%s", h.Name, left)
			}
		}
	})
}

func TestHostThatInsistsOnTheKernelIsNotSlow(t *testing.T) {
	_, hosts := launched(t, 2)
	h := hosts[0]
	a, _ := attached(t, h, "a")
	_, addrC := attached(t, hosts[1], "c")
	lacking := status(t, h).Mesh.Userspace
	check := pinging(t, a, addrC, "while a launch is refused")
	time.Sleep(500 * time.Millisecond)
	h.Run("weft", "stop")
	if lacking {
		refuses(t, h, 1, "this kernel has no WireGuard", "weft", "launch", "--wireguard", "kernel")
		h.Run("weft", "launch") // nothing of that was kept
	} else {
		h.Run("weft", "launch", "--wireguard", "kernel")
	}
	check()
	if s := status(t, h); s.Mesh.Userspace != lacking {
		t.Errorf("status says %+v", s.Mesh)
	}
	h.Run("weft", "stop")
	refuses(t, h, 2, "cannot be carried by", "weft", "launch", "--wireguard", "hand")
}

func TestWhatOthersRemoveOfWireGuardComesBack(t *testing.T) {
	_, hosts := launched(t, 2)
	h := hosts[0]
	a, _ := attached(t, h, "a")
	_, addrC := attached(t, hosts[1], "c")
	was := followed(t, h)
	for name, cmd := range map[string]string{
		"the device":   "ip link delete weft-wg",
		"its state":    "ip link set weft-wg down",
		"the route":    "ip route delete 10.40.0.0/13",
		"its MTU":      "ip link set weft-wg mtu 1300",
		"the socket":   "rm -f /run/wireguard/weft-wg.sock",
		"forwarding":   "sysctl -q -w net.ipv4.conf.weft-wg.forwarding=0 net.ipv4.ip_forward=0",
		"the firewall": "nft flush ruleset",
	} {
		t.Run(name, func(t *testing.T) {
			time.Sleep(2 * time.Second) // the least time between two starts of the process
			h.Run("bash", "-c", cmd)
			diff := ""
			defer func() {
				if t.Failed() {
					t.Logf("still differs:\n%s", diff)
				}
			}()
			netlab.Eventually(t, "everything is as it was", func() bool { diff = settledDiff(was, h.Snapshot()); return diff == "" })
			netlab.Eventually(t, "traffic passes", func() bool { return netlab.Pings(a, addrC) })
		})
	}
}

func TestHostThatMovesOnTheUnderlayIsFollowed(t *testing.T) {
	_, hosts := launched(t, 2)
	a, _ := attached(t, hosts[0], "a")
	_, addrC := attached(t, hosts[1], "c")
	hosts[1].Run("weft", "stop")
	hosts[1].Run("bash", "-c", "ip address flush dev eth0; ip address add 192.0.2.99/24 dev eth0")
	hosts[1].Run("weft", "launch")
	netlab.Eventually(t, "traffic passes", func() bool { return netlab.Pings(a, addrC) })
}

func TestProcessThatHangsIsStartedAnewAndHoldsNobodyUp(t *testing.T) {
	lab := newLab(t)
	h1, h2 := lab.Host("h1"), lab.Host("h2")
	h2.Run(append(strings.Fields(h1.Run("weft", "launch", "--wireguard", "userspace", "--trusted-subnets", "192.0.2.0/24")), "--trusted-subnets", "192.0.2.0/24")...)
	uses(t, h1, h2, "direct")
	answering(t, h1, h2)
	a, _ := attached(t, h1, "a")
	_, addr := attached(t, h2, "c")
	pid := wgProcess(t, h1)
	h1.Run("kill", "-STOP", pid)
	netlab.Eventually(t, "the process is started anew", func() bool {
		pids := strings.Fields(h1.Try("pgrep", "-f", "^weft wg ").Stdout)
		return len(pids) == 1 && pids[0] != pid
	})
	pid = wgProcess(t, h1)
	h1.Run("weft", "stop")
	h1.Run("kill", "-STOP", pid)
	h1.Run("weft", "launch")
	if now := wgProcess(t, h1); now == pid {
		t.Errorf("process %s hangs still", pid)
	}
	netlab.Eventually(t, "the containers reach each other", func() bool { return netlab.Pings(a, addr) })
}
