package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weft-net/weft/internal/netlab"
)

const podmanConfig = `[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
apparmor_profile = "unconfined"
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "none"
static_dir = "/run/podman/static"
volume_path = "/run/podman/volumes"
tmp_dir = "/run/podman/tmp"
[network]
network_backend = "cni"
cni_plugin_dirs = ["` + cniBin + `"]
network_config_dir = "` + cniConf + `"
`

// podmanWithCNI is one host's, with the CNI network that weft installed.
type podmanWithCNI struct{ h *netlab.Host }

func (p podmanWithCNI) args(args []string) []string {
	return append([]string{"env", "CONTAINERS_CONF=/run/podman/containers.conf",
		"podman", "--root", "/run/podman/root", "--runroot", "/run/podman/runroot", "--storage-driver", "overlay"}, args...)
}

func (p podmanWithCNI) run(args ...string) string { return p.h.Run(p.args(args)...) }

func startPodmanWithCNI(t *testing.T, h *netlab.Host, image string) podmanWithCNI {
	t.Helper()
	h.Run("mkdir", "-p", "/run/podman/tmp")
	for name, content := range map[string][]byte{"containers.conf": []byte(podmanConfig), "pause.tar": mustRead(t, image)} {
		if err := os.WriteFile(filepath.Join(h.Root(), "run/podman", name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p := podmanWithCNI{h}
	p.run("load", "--quiet", "--input", "/run/podman/pause.tar")
	return p
}

func TestPodmanContainersAreOnTheNetwork(t *testing.T) {
	hosts, cgroup := runtimeHosts(t, 2)
	image := pauseImage(t)
	far, _ := attached(t, hosts[1], "far")
	h := hosts[0]
	installed(t, h, "portmap")
	p := startPodmanWithCNI(t, h, image)
	create := []string{"run", "--detach", "--network", "weft", "--cgroup-parent", "/" + cgroup, "--cgroups", "no-conmon", "--name"}
	p.run(append(create, "one", "localhost/pause:1")...)
	p.run(append(create, "two", "--ip", "10.32.0.77", "--mac-address", "02:00:00:00:00:77", "localhost/pause:1")...)
	list := listed(t, h)
	if len(list) != 2 {
		t.Fatalf("weft lists %+v", list)
	}
	for _, a := range list {
		mustPing(t, far, a.Address.Addr().String(), "another host to a container of podman")
	}
	mustPing(t, far, "10.32.0.77", "the address that was asked for")
	if got := h.Run("bash", "-c", "weft ps -o json | tr -d ' \\n'"); !strings.Contains(got, `"mac":"02:00:00:00:00:77"`) {
		t.Errorf("the hardware address that was asked for is not in %s", got)
	}
	p.run("restart", "--time", "1", "two")
	mustPing(t, far, "10.32.0.77", "the address after a restart")
	p.run("rm", "--force", "--time", "1", "one", "two")
	if list := listed(t, h); len(list) != 0 {
		t.Errorf("weft lists %+v", list)
	}
}
