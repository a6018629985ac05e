package e2e

import (
	"strings"
	"testing"

	"github.com/weft-net/weft/api"
	"github.com/weft-net/weft/internal/netlab"
)

func TestDockerContainersKeepTheirAddressesThroughRestarts(t *testing.T) {
	hosts := engineHosts(t, 2, "--release-after", "3s")
	h := hosts[0]
	startDocker(t, h)
	far, _ := attached(t, hosts[1], "far")
	// Docker turns IPv6 off where its own network has none.
	run(h, "run", "-d", "--name", "web", "--network", "none", "--sysctl", "net.ipv6.conf.all.disable_ipv6=0", "--sysctl", "net.ipv6.conf.default.disable_ipv6=0", "box", "sleep", "1000")
	id := run(h, "inspect", "-f", "{{.Id}}", "web")
	addr := h.Run("weft", "attach", "web")
	mustPing(t, far, addr, "a container of Docker from another host")

	a := ps(t, h)["web/eth0"]
	if a.Engine != "docker" || a.ID != id || a.State != api.StateAttached || a.Address.Addr().String() != addr || a.MAC == "" {
		t.Errorf("ps shows %+v", a)
	}
	for _, same := range []string{"docker:web", id, id[:12], run(h, "inspect", "-f", "{{.State.Pid}}", "web")} {
		if got := h.Run("weft", "attach", same); got != addr {
			t.Errorf("attach %s gives %s; want %s again", same, got, addr)
		}
	}
	if len(a.IPv6) != 1 {
		t.Fatalf("IPv6 addresses %v", a.IPv6)
	}
	six := a.IPv6[0].String()
	mustPing(t, far, six, "a container of Docker from another host by IPv6")
	if n := len(ps(t, h)); n != 1 {
		t.Errorf("%d attachments of one container", n)
	}

	run(h, "restart", "-t", "0", "web")
	has(t, h, "web", "eth0", addr)
	netlab.Eventually(t, "it answers after the restart", func() bool { return netlab.Pings(far, addr) && netlab.Pings(far, six) })
	run(h, "rename", "web", "shop")
	inState(t, h, "shop/eth0", api.StateAttached)

	// It is told by its events, and by nothing that weft saw itself.
	kill9(t, h)
	run(h, "restart", "-t", "0", "shop")
	h.Run("weft", "launch")
	has(t, h, "shop", "eth0", addr)

	run(h, "kill", "shop")
	inState(t, h, "shop/eth0", api.StateStopped)
	netlab.Eventually(t, "its address is free after the grace", func() bool { return !ps(t, h)["shop/eth0"].Address.IsValid() })
	run(h, "start", "shop")
	has(t, h, "shop", "eth0", addr)
	mustPing(t, far, addr, "with its old address, which nobody took")

	run(h, "kill", "shop")
	netlab.Eventually(t, "its address is free again", func() bool {
		return ps(t, h)["shop/eth0"].State == api.StateStopped && !ps(t, h)["shop/eth0"].Address.IsValid()
	})
	h.Container("thief")
	h.Run("weft", "attach", "thief", addr)
	run(h, "start", "shop")
	inState(t, h, "shop/eth0", api.StateAttached)
	other := ps(t, h)["shop/eth0"].Address.Addr().String()
	if other == addr {
		t.Errorf("two have %s", addr)
	}
	mustPing(t, far, other, "with another address, since its own was taken")

	run(h, "rm", "-f", "shop")
	netlab.Eventually(t, "a removed container is forgotten", func() bool { return len(ps(t, h)) == 1 })
	h.Run("weft", "detach", "thief")
	if used := status(t, h).IPAM.Used; used != 1 { // the bridge's own
		t.Errorf("%d addresses are in use at the end", used)
	}
}

func TestDockerContainersThatCannotBeAttachedAreNamed(t *testing.T) {
	h := engineHosts(t, 1)[0]
	h.Container("web")
	refuses(t, h, 1, "docker does not run", "weft", "attach", "docker:web")
	stop := startDocker(t, h)
	refuses(t, h, 1, "docker has no container web: ", "weft", "attach", "docker:web")
	refuses(t, h, 1, "there is no container nix", "weft", "attach", "nix")
	run(h, "run", "-d", "--name", "web", "--network", "none", "box", "sleep", "1000")
	refuses(t, h, 1, "docker:web, netns:web", "weft", "attach", "web")
	run(h, "create", "--name", "idle", "--network", "none", "box", "sleep", "1000")
	refuses(t, h, 1, "does not run: it is created", "weft", "attach", "idle")
	run(h, "run", "-d", "--name", "open", "--network", "host", "box", "sleep", "1000")
	refuses(t, h, 2, "host's own network namespace", "weft", "attach", "open")
	run(h, "run", "-d", "--name", "guest", "--network", "container:web", "box", "sleep", "1000")
	refuses(t, h, 1, "several containers", "weft", "attach", "web")
	if n := len(ps(t, h)); n != 0 {
		t.Errorf("%d attachments after refusals", n)
	}

	addr := h.Run("weft", "attach", "guest")
	if a := ps(t, h)["web/eth0"]; a.Address.Addr().String() != addr {
		t.Errorf("the network of guest is web's, and web is not attached: %+v", ps(t, h))
	}
	if again := h.Run("weft", "attach", "docker:web"); again != addr {
		t.Errorf("web gets %s, guest of the same network %s", again, addr)
	}
	if third := h.Run("weft", "attach", "netns:web"); third == addr {
		t.Errorf("the namespace web has the container web's address")
	}
	run(h, "restart", "-t", "0", "guest")
	has(t, h, "guest", "eth0", addr)

	stop()
	refuses(t, h, 1, "docker does not run", "weft", "attach", "docker:web")
	if r := h.Try("weft", "detach", "docker:web"); r.Code != 0 {
		t.Errorf("detach without Docker: %s", r.Stderr)
	}
}

func TestDockerContainersWithSeveralNetworks(t *testing.T) {
	h := engineHosts(t, 1)[0]
	startDocker(t, h)
	route := func(name string) string { return run(h, "exec", name, "sh", "-c", "ip route | grep default; true") }

	run(h, "run", "-d", "--name", "both", "box", "sleep", "1000")
	addr := h.Run("weft", "attach", "both")
	has(t, h, "both", "eth1", addr)
	if r := route("both"); !strings.Contains(r, "172.31.255.1") || strings.Contains(r, "\n") {
		t.Errorf("Docker's default route is now %q", r)
	}
	mustPing(t, h, addr, "beside Docker's own network")

	run(h, "run", "-d", "--name", "many", "--network", "none", "box", "sleep", "1000")
	first := h.Run("weft", "attach", "many", "--ifname", "net0", "--no-default-route")
	if r := route("many"); r != "" {
		t.Errorf("there is a default route without one: %q", r)
	}
	second := strings.Fields(h.Run("weft", "attach", "many", "10.40.0.5", "10.40.0.6", "--ifname", "net1"))
	if len(second) != 2 || first == second[0] {
		t.Fatalf("addresses %v besides %s", second, first)
	}
	check := func(when string) {
		t.Helper()
		has(t, h, "many", "net0", first)
		has(t, h, "many", "net1", second[0])
		has(t, h, "many", "net1", second[1])
		netlab.Eventually(t, "the default route is by net1 "+when, func() bool { return strings.Contains(route("many"), "dev net1") })
	}
	check("at first")
	run(h, "restart", "-t", "0", "many", "both")
	check("after a restart")
	has(t, h, "both", "eth1", addr)
}
