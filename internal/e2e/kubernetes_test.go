package e2e

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/weft-net/weft/internal/netlab"
)

// kubeCluster makes nodes that run the DaemonSet's pod. All are told the same, and
// the first of them is the only founder; it starts last.
func kubeCluster(t *testing.T, binary, tag string, config map[string]string) (*netlab.Lab, []*kubeNode) {
	t.Helper()
	cgroup := fmt.Sprintf("weft-e2e-%d-%d", os.Getpid(), time.Now().UnixNano())
	t.Cleanup(func() { removeCgroups(t, cgroup) }) // before the lab's, so that it comes after
	lab := netlab.New(t)
	hosts := []*netlab.Host{lab.Host("n1"), lab.Host("n2")}
	token := hosts[0].Run("weft", "token", "new")
	archive := image(t, binary, tag)
	nodes := make([]*kubeNode, len(hosts))
	for i := len(hosts) - 1; i >= 0; i-- {
		n := newKubeNode(t, hosts[i], cgroup)
		n.token, n.config = token, map[string]string{"WEFT_FOUNDERS": hosts[0].Addr.String()}
		for key := range manifest(t)["ConfigMap"].Data {
			if key != "WEFT_FOUNDERS" {
				n.config[key] = manifest(t)["ConfigMap"].Data[key]
			}
		}
		for key, value := range config {
			n.config[key] = value
		}
		n.load(archive)
		if i == 0 && nodes[1].isReady(nodes[1].newest()) {
			t.Error("a node is ready before there is a founder")
		}
		n.start(tag)
		nodes[i] = n
	}
	for _, n := range nodes {
		n.awaitReady(n.newest())
		// The network's file follows at once, and runtimes look for it again and again.
		netlab.Eventually(t, n.Name+"'s runtime knows the network", func() bool { return n.Try("test", "-e", kubeConf+"/10-weft.conflist").Code == 0 })
		netlab.Eventually(t, n.Name+" has a link to the other", func() bool {
			links := status(t, n.Host).Links
			return len(links) == len(nodes)-1 && links[0].Reason == ""
		})
	}
	return lab, nodes
}

func weftBinary(t *testing.T, h *netlab.Host) string {
	t.Helper()
	return h.Run("which", "weft")
}

func TestDaemonSetOnTwoNodes(t *testing.T) {
	second := image(t, newer(t, "7.7.2"), "weft:second")
	scratch := netlab.New(t).Host("scratch")
	_, nodes := kubeCluster(t, weftBinary(t, scratch), "weft:first", nil) // by userspace WireGuard
	if s := status(t, nodes[0].Host); len(s.IPAM.Shares) != 2 || len(s.IPAM.Voters) == 0 {
		t.Errorf("the mesh is %+v", s.IPAM)
	}
	a, b := nodes[0].pod("a"), nodes[1].pod("b")
	mustPing(t, a, b.addr, "a pod to one on another node")
	mustPing(t, b, a.addr, "and back")
	probes := manifest(t)["DaemonSet"].Spec.Template.Spec.Containers[0]
	if r := nodes[0].probe(nodes[0].newest(), probes.LivenessProbe); r.Code != 0 {
		t.Errorf("the liveness probe says %s%s", r.Stdout, r.Stderr)
	}

	t.Run("an update of the DaemonSet loses no ping", func(t *testing.T) {
		there := pinging(t, a.Container, b.addr, "from a node that is updated")
		back := pinging(t, b.Container, a.addr, "to a node that is updated")
		for _, n := range nodes {
			n.load(second)
			n.update("weft:second")
			if n.Try("test", "-e", kubeConf+"/10-weft.conflist").Code != 0 {
				t.Error("the runtime does not find the network after the pod was replaced")
			}
			if s := status(t, n.Host); s.Version.Software != "7.7.2" {
				t.Errorf("status says %+v", s.Version)
			}
		}
		there()
		back()
		c := nodes[0].pod("c")
		mustPing(t, c, b.addr, "a pod that was made after the update")
		nodes[0].cni("del", "c")
	})
	t.Run("a new daemon that fails gives the node back to the old one", func(t *testing.T) {
		n := nodes[0]
		old := n.newest()
		n.start("weft:first")
		failing := n.newest()
		n.awaitReady(failing)
		n.mustDocker("rm", "--force", failing)
		n.pods = n.pods[:len(n.pods)-1]
		n.awaitReady(old)
		if s := status(t, n.Host); s.Version.Software != "7.7.2" {
			t.Errorf("status says %+v", s.Version)
		}
		netlab.Eventually(t, "a pod reaches another node again", func() bool { return netlab.Pings(a, b.addr) })
	})
	t.Run("a pod that is deleted while there is no daemon is gone with the next", func(t *testing.T) {
		n := nodes[1]
		n.pod("d")
		n.end()
		n.cni("del", "d")
		n.start("weft:second")
		n.awaitReady(n.newest())
		if list := listed(t, n.Host); len(list) != 1 {
			t.Errorf("there are %+v", list)
		}
		mustPing(t, b, a.addr, "a pod that stays")
	})
	t.Run("a reset leaves nothing on the node", func(t *testing.T) {
		n := nodes[1]
		n.cni("del", "b")
		const killed = 137 // the command, by the end of the container in which it is
		if r := n.docker("exec", n.newest(), "/usr/bin/weft", "reset", "--yes"); r.Code != 0 && r.Code != killed {
			t.Errorf("reset: %s", r.Stderr)
		}
		netlab.Eventually(t, "the daemon has ended", func() bool {
			return n.mustDocker("inspect", "--format", "{{.State.Status}}", n.newest()) == "exited"
		})
		left := n.Run("bash", "-c", "ls "+kubeBin+" "+kubeConf+" /var/lib/weft /run/weft; ip -o link show type bridge; nft list tables")
		if strings.Contains(left, "weft-") || strings.Contains(left, "conflist") || strings.Contains(left, ": weft") || strings.Contains(left, "weft.") {
			t.Errorf("left: %s", left)
		}
	})
}
