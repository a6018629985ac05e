package e2e

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weft-net/weft/internal/netlab"
)

// pinging pings in the background every 10 ms; the result fails the test for
// each ping that is lost.
func pinging(t *testing.T, from *netlab.Container, to, what string, flags ...string) (check func()) {
	pace := 10 * time.Millisecond * netlab.Slowness // of which a slow machine is not to be full
	stop := from.Start(slices.Concat([]string{"ping", "-i", fmt.Sprint(pace.Seconds()), "-W", "1"}, flags, []string{to})...)
	return func() {
		t.Helper()
		out := stop()
		sent, lost, err := netlab.Lost(out)
		if err != nil || sent < 20 || lost != 0 {
			t.Errorf("%s: lost %d of %d pings, %v:\n%s", what, lost, sent, err, out)
		}
	}
}

func kill9(t *testing.T, h *netlab.Host) {
	t.Helper()
	pid := h.Run("cat", "/var/lib/weft/lock")
	h.Run("kill", "-9", pid)
	netlab.Eventually(t, "the daemon is gone", func() bool { return h.Try("kill", "-0", pid).Code != 0 })
}

func TestKilledDaemonLosesNoPingAndNoAddress(t *testing.T) {
	_, hosts := launched(t, 3)
	a, addrA := attached(t, hosts[0], "a")
	_, addrB := attached(t, hosts[0], "b")
	c, addrC := attached(t, hosts[2], "c")
	hosts[0].Run("weft", "expose")
	before := followed(t, hosts[0])
	checks := []func(){
		pinging(t, a, addrB, "on one host"), pinging(t, a, addrC, "out to another host"), pinging(t, c, addrA, "in from another host"),
	}
	time.Sleep(500 * time.Millisecond) // some pings while all is well
	for range 3 {
		kill9(t, hosts[0])
		hosts[0].Run("weft", "launch")
	}
	time.Sleep(500 * time.Millisecond)
	for _, check := range checks {
		check()
	}
	if d := netlab.Diff(before, hosts[0].Snapshot()); d != "" {
		t.Errorf("after kill -9 and launch the host differs:\n%s", d)
	}
	if got := hosts[0].Run("weft", "attach", "a"); got != addrA {
		t.Errorf("a has %s, had %s", got, addrA)
	}
}

func TestStopLeavesContainersTalking(t *testing.T) {
	_, hosts := launched(t, 2)
	a, _ := attached(t, hosts[0], "a")
	c, addrC := attached(t, hosts[1], "c")
	hosts[0].Run("weft", "stop")
	hosts[1].Run("weft", "stop")
	for _, h := range hosts {
		for _, p := range h.Processes() {
			if strings.Contains(p, "weft") && !strings.HasPrefix(p, "weft wg ") {
				t.Errorf("%s still runs %s", h.Name, p)
			}
		}
	}
	mustPing(t, a, addrC, "across hosts without daemons")
	refuses(t, hosts[0], 3, "weft launch", "weft", "status")
	hosts[0].Run("weft", "launch")
	hosts[1].Run("weft", "launch")
	netlab.Eventually(t, "they are a mesh again", func() bool {
		for _, p := range status(t, hosts[0]).Peers {
			if p.State != "alive" {
				return false
			}
		}
		return true
	})
	_ = c
}

// before prepares a host as another program may have left it.
var before = map[string][]string{
	"a bare host": nil,
	"a host that forwards already": {
		"sysctl -q -w net.ipv4.ip_forward=1",
	},
	"a host with sysctls of its own": {
		"sysctl -q -w net.ipv4.conf.all.accept_redirects=0", "sysctl -q -w net.ipv4.conf.eth0.forwarding=1",
	},
	"a host with Docker's rules (nft)": {
		"iptables-nft -P FORWARD DROP", "iptables-nft -N DOCKER-USER", "iptables-nft -A DOCKER-USER -j RETURN", "iptables-nft -A FORWARD -j DOCKER-USER",
		"sysctl -q -w net.bridge.bridge-nf-call-iptables=1",
	},
	"a host that drops (iptables legacy)": {
		"iptables-legacy -P FORWARD DROP", "sysctl -q -w net.bridge.bridge-nf-call-iptables=1",
	},
	"a host that drops (nft)": {
		"nft 'add table inet mine; add chain inet mine f { type filter hook forward priority 0; policy drop; }'",
		"sysctl -q -w net.bridge.bridge-nf-call-iptables=1",
	},
}

func TestTrafficPassesOnAnyHostAndResetLeavesItAsItWas(t *testing.T) {
	for name, setup := range before {
		t.Run(name, func(t *testing.T) {
			lab := newLab(t)
			h1, h2 := lab.Host("h1"), lab.Host("h2")
			for _, cmd := range setup {
				h1.Run("bash", "-c", cmd)
			}
			was := h1.Snapshot()
			join := strings.Fields(h1.Run("weft", "launch"))
			h2.Run(join...)
			a, addrA := attached(t, h1, "a")
			_, addrB := attached(t, h1, "b")
			c, addrC := attached(t, h2, "c")
			h1.Run("weft", "expose")
			mustPing(t, a, addrB, "on one host")
			mustPing(t, a, addrC, "to another host")
			mustPing(t, c, addrA, "from another host")
			mustPing(t, a, h2.Addr.String(), "to the outside")
			mustPing(t, h2, addrA, "from another host itself")

			h1.Run("weft", "reset", "--yes")
			h1.Run("ip", "netns", "delete", "a")
			h1.Run("ip", "netns", "delete", "b")
			if d := netlab.Diff(was, h1.Snapshot()); d != "" {
				t.Errorf("after reset the host differs:\n%s", d)
			}
			netlab.Eventually(t, "the other host has taken over all address space", func() bool {
				s := status(t, h2)
				return len(s.IPAM.Shares) == 1 && s.IPAM.Unowned == 0 && s.IPAM.Shares[0].ID == s.Self.ID
			})
			mustPing(t, c, status(t, h2).Bridge.Gateway.Addr().String(), "the other host goes on")
		})
	}
}

func TestResetWithoutADaemon(t *testing.T) {
	lab := newLab(t)
	h, other := lab.Host("h1"), lab.Host("h2")
	was := h.Snapshot()
	other.Run(strings.Fields(h.Run("weft", "launch"))...)
	attached(t, h, "a")
	netlab.Eventually(t, "it has heard of the other", func() bool { return len(status(t, h).Peers) == 2 })
	kill9(t, h)
	refuses(t, h, 2, "--yes", "weft", "reset")
	refuses(t, h, 3, "--force", "weft", "reset", "--yes")
	h.Run("weft", "reset", "--yes", "--force")
	h.Run("ip", "netns", "delete", "a")
	if d := netlab.Diff(was, h.Snapshot()); d != "" {
		t.Errorf("after reset the host differs:\n%s", d)
	}
	h.Run("weft", "reset", "--yes") // nothing to do is no error
}

func TestTwoDaemonsInOneNamespaceLeaveEachOtherAlone(t *testing.T) {
	lab := newLab(t)
	h, other := lab.Host("h1"), lab.Host("h2")
	direct := []string{"--trusted-subnets", "192.0.2.0/24"}
	other.Run(append(strings.Fields(h.Run(append([]string{"weft", "launch"}, direct...)...)), direct...)...)
	answering(t, h, other)
	second := []string{"weft", "launch", "--state-dir", "/var/lib/weft2", "--socket", "/run/weft2/weft.sock", "--bridge", "w2",
		"--port", "7783", "--wireguard-port", "7785", "--vxlan-port", "7784"}
	refuses(t, h, 1, "overlaps", append(second, "--range", "10.32.0.0/13")...)
	h.Run(append(second, "--range", "10.64.0.0/12")...)
	netlab.Eventually(t, "the routes stay as they are", func() bool {
		return !strings.Contains(h.Try("timeout", "2", "ip", "monitor", "route").Stdout, "proto 87")
	})
	left := h.Run("bash", "-c", "ip route show proto 87 | grep -v 10.64")
	if !strings.Contains(left, "via 192.0.2.") {
		t.Errorf("there is no direct route:\n%s", left)
	}
	h.Run("weft", "reset", "--yes", "--socket", "/run/weft2/weft.sock")
	netlab.Eventually(t, "a reset of one leaves the routes of the other", func() bool {
		return h.Run("bash", "-c", "ip route show proto 87") == left
	})
}

func TestResetAfterTheStateDirectoryWasDeleted(t *testing.T) {
	h := newLab(t).Host("h1")
	// The kernel says which process has the device, whatever became of its lock.
	carrier := func() string {
		return h.Try("bash", "-c", `for p in $(grep -ls '^iff:.weft-wg$' /proc/[0-9]*/fdinfo/* | cut -d/ -f3); do
			[ "$(readlink /proc/$p/ns/net)" = "$(readlink /proc/self/ns/net)" ] && echo $p
		done`).Stdout
	}
	for _, running := range []bool{false, true} {
		h.Run("weft", "launch", "--wireguard", "userspace")
		if carrier() == "" {
			t.Fatal("no process has the device")
		}
		if running {
			h.Run("rm", "-rf", "/var/lib/weft")
			h.Run("weft", "stop", "--all")
			if left := carrier(); left != "" {
				t.Errorf("after stop --all there is still %s", left)
			}
		} else {
			h.Run("weft", "stop")
			h.Run("rm", "-rf", "/var/lib/weft")
		}
		refuses(t, h, 1, "weft reset --force", "weft", "launch")
		refuses(t, h, 1, "no store", "weft", "reset", "--yes")
		h.Run("weft", "reset", "--yes", "--force")
		if left := carrier(); left != "" {
			t.Errorf("after a reset there is still %s", left)
		}
	}
	for _, look := range []string{"ip -o link show type bridge", "ip route show proto 87", "nft list tables | grep weft"} {
		if left := h.Try("bash", "-c", look).Stdout; left != "" {
			t.Errorf("%s: %s", look, left)
		}
	}
	h.Run("weft", "launch")
}

func TestFailedLaunchLeavesNothingBehind(t *testing.T) {
	lab := newLab(t)
	founder, h := lab.Host("founder"), lab.Host("h")
	join := strings.Fields(founder.Run("weft", "launch"))
	token := join[len(join)-1]
	other := lab.Host("other")
	otherJoin := strings.Fields(other.Run("weft", "launch"))
	otherToken := otherJoin[len(otherJoin)-1]
	h.Start("busybox", "httpd", "-f", "-p", "7001")
	h.Run("ip", "route", "add", "10.40.1.0/24", "via", "192.0.2.99")
	h.Run("bash", "-c", "mkdir /run/nonft; for p in ip bash sleep; do ln -s $(command -v $p) /run/nonft/; done")
	h.Run("ip", "link", "add", "mine", "type", "bridge")
	h.Run("ip", "link", "add", "theirs", "type", "vxlan", "id", "1", "dstport", "7002", "local", h.Addr.String())
	h.Run("ip", "link", "set", "theirs", "up")
	netlab.Eventually(t, "port 7001 is taken", func() bool { return strings.Contains(h.Run("cat", "/proc/net/tcp", "/proc/net/tcp6"), "1B59") })
	was := h.Snapshot()
	weft := strings.TrimSpace(h.Run("bash", "-c", "command -v weft"))
	free := []string{"--range", "10.128.0.0/12"}
	for name, tc := range map[string]struct {
		code int
		want string
		args []string
	}{
		"range overlaps a route":            {1, "overlaps the host's route to 10.40.1.0/24 on eth0", []string{"weft", "launch"}},
		"mesh's range overlaps a route":     {1, "overlaps the host's route to 10.40.1.0/24", join},
		"port taken":                        {1, "TCP port 7001 is taken", append([]string{"weft", "launch", "--port", "7001"}, free...)},
		"VXLAN port taken":                  {1, "UDP port 7002, which the mesh uses for vxlan, is taken", append([]string{"weft", "launch", "--encap", "vxlan", "--vxlan-port", "7002"}, free...)},
		"WireGuard port taken":              {1, "UDP port 7002, which the mesh uses for wireguard, is taken", append([]string{"weft", "launch", "--wireguard-port", "7002"}, free...)},
		"gossip on WireGuard's port":        {2, "gossip and WireGuard cannot share port 6785", append([]string{"weft", "launch", "--port", "6785"}, free...)},
		"WireGuard on the probes' port":     {2, "cannot share port 6786", append([]string{"weft", "launch", "--wireguard-port", "6786"}, free...)},
		"another transport than the mesh's": {1, "the mesh's encapsulation is auto, not vxlan", append(join, "--encap", "vxlan")},
		"no nft":                            {1, "apt-get install nftables", append([]string{"env", "PATH=/run/nonft", weft, "launch"}, free...)},
		"bridge's name is another device's": {1, "named mine already", append([]string{"weft", "launch", "--bridge", "mine"}, free...)},
		"foreign mesh":                      {1, "belongs to mesh", []string{"weft", "launch", "--join", "192.0.2.1", "--token", otherToken}},
		"wrong secret":                      {2, "mistyped", []string{"weft", "launch", "--join", "192.0.2.1", "--token", token[:len(token)-1] + flip(token)}},
		"nobody there":                      {1, "no weft answers at 192.0.2.77:6783", []string{"weft", "launch", "--join", "192.0.2.77", "--token", token}},
		"token without a peer":              {2, "without a peer to join", []string{"weft", "launch", "--token", token}},
		"peer without a token":              {2, "takes its token", []string{"weft", "launch", "--join", "192.0.2.1"}},
		"address of another host":           {2, "not on any interface", append([]string{"weft", "launch", "--advertise", "192.0.2.1"}, free...)},
		"range with host bits":              {2, "did you mean 10.128.0.0/12", []string{"weft", "launch", "--range", "10.128.0.1/12"}},
		"range too small":                   {2, "is not between", []string{"weft", "launch", "--range", "10.128.0.0/31"}},
		"no range":                          {2, "is not a prefix", []string{"weft", "launch", "--range", "lots"}},
		"another range than the mesh's":     {1, "the mesh's range is 10.32.0.0/12", append(join, free...)},
		"not root":                          {1, "takes root", []string{"setpriv", "--reuid=65534", "--clear-groups", weft, "launch"}},
		"environment":                       {2, "WEFT_PORT", []string{"env", "WEFT_PORT=many", weft, "launch"}},
	} {
		t.Run(name, func(t *testing.T) {
			refuses(t, h, tc.code, tc.want, tc.args...)
			if d := netlab.Diff(was, h.Snapshot()); d != "" {
				t.Errorf("the host differs:\n%s", d)
			}
		})
	}
	t.Run("the refusing side says so, too", func(t *testing.T) {
		found := false
		for _, r := range status(t, founder).Refused {
			found = found || r.From == "192.0.2.2" && r.Code == "foreign-mesh" && strings.Contains(r.Reason, "this host belongs to mesh")
		}
		if !found {
			t.Errorf("refusals of the founder: %+v", status(t, founder).Refused)
		}
	})
}

// flip is another last character for a token.
func flip(token string) string {
	if strings.HasSuffix(token, "a") {
		return "b"
	}
	return "a"
}

func TestLaunchInTheForegroundEndsCleanlyOnSIGTERM(t *testing.T) {
	h := netlab.New(t).Host("h")
	r := h.Try("timeout", "--preserve-status", "-s", "TERM", "6", "weft", "launch", "--foreground")
	// What it prints is logged, and must not have the token in it.
	if r.Code != 0 || !strings.Contains(r.Stderr, "weft token show") || strings.Contains(r.Stdout+r.Stderr, "weft1-") {
		t.Errorf("exit code %d, stdout %q, stderr:\n%s", r.Code, r.Stdout, r.Stderr)
	}
	refuses(t, h, 3, "no weft daemon answers", "weft", "status")
	h.Run("weft", "launch") // it is the same peer
	if n := len(status(t, h).Peers); n != 1 {
		t.Errorf("%d peers", n)
	}
}

func TestInterruptedLaunchUndoesItself(t *testing.T) {
	lab := newLab(t)
	far, h := lab.Host("far"), lab.Host("h")
	token := strings.Fields(far.Run("weft", "launch"))[5]
	lab.Partition([]*netlab.Host{far}, []*netlab.Host{h})
	was := h.Snapshot()
	if r := h.Try("timeout", "--foreground", "--preserve-status", "-s", "INT", "1", "weft", "launch", "--join", far.Addr.String(), "--token", token); r.Code != 1 {
		t.Errorf("exit code %d: %s", r.Code, r.Stderr)
	}
	netlab.Eventually(t, "nothing is left", func() bool { return netlab.Diff(was, h.Snapshot()) == "" })
}

func TestOfTwoLaunchesAtOnceOneIsRefused(t *testing.T) {
	lab := newLab(t)
	h := lab.Host("h")
	results := make([]netlab.Result, 4)
	var wg sync.WaitGroup
	for i := range results {
		wg.Go(func() { results[i] = h.Try("weft", "launch") })
	}
	wg.Wait()
	ok := 0
	for _, r := range results {
		if r.Code == 0 {
			ok++
		} else if r.Code != 1 || !strings.Contains(r.Stderr, "in use by another weft daemon") {
			t.Errorf("a refused launch: exit code %d: %s", r.Code, r.Stderr)
		}
	}
	if ok != 1 {
		t.Errorf("%d of %d launches went through", ok, len(results))
	}
	refuses(t, h, 1, "in use by another weft daemon (pid ", "weft", "launch")
	h.Run("weft", "status")
}

func TestLaunchAgainIsAsTheHostWasTold(t *testing.T) {
	lab := newLab(t)
	h1, h2 := lab.Host("h1"), lab.Host("h2")
	h1.Run("ip", "address", "add", "192.0.2.101/24", "dev", "eth0")
	join := strings.Fields(h1.Run("weft", "launch", "--name", "first", "--port", "7000", "--advertise", "192.0.2.101", "--bridge", "wb", "--mtu", "1400", "--masquerade=false"))
	h2.Run(join...)
	look := func() string {
		s := status(t, h1)
		return fmt.Sprint(s.Self.Name, s.Self.Gossip, s.Bridge, strings.Contains(h1.Run("nft", "list", "ruleset"), "masquerade"))
	}
	was := look()
	for _, want := range []string{"first", "192.0.2.101:7000", "wb", "1400", "false"} {
		if !strings.Contains(was, want) {
			t.Errorf("%q is not in %s", want, was)
		}
	}
	h1.Run("weft", "stop")
	h1.Run("weft", "launch")
	if is := look(); is != was {
		t.Errorf("after stop and launch: %s\nwas: %s", is, was)
	}
	h1.Run("weft", "stop")
	refuses(t, h1, 1, "bridge is wb", "weft", "launch", "--bridge", "other")
	h1.Run("weft", "launch", "--masquerade")
	if !strings.Contains(h1.Run("nft", "list", "ruleset"), "masquerade") {
		t.Error("what is given anew does not count")
	}
	h2.Run("weft", "stop")
	h2.Run(join...) // the line that it joined by starts it again, too
}

func TestRebootKeepsTheAddressSpace(t *testing.T) {
	_, hosts := launched(t, 2, "--release-after", "2s")
	c, addrC := attached(t, hosts[1], "c")
	attached(t, hosts[0], "a")
	prefixes := fmt.Sprint(status(t, hosts[0]).Self.Prefixes)
	kill9(t, hosts[0])
	// What a restart of the machine does to the kernel's state and /run.
	hosts[0].Run("bash", "-c", "ip netns delete a; ip link delete weft; ip link delete weft-wg; nft flush ruleset; rm -rf /run/weft /run/wireguard; sysctl -q -w net.ipv4.ip_forward=0")
	hosts[0].Run("weft", "launch")
	if got := fmt.Sprint(status(t, hosts[0]).Self.Prefixes); got != prefixes {
		t.Errorf("after the restart it holds %s; had %s", got, prefixes)
	}
	b, addrB := attached(t, hosts[0], "b")
	mustPing(t, b, addrC, "a new container to another host")
	mustPing(t, c, addrB, "and back")
	netlab.Eventually(t, "the container that did not come back is forgotten", func() bool {
		return hosts[0].Run("weft", "ps", "-o", "name") == "b"
	})
}
