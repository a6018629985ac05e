package e2e

import (
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/weft-net/weft/api"
	"github.com/weft-net/weft/internal/netlab"
)

// gap is the longest time without an answer in what `ping -D -i` printed.
func gap(t *testing.T, ping string) time.Duration {
	t.Helper()
	var last, longest float64
	for line := range strings.Lines(ping) {
		stamp, _, ok := strings.Cut(strings.TrimPrefix(line, "["), "]")
		at, err := strconv.ParseFloat(stamp, 64)
		if !ok || err != nil || !strings.Contains(line, "ttl=") {
			continue
		}
		if last != 0 {
			longest = max(longest, at-last)
		}
		last = at
	}
	if last == 0 {
		t.Fatalf("no answer at all:\n%s", ping)
	}
	return time.Duration(longest * float64(time.Second))
}

// dropped is what others do to a firewall, by what it is.
var dropped = []struct{ what, cmd string }{
	{"iptables-nft: policy", "iptables-nft -P FORWARD DROP"},
	{"iptables-nft: flush", "iptables-nft -F"},
	{"iptables-nft: restore", "printf '*filter\\n:FORWARD DROP\\nCOMMIT\\n' | iptables-nft-restore"},
	{"iptables-legacy: policy", "iptables-legacy -P FORWARD DROP"},
	{"iptables-legacy: flush", "iptables-legacy -F"},
	{"iptables-legacy: restore", "printf '*filter\\n:FORWARD DROP\\nCOMMIT\\n' | iptables-legacy-restore"},
	{"ufw (legacy)", "printf '*filter\\n:FORWARD DROP\\n:ufw-before-forward -\\n:ufw-reject-forward -\\n-A FORWARD -j ufw-before-forward\\n-A FORWARD -j ufw-reject-forward\\n-A ufw-before-forward -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\\n-A ufw-reject-forward -j REJECT\\nCOMMIT\\n' | iptables-legacy-restore"},
	{"firewalld", "nft 'table inet firewalld { chain filter_FORWARD { type filter hook forward priority filter + 10; policy accept; ct status dnat accept; reject with icmpx admin-prohibited; }; }'"},
	{"firewalld reloads", "nft 'flush table inet firewalld; table inet firewalld { chain filter_FORWARD { ct status dnat accept; reject with icmpx admin-prohibited; }; }'"},
	{"somebody's nft", "nft 'add table inet theirs; add chain inet theirs f { type filter hook forward priority 10; policy drop; }'"},
	{"the whole ruleset goes", "nft flush ruleset"},
	{"forwarding is turned off", "sysctl -q -w net.ipv4.ip_forward=0"},
	{"proxy ARP is turned off", "sysctl -q -w net.ipv4.conf.weft.proxy_arp=0; ip neigh flush dev weft"},
	{"filtering of bridges is turned on anew", "sysctl -q -w net.bridge.bridge-nf-call-iptables=0; sysctl -q -w net.bridge.bridge-nf-call-iptables=1"},
}

func TestTrafficFlowsSoonAfterOthersChangeTheFirewall(t *testing.T) {
	_, hosts := launched(t, 2, "--encap", "vxlan")
	h := hosts[0]
	a, _ := attached(t, h, "a")
	_, addrB := attached(t, h, "b")
	_, addrC := attached(t, hosts[1], "c")
	h.Run("weft", "publish", "b", "8080:80")
	h.Run("sysctl", "-q", "-w", "net.bridge.bridge-nf-call-iptables=1")
	flows := func() bool { return netlab.Pings(a, addrB) && netlab.Pings(a, addrC) }
	for _, d := range dropped {
		t.Run(d.what, func(t *testing.T) {
			stops := []func() string{a.Start("ping", "-D", "-i", "0.02", "-W", "1", addrB), a.Start("ping", "-D", "-i", "0.02", "-W", "1", addrC)}
			h.Run("bash", "-c", d.cmd)
			netlab.Eventually(t, "traffic flows", flows)
			for i, stop := range stops {
				// How long it takes is measured, not judged: the machine may be busy.
				t.Logf("%s, longest silence: %s", []string{"on the host", "to another"}[i], gap(t, stop()).Round(time.Millisecond))
			}
		})
	}
	h.Run("bash", "-c", "iptables-legacy -F; iptables-legacy -X; iptables-legacy -P FORWARD ACCEPT; nft flush ruleset")
	h.Run("weft", "reset", "--yes")
	if rules := h.Run("bash", "-c", "nft list ruleset; iptables-legacy -S"); strings.Contains(rules, "weft") {
		t.Errorf("after reset:\n%s", rules)
	}
}

// docker starts the real dockerd on a host, and returns what stops it.
func dockerBeside(t *testing.T, h *netlab.Host) (stop func()) {
	t.Helper()
	end := h.Start("bash", "-c", `mkdir -p /run/docker-lab && exec dockerd --data-root /run/docker-lab/data --exec-root /run/docker-lab/exec \
		-p /run/docker-lab/pid -H unix:///run/docker-lab/sock --bip 172.31.7.1/24 --storage-driver vfs`)
	netlab.Eventually(t, "dockerd answers", func() bool { return h.Try("docker", "-H", "unix:///run/docker-lab/sock", "ps").Code == 0 })
	return func() {
		h.Run("bash", "-c", "kill $(cat /run/docker-lab/pid)")
		end()
	}
}

func TestTrafficFlowsBesideTheRealDockerHoweverItComesAndGoes(t *testing.T) {
	lab, hosts := launched(t, 2, "--encap", "vxlan")
	outside := lab.Host("outside")
	h := hosts[0]
	a, _ := attached(t, h, "a")
	b, addrB := attached(t, h, "b")
	_, addrC := attached(t, hosts[1], "c")
	serveTCP(t, b, 80)
	h.Run("weft", "publish", "b", "8080:80")
	h.Run("sysctl", "-q", "-w", "net.bridge.bridge-nf-call-iptables=1")
	flows := func() bool {
		return netlab.Pings(a, addrB) && netlab.Pings(a, addrC) && askTCP(outside, h.Addr.String(), 8080) != ""
	}
	var stop func()
	for _, step := range []struct {
		what string
		do   func()
	}{
		{"it starts", func() { stop = dockerBeside(t, h) }},
		{"it is started anew", func() { stop(); stop = dockerBeside(t, h) }},
		{"it makes a network", func() {
			h.Run("docker", "-H", "unix:///run/docker-lab/sock", "network", "create", "--subnet", "172.31.8.0/24", "n")
		}},
		{"its rules are flushed and it is started anew", func() {
			stop()
			h.Run("bash", "-c", "iptables -F; iptables -X; iptables -t nat -F")
			stop = dockerBeside(t, h)
		}},
		{"it stops", func() { stop() }},
	} {
		pings := a.Start("ping", "-D", "-i", "0.02", "-W", "1", addrC)
		step.do()
		netlab.Eventually(t, "traffic flows when "+step.what, flows)
		t.Logf("%s: longest silence %s", step.what, gap(t, pings()).Round(time.Millisecond))
		if step.what != "it stops" { // it goes on to make its rules after it has answered
			netlab.Eventually(t, "weft has rules in DOCKER-USER when "+step.what, func() bool {
				return strings.Contains(h.Run("iptables", "-S", "DOCKER-USER"), `--comment "weft weft"`)
			})
		}
	}
	h.Run("weft", "reset", "--yes")
	if rules := h.Run("iptables-save"); strings.Contains(rules, "weft") || !strings.Contains(rules, "DOCKER-USER") {
		t.Errorf("after reset:\n%s", rules)
	}
}

func TestSpoofedPacketsAreToldOf(t *testing.T) {
	_, hosts := launched(t, 1)
	h := hosts[0]
	a, _ := attached(t, h, "a")
	_, addrB := attached(t, h, "b")
	if s := status(t, h); s.Bridge.Spoofed != 0 {
		t.Errorf("%d packets before any was sent", s.Bridge.Spoofed)
	}
	a.Run("ip", "address", "add", "10.32.0.200/12", "dev", "eth0")
	if r := a.Try("ping", "-c", "1", "-W", "1", "-I", "10.32.0.200", addrB); r.Code == 0 {
		t.Error("by an address of its own choice a container reaches another")
	}
	netlab.Eventually(t, "the packets are told of", func() bool {
		s := status(t, h)
		return s.Bridge.Spoofed > 0 && slices.ContainsFunc(s.Health, func(w api.Warning) bool { return w.Code == "spoofed-packets" })
	})
}
