package e2e

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weft-net/weft/api"
	"github.com/weft-net/weft/internal/netlab"
)

func TestWhatOthersRemoveComesBack(t *testing.T) {
	_, hosts := launched(t, 2, "--encap", "vxlan")
	a, _ := attached(t, hosts[0], "a")
	_, addrB := attached(t, hosts[0], "b")
	_, addrC := attached(t, hosts[1], "c")
	outside := hosts[1].Addr.String()
	h := hosts[0]
	was := followed(t, h)
	veth := strings.Fields(h.Run("bash", "-c", "ip -o link show master weft | awk -F'[ :@]+' '{print $2}'"))[0]
	for name, cmd := range map[string]string{
		"a route":            "ip route delete 10.40.0.0/13",
		"the local route":    "ip route delete 10.32.0.0/13",
		"the last resort":    "ip route delete unreachable 10.32.0.0/12",
		"the gateway":        "ip -4 address flush dev weft",
		"a neighbour":        "ip neigh flush dev weft-vx nud permanent",
		"forwarding entries": "bridge fdb show dev weft-vx | awk '{print $1, $3}' | while read mac _; do bridge fdb del $mac dev weft-vx; done",
		"the tunnel":         "ip link delete weft-vx",
		"the bridge":         "ip link delete weft",
		"a port":             "ip link delete " + veth,
		"a port's bridge":    "ip link set " + veth + " nomaster",
		"a port's state":     "ip link set " + veth + " down",
		"the bridge's state": "ip link set weft down",
		"the firewall":       "nft delete table inet weft",
		"a firewall's rule":  "nft flush chain inet weft postrouting",
		"proxy ARP":          "sysctl -q -w net.ipv4.conf.weft.proxy_arp=0",
		"forwarding":         "sysctl -q -w net.ipv4.ip_forward=0",
	} {
		t.Run(name, func(t *testing.T) {
			h.Run("bash", "-c", cmd)
			netlab.Eventually(t, "traffic passes", func() bool {
				return netlab.Pings(a, addrB) && netlab.Pings(a, addrC) && netlab.Pings(a, outside)
			})
			diff := ""
			defer func() {
				if t.Failed() {
					t.Logf("still differs:\n%s", diff)
				}
			}()
			netlab.Eventually(t, "everything is as it was", func() bool { diff = settledDiff(was, h.Snapshot()); return diff == "" })
		})
	}
}

// followed is how a host is that has followed all that its peers say of themselves: where their
// gateways are comes a moment after the links.
func followed(t *testing.T, h *netlab.Host) (is netlab.Snapshot) {
	t.Helper()
	netlab.Eventually(t, h.Name+" has followed its peers", func() bool {
		before := h.Snapshot()
		known := !slices.ContainsFunc(status(t, h).Peers, func(p api.Peer) bool { return !p.Gateway.IsValid() })
		time.Sleep(500 * time.Millisecond)
		is = h.Snapshot()
		return known && netlab.Diff(before, is) == ""
	})
	return is
}

// settledDiff leaves out what has to differ after a device was made anew: its
// index, and random addresses of ends.
func settledDiff(was, is netlab.Snapshot) string {
	for _, s := range []netlab.Snapshot{was, is} {
		for _, volatile := range []string{"links", "fdb", "addresses", "routes6"} {
			delete(s, volatile)
		}
	}
	return netlab.Diff(was, is)
}

func TestDropsThatAppearUnderUsAreAnswered(t *testing.T) {
	_, hosts := launched(t, 2)
	a, _ := attached(t, hosts[0], "a")
	_, addrB := attached(t, hosts[0], "b")
	_, addrC := attached(t, hosts[1], "c")
	h := hosts[0]
	h.Run("sysctl", "-q", "-w", "net.bridge.bridge-nf-call-iptables=1")
	flows := func() bool { return netlab.Pings(a, addrB) && netlab.Pings(a, addrC) }
	for name, cmd := range map[string]string{
		"policy":            "iptables-nft -P FORWARD DROP",
		"flush":             "iptables-nft -P FORWARD DROP; iptables-nft -F",
		"Docker starts":     "iptables-nft -N DOCKER-USER; iptables-nft -A DOCKER-USER -j RETURN; iptables-nft -I FORWARD -j DOCKER-USER; iptables-nft -P FORWARD DROP",
		"both of them":      "iptables-legacy -P FORWARD DROP; iptables-nft -P FORWARD DROP",
		"somebody's nft":    "nft 'add table inet theirs; add chain inet theirs f { type filter hook forward priority 10; policy drop; }'",
		"the whole ruleset": "nft flush ruleset",
	} {
		t.Run(name, func(t *testing.T) {
			h.Run("bash", "-c", cmd)
			netlab.Eventually(t, "traffic flows", flows)
		})
	}
}

func TestPartitionHealsByItself(t *testing.T) {
	lab, hosts := launched(t, 4)
	left, right := hosts[:2], hosts[2:]
	lab.Partition(left, right)
	netlab.Eventually(t, "each side sees the other fail", func() bool {
		failed := 0
		for _, p := range status(t, hosts[0]).Peers {
			if p.State == "failed" {
				failed++
			}
		}
		return failed == 2
	})
	seen := map[string]bool{}
	var cs []netlab.Pinger
	var addrs []string
	for i, h := range hosts {
		c, addr := attached(t, h, fmt.Sprintf("c%d", i))
		if seen[addr] {
			t.Errorf("%s was given twice", addr)
		}
		seen[addr] = true
		cs, addrs = append(cs, c), append(addrs, addr)
	}
	lab.Heal()
	for i, c := range cs {
		for j, addr := range addrs {
			netlab.Eventually(t, fmt.Sprintf("c%d reaches c%d", i, j), func() bool { return netlab.Pings(c, addr) })
		}
	}
	for _, h := range hosts {
		netlab.Eventually(t, "all are alive to "+h.Name, func() bool {
			for _, p := range status(t, h).Peers {
				if p.State != "alive" {
					return false
				}
			}
			return true
		})
	}
}

func TestMeshFormsOnALossyUnderlay(t *testing.T) {
	lab := newLab(t)
	h1, h2 := lab.Host("h1"), lab.Host("h2")
	h1.Loss(15)
	h2.Loss(15)
	join := strings.Fields(h1.Run("weft", "launch"))
	h2.Run(join...)
	a, _ := attached(t, h1, "a")
	_, addrB := attached(t, h2, "b")
	netlab.Eventually(t, "containers reach each other", func() bool { return netlab.Pings(a, addrB) })
}

func TestManyAtOnceLeaveNothingBehind(t *testing.T) {
	_, hosts := launched(t, 2)
	h := hosts[0]
	attached(t, h, "stays") // a bridge without any port is without a carrier, too
	free := status(t, h).IPAM.Free
	was := followed(t, h)
	var wg sync.WaitGroup
	var mu sync.Mutex
	addrs := map[string]bool{}
	const n = 30
	for i := range n {
		name := fmt.Sprintf("m%d", i)
		h.Container(name)
		wg.Go(func() {
			addr := h.Run("weft", "attach", name)
			mu.Lock()
			addrs[addr] = true
			mu.Unlock()
		})
	}
	wg.Wait()
	if len(addrs) != n {
		t.Errorf("%d addresses for %d containers", len(addrs), n)
	}
	for i := range n {
		wg.Go(func() { h.Run("weft", "detach", fmt.Sprintf("m%d", i)) })
	}
	wg.Wait()
	for i := range n {
		h.Run("ip", "netns", "delete", fmt.Sprintf("m%d", i))
	}
	if got := status(t, h).IPAM.Free; got != free {
		t.Errorf("%d addresses are free; were %d", got, free)
	}
	if d := netlab.Diff(was, h.Snapshot()); d != "" {
		t.Errorf("the host differs:\n%s", d)
	}
}

func TestAddressOfAContainerThatVanishedIsFreed(t *testing.T) {
	_, hosts := launched(t, 1, "--release-after", "2s")
	h := hosts[0]
	free := status(t, h).IPAM.Free
	attached(t, h, "gone")
	h.Run("ip", "netns", "delete", "gone")
	netlab.Eventually(t, "its address is free again", func() bool { return status(t, h).IPAM.Free == free })
	if out := h.Run("weft", "ps", "-o", "name"); out != "" {
		t.Errorf("still listed: %s", out)
	}
}

func TestBadInputIsOneLineAndChangesNothing(t *testing.T) {
	_, hosts := launched(t, 1)
	h := hosts[0]
	h.Container("c")
	was := h.Snapshot()
	for _, tc := range []struct {
		code int
		want string
		args string
	}{
		{2, "unknown command", "atach c"},
		{2, "unknown flag", "attach --foo c"},
		{2, "requires at least 1 arg(s)", "attach"},
		{2, "is not an address", "attach c 10.32.0.9 more"},
		{1, "no host \"nobody\" is known", "rmpeer nobody --yes"},
		{2, "cannot remove itself", "rmpeer h1 --yes"},
		{2, "requires at least 1 arg(s)", "rmpeer --yes"},
		{2, "is not a network", "attach c --subnet 10.32.0.1/16"},
		{2, "need one token", "launch --founders 192.0.2.1,192.0.2.2"},
		{2, "too soon", "launch --reclaim-after 1s"},
		{1, "there is no container none", "attach none"},
		{1, "there is no container 999999", "attach 999999"},
		{1, "is not a network namespace", "attach /etc/passwd"},
		{2, "host's own network namespace", "attach 1"},
		{2, "is not an address", "attach c 10.32.0"},
		{2, "is not one of this network's", "attach c fd00::1"},
		{2, "interface name", "attach c --ifname a-name-that-is-too-long"},
		{2, "it is none of", "attach c -o yaml"},
		{2, "it is none of", "ps -o xml"},
		{1, "is not attached", "detach c"},
		{1, "is not attached", "ps none"},
		{2, "invalid argument", "status everything"},
		{2, "is not an address", "expose here"},
		{1, "is not exposed", "hide 10.32.0.9"},
		{2, "outside of the range", "expose 192.0.2.9"},
		{2, "say what to do", "token"},
		{2, "say --yes", "reset"},
		{2, "invalid argument", "status --timeout soon"},
		{3, "no weft daemon answers at /run/none.sock", "status --socket /run/none.sock"},
		{2, "bridge's name", "launch --bridge a/b"},
		{2, "is not known", "launch --encap carrier-pigeon"},
		{2, "gossip port is 0", "launch --port 0"},
		{2, "invalid argument", "launch --port 70000"},
		{2, "is not a host", "launch --join a/b"},
	} {
		refuses(t, h, tc.code, tc.want, append([]string{"weft"}, strings.Fields(tc.args)...)...)
	}
	if d := netlab.Diff(was, h.Snapshot()); d != "" {
		t.Errorf("the host differs:\n%s", d)
	}
}
