package e2e

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/weft-net/weft/internal/netlab"
)

// object is what the tests have to know of an object in deploy/kubernetes.yaml.
type object struct {
	Kind       string
	Data       map[string]string
	StringData map[string]string `yaml:"stringData"`
	Spec       struct {
		Template struct {
			Spec struct {
				InitContainers []podContainer `yaml:"initContainers"`
				Containers     []podContainer
				Volumes        []struct {
					Name     string
					HostPath struct{ Path, Type string } `yaml:"hostPath"`
				}
			}
		}
	}
}

type podContainer struct {
	Name, Image string
	Args        []string
	Env         []struct {
		Name      string
		ValueFrom struct {
			FieldRef     struct{ FieldPath string } `yaml:"fieldRef"`
			SecretKeyRef struct{ Key string }       `yaml:"secretKeyRef"`
		} `yaml:"valueFrom"`
	}
	ReadinessProbe  execProbe `yaml:"readinessProbe"`
	LivenessProbe   execProbe `yaml:"livenessProbe"`
	SecurityContext struct {
		ReadOnlyRootFilesystem   bool `yaml:"readOnlyRootFilesystem"`
		AllowPrivilegeEscalation bool `yaml:"allowPrivilegeEscalation"`
		Privileged               bool
		Capabilities             struct{ Drop, Add []string }
	} `yaml:"securityContext"`
	VolumeMounts []struct {
		Name             string
		MountPath        string `yaml:"mountPath"`
		ReadOnly         bool   `yaml:"readOnly"`
		MountPropagation string `yaml:"mountPropagation"`
	} `yaml:"volumeMounts"`
}

type execProbe struct{ Exec struct{ Command []string } }

// manifest is deploy/kubernetes.yaml, by the kinds of its objects.
func manifest(t *testing.T) map[string]object {
	t.Helper()
	f, err := os.Open("../../deploy/kubernetes.yaml")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	out := map[string]object{}
	for d := yaml.NewDecoder(f); ; {
		var o object
		if err := d.Decode(&o); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		out[o.Kind] = o
	}
	if len(out["DaemonSet"].Spec.Template.Spec.Containers) != 1 {
		t.Fatalf("the manifest has %v", out)
	}
	return out
}

// kubeNode is a host with a real Docker, which starts the pod of the DaemonSet as
// the manifest has it: its capabilities, its mounts, its environment.
type kubeNode struct {
	*netlab.Host
	t      *testing.T
	cgroup string
	config map[string]string // the ConfigMap's data
	token  string
	pods   []string // names of the containers that were started and not removed, the newest last
	serial int
}

const (
	dockerSocket = "unix:///run/docker.sock"
	kubeBin      = "/opt/cni/bin"
	kubeConf     = "/etc/cni/net.d"
)

// nodeScript gives a lab's host directories of its own where others are the
// machine's, and mounts that reach containers, as on a host of systemd's.
const nodeScript = `
umount --lazy /sys # a lab's host has its own, in which there are no control groups
mount -t tmpfs tmpfs /opt && mkdir -p /run/etc /run/etc-work || exit 1
mount -t overlay -o lowerdir=/etc,upperdir=/run/etc,workdir=/run/etc-work overlay /etc || exit 1
cp /run/machine-id /etc/machine-id && mkdir -p /etc/cni/net.d || exit 1
find /etc/cni/net.d -type f -delete
mount --make-rshared / || exit 1
`

func newKubeNode(t *testing.T, h *netlab.Host, cgroup string) *kubeNode {
	t.Helper()
	h.Run("bash", "-c", nodeScript)
	stop := h.Start("dockerd", "--data-root", "/run/docker/data", "--exec-root", "/run/docker/exec", "--pidfile", "/run/docker.pid",
		"--host", dockerSocket, "--bridge", "none", "--iptables=false", "--ip-forward=false", "--cgroup-parent", "/"+cgroup)
	n := &kubeNode{Host: h, t: t, cgroup: cgroup}
	// The engine and its containers go before the lab's host.
	t.Cleanup(func() {
		for _, name := range n.pods {
			n.docker("rm", "--force", name)
		}
		stop()
	})
	netlab.Eventually(t, "Docker answers on "+h.Name, func() bool { return n.docker("version").Code == 0 })
	return n
}

func (n *kubeNode) docker(args ...string) netlab.Result {
	n.t.Helper()
	return n.Try(append([]string{"docker", "--host", dockerSocket}, args...)...)
}

func (n *kubeNode) mustDocker(args ...string) string {
	n.t.Helper()
	return n.Run(append([]string{"docker", "--host", dockerSocket}, args...)...)
}

// image makes an image of a binary as `make image` does.
func image(t *testing.T, binary, tag string) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "image.tar")
	if out, err := exec.Command("../../scripts/image.sh", binary, tag, path).CombinedOutput(); err != nil {
		t.Fatalf("build the image: %v: %s", err, out)
	}
	return path
}

// load hands an image to the node's engine.
func (n *kubeNode) load(path string) {
	n.t.Helper()
	name := filepath.Join("/run", filepath.Base(path))
	if err := os.WriteFile(filepath.Join(n.Root(), name), mustRead(n.t, path), 0o600); err != nil {
		n.t.Fatal(err)
	}
	n.mustDocker("load", "--quiet", "--input", name)
	n.Run("rm", name)
}

// start starts the pod, with another image than the manifest's, beside one that is
// there already: its init containers one after the other, and its container.
func (n *kubeNode) start(image string) {
	n.t.Helper()
	n.serial++
	n.pods = append(n.pods, fmt.Sprintf("weft-%d", n.serial))
	pod := manifest(n.t)["DaemonSet"].Spec.Template.Spec
	for _, c := range pod.InitContainers {
		n.mustDocker(n.runArgs(c, image, "--rm")...)
	}
	c := pod.Containers[0]
	args := []string{"--detach", "--name", n.newest()}
	for _, key := range slices.Sorted(maps.Keys(n.config)) {
		args = append(args, "--env", key+"="+n.config[key])
	}
	for _, e := range c.Env {
		value := map[string]string{"status.hostIP": n.Addr.String(), "spec.nodeName": n.Name}[e.ValueFrom.FieldRef.FieldPath]
		if e.ValueFrom.SecretKeyRef.Key == "token" {
			value = n.token
		}
		args = append(args, "--env", e.Name+"="+value)
	}
	n.mustDocker(n.runArgs(c, image, args...)...)
}

// runArgs are those that have Docker run a container of the pod, and some more.
func (n *kubeNode) runArgs(c podContainer, image string, more ...string) []string {
	n.t.Helper()
	args := append([]string{"run", "--network", "host", "--cgroup-parent", "/" + n.cgroup}, more...)
	s := c.SecurityContext
	if s.Privileged {
		n.t.Error("the container is privileged")
	}
	if s.ReadOnlyRootFilesystem {
		args = append(args, "--read-only")
	}
	if !s.AllowPrivilegeEscalation {
		args = append(args, "--security-opt", "no-new-privileges")
	}
	for _, name := range s.Capabilities.Drop {
		args = append(args, "--cap-drop", name)
	}
	for _, name := range s.Capabilities.Add {
		args = append(args, "--cap-add", name)
	}
	for _, m := range c.VolumeMounts {
		source := n.volume(m.Name)
		bind := "type=bind,source=" + source + ",target=" + m.MountPath
		if m.ReadOnly {
			bind += ",readonly"
		}
		if m.MountPropagation == "HostToContainer" {
			bind += ",bind-propagation=rslave"
		}
		args = append(args, "--mount", bind)
	}
	return append(append(args, image), c.Args...)
}

// volume is the path of a volume on the node, made as a kubelet makes it.
func (n *kubeNode) volume(name string) string {
	n.t.Helper()
	for _, v := range manifest(n.t)["DaemonSet"].Spec.Template.Spec.Volumes {
		if v.Name != name {
			continue
		}
		switch path := v.HostPath.Path; v.HostPath.Type {
		case "DirectoryOrCreate":
			n.Run("mkdir", "-p", path)
		case "FileOrCreate":
			n.Run("bash", "-c", "[ -e "+path+" ] || touch "+path)
		case "Directory":
			n.Run("test", "-d", path)
		default:
			n.t.Fatalf("volume %s is of type %q", name, v.HostPath.Type)
		}
		return v.HostPath.Path
	}
	n.t.Fatalf("the manifest has no volume %s", name)
	return ""
}

func (n *kubeNode) newest() string { return n.pods[len(n.pods)-1] }

// probe asks as the kubelet does.
func (n *kubeNode) probe(pod string, p execProbe) netlab.Result {
	n.t.Helper()
	return n.docker(append([]string{"exec", pod}, p.Exec.Command...)...)
}

func (n *kubeNode) isReady(pod string) bool {
	n.t.Helper()
	return n.probe(pod, manifest(n.t)["DaemonSet"].Spec.Template.Spec.Containers[0].ReadinessProbe).Code == 0
}

// awaitReady waits for a pod's readiness probe, and shows the log if it never comes.
func (n *kubeNode) awaitReady(pod string) {
	n.t.Helper()
	n.t.Cleanup(func() {
		if n.t.Failed() {
			r := n.docker("logs", pod)
			n.t.Logf("log of %s on %s:\n%s%s", pod, n.Name, r.Stdout, r.Stderr)
		}
	})
	netlab.Eventually(n.t, pod+" on "+n.Name+" is ready", func() bool { return n.isReady(pod) })
}

// end stops the oldest pod as a kubelet does, and removes it.
func (n *kubeNode) end() {
	n.t.Helper()
	pod := n.pods[0]
	n.mustDocker("stop", "--time", "10", pod)
	if r := n.docker("inspect", "--format", "{{.State.ExitCode}}", pod); strings.TrimSpace(r.Stdout) != "0" {
		n.t.Errorf("the daemon on %s ended with %s", n.Name, r.Stdout)
	}
	n.mustDocker("rm", pod)
	n.pods = n.pods[1:]
}

// update replaces the pod as the DaemonSet's strategy has it: the new one starts, and
// when it is ready the old one ends.
func (n *kubeNode) update(image string) {
	n.t.Helper()
	old := n.newest()
	n.start(image)
	n.awaitReady(n.newest())
	if n.isReady(old) {
		n.t.Errorf("%s on %s is ready, and so is the pod that replaces it", old, n.Name)
	}
	n.end()
}

// pod is a network namespace that cnitool put on the network, as a runtime does.
type pod struct {
	*netlab.Container
	addr string
}

func (n *kubeNode) pod(name string) pod {
	n.t.Helper()
	c := n.Container(name)
	n.cni("add", name)
	out := c.Run("ip", "-4", "-o", "address", "show", "dev", "eth0")
	addr, _, _ := strings.Cut(strings.Fields(out)[3], "/")
	return pod{c, addr}
}

func (n *kubeNode) cni(verb, name string) {
	n.t.Helper()
	n.Run("env", "CNI_PATH="+kubeBin, "NETCONFPATH="+kubeConf, "CNI_IFNAME=eth0", "cnitool", verb, "weft", "/var/run/netns/"+name)
}
