package e2e

import (
	"strings"
	"testing"

	"github.com/weft-net/weft/api"
	"github.com/weft-net/weft/internal/netlab"
)

// podmanConf makes podman run where no cgroups may be managed and no limits raised.
const podmanConf = `[engine]
runtime="runc"
cgroup_manager="cgroupfs"
events_logger="file"
[containers]
default_ulimits=["nofile=1024:1024","nproc=1024:1024"]
`

// podman runs it on a host, with images of its own; -- stands for where flags
// of a container that begins have to be.
func podman(h *netlab.Host, args ...string) netlab.Result {
	var full []string
	for _, a := range args {
		if a == "--" {
			full = append(full, "--cgroup-parent", "/"+parent())
			continue
		}
		full = append(full, a)
	}
	return h.Try(append([]string{"podman"}, full...)...)
}

func startPodman(t *testing.T, h *netlab.Host) {
	t.Helper()
	h.Run("bash", "-c", "cat >/run/containers.conf <<'E'\n"+podmanConf+"E\nmount --bind /run/containers.conf /etc/containers/containers.conf 2>/dev/null || "+
		"{ mkdir -p /run/etc-containers && cp -a /etc/containers/. /run/etc-containers/ && mv /run/containers.conf /run/etc-containers/ && mount --bind /run/etc-containers /etc/containers; }")
	h.Run("bash", "-c", "tar -C /run/root -c . | podman import -c 'ENV PATH=/bin' - box 2>/dev/null")
}

func TestPodmanContainersByNameAndThroughRestarts(t *testing.T) {
	h := engineHosts(t, 1, "--release-after", "2s")[0]
	refuses(t, h, 1, "podman was not used since this machine was started", "weft", "attach", "podman:web")
	startPodman(t, h)
	must := func(args ...string) string {
		t.Helper()
		r := podman(h, args...)
		if r.Code != 0 {
			t.Fatalf("podman %v: exit code %d: %s", args, r.Code, r.Stderr)
		}
		return strings.TrimSpace(r.Stdout)
	}
	must("run", "--", "-d", "--name", "web", "--network", "none", "box", "sleep", "1000")
	addr := h.Run("weft", "attach", "web")
	mustPing(t, h, addr, "a container of podman")
	if a := ps(t, h)["web/eth0"]; a.Engine != "podman" || a.ID != must("inspect", "-f", "{{.Id}}", "web") {
		t.Errorf("ps shows %+v", a)
	}
	must("restart", "-t", "0", "web")
	netlab.Eventually(t, "it answers after a restart", func() bool { return netlab.Pings(h, addr) })
	must("kill", "web")
	inState(t, h, "web/eth0", api.StateStopped)
	refuses(t, h, 1, "does not run", "weft", "attach", "podman:web")
	netlab.Eventually(t, "its address is free", func() bool { return !ps(t, h)["web/eth0"].Address.IsValid() })
	must("start", "web")
	netlab.Eventually(t, "it has its address back", func() bool { return netlab.Pings(h, addr) })

	must("run", "--", "-d", "--name", "guest", "--network", "container:web", "box", "sleep", "1000")
	if got := h.Run("weft", "attach", "guest"); got != addr {
		t.Errorf("guest of web's network gets %s; web has %s", got, addr)
	}
	must("run", "--", "-d", "--name", "open", "--network", "host", "box", "sleep", "1000")
	refuses(t, h, 2, "host's own network namespace", "weft", "attach", "open")
	h.Container("open")
	refuses(t, h, 1, "podman:open, netns:open", "weft", "attach", "open")

	r := h.Try("weft", "run", "--engine", "podman", "--ip", "10.40.0.9", "--", "--cgroup-parent", "/"+parent(), "--cap-add", "net_raw", "--rm", "box", "ping", "-c", "1", "-W", "1", addr)
	if r.Code != 0 {
		t.Errorf("the first thing that a container of podman does is no ping: exit code %d\n%s%s", r.Code, r.Stdout, r.Stderr)
	}
	if r = h.Try("weft", "run", "--engine", "podman", "--", "--cgroup-parent", "/"+parent(), "--rm", "box", "sh", "-c", "exit 7"); r.Code != 7 {
		t.Errorf("exit code %d; want 7: %s", r.Code, r.Stderr)
	}
	r = h.Try("weft", "run", "--engine", "podman", "--ip", addr, "--", "--cgroup-parent", "/"+parent(), "--rm", "box", "echo", "ran")
	if r.Code == 0 || r.Stdout != "" {
		t.Errorf("with a taken address: exit code %d, %q", r.Code, r.Stdout)
	}
	must("rm", "-f", "-t", "0", "guest")
	must("rm", "-f", "-t", "0", "web", "open")
	netlab.Eventually(t, "those that were removed are forgotten", func() bool { return len(ps(t, h)) == 0 })
}

func TestContainerdContainersByTheirID(t *testing.T) {
	h := engineHosts(t, 1, "--release-after", "2s")[0]
	h.Start("env", "PATH="+debian, "containerd")
	netlab.Eventually(t, "containerd answers", func() bool { return h.Try("ctr", "version").Code == 0 })
	start := func(namespace, id string, flags ...string) {
		args := []string{"ctr", "-n", namespace, "run", "-d", "--rootfs", "--cgroup", "/" + parent() + "/" + id}
		h.Run(append(append(args, flags...), "/run/root", id, "/bin/sleep", "1000")...)
	}
	start("default", "web")
	addr := h.Run("weft", "attach", "web")
	mustPing(t, h, addr, "a container of containerd")
	if a := ps(t, h)["web/eth0"]; a.Engine != "containerd" || a.ID != "default/web" {
		t.Errorf("ps shows %+v", a)
	}
	start("k8s.io", "web")
	refuses(t, h, 1, "containerd:default/web, containerd:k8s.io/web", "weft", "attach", "web")
	if got := h.Run("weft", "attach", "containerd:default/web"); got != addr {
		t.Errorf("the same by its whole id gets %s; had %s", got, addr)
	}
	other := h.Run("weft", "attach", "containerd:k8s.io/web")
	start("default", "open", "--net-host")
	refuses(t, h, 2, "host's own network namespace", "weft", "attach", "open")

	h.Run("ctr", "task", "kill", "-s", "KILL", "web")
	netlab.Eventually(t, "the task has ended", func() bool { return strings.Contains(h.Run("ctr", "task", "list"), "STOPPED") })
	h.Run("ctr", "task", "delete", "web")
	h.Run("ctr", "task", "start", "-d", "web")
	netlab.Eventually(t, "it is put back", func() bool { return netlab.Pings(h, addr) })
	h.Run("ctr", "-n", "k8s.io", "task", "kill", "-s", "KILL", "web")
	netlab.Eventually(t, "what does not begin again is forgotten", func() bool {
		for _, a := range ps(t, h) {
			if a.Address.Addr().String() == other {
				return false
			}
		}
		return true
	})
	for _, id := range []string{"web", "open"} {
		h.Run("ctr", "task", "kill", "-s", "KILL", id)
	}
}
