package e2e

import (
	"fmt"
	"strings"
	"testing"

	"github.com/weft-net/weft/internal/netlab"
)

// reboot is what is left of a host after its power was off: what is in
// /var/lib. The kernel's part is gone, and it calls itself another run.
func reboot(h *netlab.Host, n int) {
	h.Run("bash", "-c", `kill -9 -1; sleep 0.2
		for l in $(ip -o link show | sed 's/^[0-9]*: \([^:@]*\).*/\1/' | grep -v -e '^lo$' -e '^eth0$'); do ip link delete "$l" || true; done
		nft flush ruleset
		grep ' /run/' /proc/self/mounts | cut -d' ' -f2 | grep -v -e '^/run/machine-id' -e '^/run/boot' | sort -r | while read -r m; do umount -l "$m"; done
		rm -rf /run/docker* /run/containerd /run/weft /run/netns/* /var/run/docker.pid`)
	h.Run("bash", "-c", fmt.Sprintf(`echo 00000000-0000-0000-0000-%012d >/run/boot-%d && mount --bind /run/boot-%d /proc/sys/kernel/random/boot_id`, n, n, n))
}

func TestContainersHaveTheirAddressesAfterARebootAndARestartOfDocker(t *testing.T) {
	h := engineHosts(t, 1)[0]
	stop := startDocker(t, h, "--shutdown-timeout", "1")
	run(h, "run", "-d", "--name", "hand", "--network", "none", "--restart", "always", "box", "sleep", "1000")
	addr := h.Run("weft", "attach", "hand")
	const waited = "10.40.0.7"
	if r := weftRun(h, "--ip", waited, "--", "-d", "--name", "waits", "--restart", "always", "box", "sh", "-c", "ip -4 address show dev eth0; exec sleep 1000"); r.Code != 0 {
		t.Fatal(r.Stderr)
	}
	run(h, "run", "-d", "--name", "once", "--network", "none", "box", "sleep", "1000")
	once := h.Run("weft", "attach", "once")
	attached(t, h, "plain")
	back := func(after string, all int) {
		t.Helper()
		has(t, h, "hand", "eth0", addr)
		has(t, h, "waits", "eth0", waited)
		netlab.Eventually(t, "both answer after "+after, func() bool { return netlab.Pings(h, addr) && netlab.Pings(h, waited) })
		if n := len(ps(t, h)); n != all {
			t.Errorf("%d attachments after %s; want %d", n, after, all)
		}
	}

	stop()
	stop = startDocker(t, h, "--live-restore")
	back("a restart of Docker that stops its containers", 4)
	inState(t, h, "once/eth0", "stopped")

	pid := run(h, "inspect", "-f", "{{.State.Pid}}", "hand")
	stop()
	if r := h.Try("weft", "detach", "docker:nix"); r.Code != 1 {
		t.Errorf("detach of nothing while Docker is away: %d %s", r.Code, r.Stderr)
	}
	mustPing(t, h, addr, "while Docker is away")
	startDocker(t, h, "--live-restore")
	back("a restart of Docker that keeps its containers", 4)
	if again := run(h, "inspect", "-f", "{{.State.Pid}}", "hand"); again != pid {
		t.Errorf("this was to be a restart that keeps containers, and process %s is %s", pid, again)
	}

	for n, order := range []string{"Docker first", "weft first"} {
		reboot(h, n)
		if order == "weft first" {
			h.Run("weft", "launch")
		}
		stop = startDocker(t, h, "--shutdown-timeout", "1")
		if order != "weft first" {
			h.Run("weft", "launch")
		}
		back("a reboot with "+order, 3) // the plain namespace is no more
	}
	for line := range strings.Lines(run(h, "logs", "waits")) {
		if strings.Contains(line, "inet ") && !strings.Contains(line, waited+"/") {
			t.Errorf("the container that waits began with %s", line)
		}
	}
	run(h, "start", "once")
	has(t, h, "once", "eth0", once)
	stop()
}
