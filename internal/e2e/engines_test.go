package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/weft-net/weft/api"
	"github.com/weft-net/weft/internal/netlab"
)

// cgroups that container engines want to see, on a kernel with the first kind.
var cgroups = []string{"cpu", "cpuacct", "cpuset", "memory", "devices", "freezer", "blkio", "pids"}

// debian is where Debian has its programs, whatever else this machine has.
const debian = "/usr/sbin:/usr/bin:/sbin:/bin"

// enginePrograms that these tests call, with their Debian packages.
var enginePrograms = map[string]string{
	"dockerd": "docker.io", "docker": "docker.io", "podman": "podman", "containerd": "containerd", "ctr": "containerd", "runc": "runc", "busybox": "busybox-static",
}

// engineHosts makes hosts in one mesh that can run container engines. The
// cgroups that these leave are removed when the hosts are gone.
func engineHosts(t *testing.T, n int, flags ...string) []*netlab.Host {
	t.Helper()
	for p, pkg := range enginePrograms {
		if out, err := exec.Command("env", "PATH="+debian, "which", p).CombinedOutput(); err != nil {
			t.Fatalf("this test needs the program %s: apt-get install %s: %s", p, pkg, out)
		}
	}
	t.Cleanup(func() { removeCgroups(t, parent()) }) // after the lab, which is made after it
	_, hosts := launchedAlone(t, n, flags...)        // control groups are shared
	for _, h := range hosts {
		prepare(h)
	}
	return hosts
}

// prepare gives a host cgroups, and a directory with a root of busybox.
func prepare(h *netlab.Host) {
	script := "mount -t tmpfs cgroup /sys/fs/cgroup"
	for _, c := range cgroups {
		script += fmt.Sprintf(" && mkdir /sys/fs/cgroup/%s && mount -t cgroup -o %s cgroup /sys/fs/cgroup/%s", c, c, c)
	}
	script += " && mkdir /sys/fs/cgroup/systemd && mount -t cgroup -o none,name=systemd cgroup /sys/fs/cgroup/systemd"
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); err == nil { // only the second kind
		script = "mount -t cgroup2 cgroup /sys/fs/cgroup"
	}
	script += ` && mkdir -p /run/root/bin /run/root/etc /run/root/tmp && cp /bin/busybox /run/root/bin/ &&
		for x in sh sleep ip cat ping echo true wget httpd; do ln -s busybox /run/root/bin/$x || exit 1; done &&
		echo root:x:0:0:root:/:/bin/sh >/run/root/etc/passwd`
	h.Run("bash", "-c", script)
}

// parent is the cgroup of this process's containers.
func parent() string { return fmt.Sprintf("weft-e2e-%d", os.Getpid()) }

// startDocker runs dockerd on a host, with an image "box", until stop.
func startDocker(t *testing.T, h *netlab.Host, flags ...string) (stop func()) {
	t.Helper()
	end := h.Start(append([]string{"env", "PATH=" + debian, "dockerd", "--cgroup-parent", "/" + parent(), "--bip", "172.31.255.1/24"}, flags...)...)
	netlab.Eventually(t, "dockerd answers", func() bool { return docker(h, "version").Code == 0 })
	if docker(h, "image", "inspect", "box").Code != 0 {
		h.Run("bash", "-c", "tar -C /run/root -c . | /usr/bin/docker import -c 'ENV PATH=/bin' - box")
	}
	return func() { end() }
}

func docker(h *netlab.Host, args ...string) netlab.Result {
	return h.Try(append([]string{"/usr/bin/docker"}, args...)...)
}

// run is docker that has to succeed.
func run(h *netlab.Host, args ...string) string {
	return h.Run(append([]string{"/usr/bin/docker"}, args...)...)
}

// ps returns the attachments of a host by the container's name and interface.
func ps(t *testing.T, h *netlab.Host) map[string]api.Attachment {
	t.Helper()
	var list []api.Attachment
	if err := json.Unmarshal([]byte(h.Run("weft", "ps", "-o", "json")), &list); err != nil {
		t.Fatal(err)
	}
	out := map[string]api.Attachment{}
	for _, a := range list {
		out[a.Container+"/"+a.Interface] = a
	}
	return out
}

// has waits until a container of Docker has an address on an interface.
func has(t *testing.T, h *netlab.Host, name, ifname, addr string) {
	t.Helper()
	netlab.Eventually(t, fmt.Sprintf("container %s has %s on %s", name, addr, ifname), func() bool {
		return strings.Contains(docker(h, "exec", name, "ip", "-4", "address", "show", "dev", ifname).Stdout, " "+addr+"/")
	})
}

// inState waits until a container of a host is in a state.
func inState(t *testing.T, h *netlab.Host, name, state string) {
	t.Helper()
	netlab.Eventually(t, name+" is "+state, func() bool { return ps(t, h)[name].State == state })
}
