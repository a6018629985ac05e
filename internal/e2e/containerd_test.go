package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/weft-net/weft/internal/netlab"
)

const containerdConfig = `version = 2
root = "/run/containerd/root"
state = "/run/containerd/state"
[grpc]
  address = "/run/containerd/c.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "localhost/pause:1"
  restrict_oom_score_adj = true
  disable_apparmor = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "` + cniBin + `"
    conf_dir = "` + cniConf + `"
`

// containerd is one host's, asked as a kubelet does.
type containerd struct {
	t      *testing.T
	h      *netlab.Host
	cri    cri.RuntimeServiceClient
	cgroup string
}

func startContainerd(t *testing.T, h *netlab.Host, image, cgroup string) *containerd {
	t.Helper()
	h.Run("mkdir", "-p", "/run/containerd", cniBin, cniConf)
	for name, content := range map[string][]byte{"config.toml": []byte(containerdConfig), "pause.tar": mustRead(t, image)} {
		if err := os.WriteFile(filepath.Join(h.Root(), "run/containerd", name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	stop := h.Start("containerd", "--config", "/run/containerd/config.toml", "--log-level", "warn")
	ctr := []string{"ctr", "--address", "/run/containerd/c.sock", "--namespace", "k8s.io"}
	for end := time.Now().Add(30 * time.Second); h.Try(append(ctr, "version")...).Code != 0; time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("containerd does not answer: %s", stop())
		}
	}
	h.Run(append(ctr, "images", "import", "/run/containerd/pause.tar")...)
	conn, err := grpc.NewClient("unix://"+filepath.Join(h.Root(), "run/containerd/c.sock"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &containerd{t, h, cri.NewRuntimeServiceClient(conn), cgroup}
}

func mustRead(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// criTime bounds one request.
const criTime = 60 * time.Second

func (c *containerd) ready() bool {
	ctx, cancel := context.WithTimeout(context.Background(), criTime)
	defer cancel()
	s, err := c.cri.Status(ctx, &cri.StatusRequest{})
	if err != nil {
		c.t.Fatal(err)
	}
	for _, condition := range s.Status.Conditions {
		if condition.Type == cri.NetworkReady {
			return condition.Status
		}
	}
	return false
}

// run makes a sandbox and returns its id.
func (c *containerd) run(name string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), criTime)
	defer cancel()
	r, err := c.cri.RunPodSandbox(ctx, &cri.RunPodSandboxRequest{Config: &cri.PodSandboxConfig{
		Metadata:     &cri.PodSandboxMetadata{Name: name, Uid: name, Namespace: "default"},
		LogDirectory: "/run/containerd/log",
		Linux: &cri.LinuxPodSandboxConfig{CgroupParent: "/" + c.cgroup,
			SecurityContext: &cri.LinuxSandboxSecurityContext{NamespaceOptions: &cri.NamespaceOption{Pid: cri.NamespaceMode_CONTAINER}}},
	}})
	if err != nil {
		return "", fmt.Errorf("run sandbox %s: %w", name, err)
	}
	return r.PodSandboxId, nil
}

func (c *containerd) remove(id string) error {
	ctx, cancel := context.WithTimeout(context.Background(), criTime)
	defer cancel()
	if _, err := c.cri.StopPodSandbox(ctx, &cri.StopPodSandboxRequest{PodSandboxId: id}); err != nil {
		return fmt.Errorf("stop sandbox: %w", err)
	}
	_, err := c.cri.RemovePodSandbox(ctx, &cri.RemovePodSandboxRequest{PodSandboxId: id})
	return err
}

// address is what the kubelet is told of a sandbox.
func (c *containerd) address(id string) string {
	ctx, cancel := context.WithTimeout(context.Background(), criTime)
	defer cancel()
	s, err := c.cri.PodSandboxStatus(ctx, &cri.PodSandboxStatusRequest{PodSandboxId: id})
	if err != nil {
		c.t.Fatal(err)
	}
	return s.Status.Network.Ip
}

// sandboxes can be set to more than an ordinary run makes.
func sandboxes(t *testing.T) int {
	s := os.Getenv("WEFT_SANDBOXES")
	if s == "" {
		return 24
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatalf("WEFT_SANDBOXES: %v", err)
	}
	return n
}

func TestContainerdSandboxesAreOnTheNetwork(t *testing.T) {
	hosts, cgroup := runtimeHosts(t, 2)
	image := pauseImage(t)
	var engines []*containerd
	var names []netlab.Pinger
	var addrs, ids []string
	for _, h := range hosts {
		c := startContainerd(t, h, image, cgroup)
		if c.ready() {
			t.Error("the network is ready before weft is installed")
		}
		installed(t, h)
		netlab.Eventually(t, "containerd finds the network", c.ready)
		id, err := c.run("first")
		if err != nil {
			t.Fatal(err)
		}
		engines, ids = append(engines, c), append(ids, id)
		list := listed(t, h)
		if len(list) != 1 || list[0].Endpoint == nil || list[0].Endpoint.Container != id || list[0].Address.Addr().String() != c.address(id) {
			t.Fatalf("sandbox %s has %s, and weft lists %+v", id, c.address(id), list)
		}
		addrs = append(addrs, c.address(id))
		names = append(names, inNamespace{h, list[0].NetNS})
	}
	for i, from := range names {
		mustPing(t, from, addrs[1-i], "a sandbox to that on the other host")
	}
	t.Run("many come and go without a trace", func(t *testing.T) { engines[0].comeAndGo(t, sandboxes(t), 8) })
	for i, c := range engines {
		if err := c.remove(ids[i]); err != nil {
			t.Error(err)
		}
		if list := listed(t, c.h); len(list) != 0 {
			t.Errorf("weft lists %+v", list)
		}
	}
}

// inNamespace runs commands in a network namespace of a host.
type inNamespace struct {
	*netlab.Host
	path string
}

func (n inNamespace) Try(args ...string) netlab.Result {
	return n.Host.Try(append([]string{"nsenter", "--net=" + n.path}, args...)...)
}

// comeAndGo makes and removes sandboxes, some at a time, and looks for what is left.
func (c *containerd) comeAndGo(t *testing.T, n, inFlight int) {
	used := func() int { return status(t, c.h).IPAM.Used }
	veths := func() int {
		return strings.Count(c.h.Run("bash", "-c", "ip -o link show type veth master weft; true"), ": weft")
	}
	usedBefore, vethsBefore, listedBefore := used(), veths(), len(listed(t, c.h))
	begun := time.Now()
	var wg sync.WaitGroup
	todo := make(chan string)
	for range inFlight {
		wg.Go(func() {
			for name := range todo {
				id, err := c.run(name)
				if err == nil {
					err = c.remove(id)
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	for i := range n {
		todo <- fmt.Sprintf("s%d", i)
	}
	close(todo)
	wg.Wait()
	t.Logf("%d sandboxes, %d at a time: made and removed in %s", n, inFlight, time.Since(begun).Round(time.Millisecond))
	if u, v, l := used(), veths(), len(listed(t, c.h)); u != usedBefore || v != vethsBefore || l != listedBefore {
		t.Errorf("addresses %d, veth pairs %d, records %d; before %d, %d, %d", u, v, l, usedBefore, vethsBefore, listedBefore)
	}
}
