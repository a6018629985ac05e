package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/weft-net/weft/internal/netlab"
)

// newer builds another weft, which says that it is of this version.
func newer(t *testing.T, version string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "weft")
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w -X github.com/weft-net/weft/daemon.software="+version, "-o", path, "github.com/weft-net/weft")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build: %v: %s", err, out)
	}
	return path
}

func TestUpgradesOfOneAndOfBothAtOnceLoseNoPing(t *testing.T) {
	second, third := newer(t, "7.7.2"), newer(t, "7.7.3")
	for _, encap := range []string{"wireguard", "vxlan", "direct"} {
		t.Run(encap, func(t *testing.T) {
			_, hosts := launched(t, 2, "--encap", encap)
			h := hosts[0]
			uses(t, h, hosts[1], encap)
			process := func() string {
				if status(t, h).Mesh.Userspace {
					return wgProcess(t, h)
				}
				return ""
			}
			old := process()
			check := streaming(t, hosts)
			time.Sleep(500 * time.Millisecond)

			h.Run("weft", "stop")
			said := h.Try(second, "launch")
			now := process()
			if said.Code != 0 || strings.Contains(said.Stderr, "renew userspace WireGuard") != (old != "") || old != "" && now == old {
				t.Errorf("the process was %s and is %s; launch says %s", old, now, said.Stderr)
			}
			for _, p := range status(t, h).Mesh.Processes {
				if p.Software != "7.7.2" || !strings.Contains(h.Run(second, "status", "-o", "wide"), "weft 7.7.2") {
					t.Errorf("status says %+v", p)
				}
			}
			h.Run(second, "stop")
			if said := h.Try(second, "launch"); said.Code != 0 || process() != now {
				t.Errorf("launched again, the process was %s and is %s: %s", now, process(), said.Stderr)
			}
			launched := make(chan netlab.Result)
			for _, h := range hosts {
				kill9(t, h)
				go func() { launched <- h.Try(third, "launch") }()
			}
			for range hosts {
				if said := <-launched; said.Code != 0 {
					t.Errorf("both at once: %+v", said)
				}
			}
			for _, h := range hosts {
				if s := status(t, h); s.Version.Software != "7.7.3" || old != "" && (len(s.Mesh.Processes) != 1 || s.Mesh.Processes[0].Software != "7.7.3") {
					t.Errorf("status says %+v, %+v", s.Version, s.Mesh.Processes)
				}
			}
			time.Sleep(500 * time.Millisecond)
			check()
			h.Run(third, "stop", "--all")
			for _, p := range h.Processes() {
				if strings.Contains(p, "weft") {
					t.Errorf("still runs %s", p)
				}
			}
			left := h.Run("bash", "-c", "find /run /var/lib/weft -name 'wireguard*.lock' -o -name 'wireguard*.sock' -o -path '*/wireguard/*'; true")
			if left != "" {
				t.Errorf("left: %s", left)
			}
		})
	}
}
