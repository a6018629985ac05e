package e2e

import (
	"strings"
	"testing"

	"github.com/weft-net/weft/internal/netlab"
)

// weftRun is weft run with Debian's docker.
func weftRun(h *netlab.Host, args ...string) netlab.Result {
	return h.Try(append([]string{"bash", "-c", `PATH=` + debian + `:$PATH; exec weft run "$@"`, "weft"}, args...)...)
}

func TestRunGivesTheProcessItsInterfaceBeforeItBegins(t *testing.T) {
	h := engineHosts(t, 1)[0]
	refusesRun(t, h, "docker does not answer", "--", "--rm", "box", "true")
	startDocker(t, h)
	_, peer := attached(t, h, "peer")

	// Three in a row: nobody is lucky so often.
	for range 3 {
		if r := weftRun(h, "--ip", "10.40.0.9", "--", "--rm", "box", "ping", "-c", "1", "-W", "1", peer); r.Code != 0 {
			t.Errorf("the first thing that a container does is no ping: exit code %d\n%s%s", r.Code, r.Stdout, r.Stderr)
		}
	}
	if n := len(ps(t, h)); n != 1 {
		netlab.Eventually(t, "what --rm removed is forgotten", func() bool { return len(ps(t, h)) == 1 })
	}
	for want, args := range map[int][]string{
		7:   {"box", "sh", "-c", "exit 7"},
		127: {"box", "no-such-program"},
		125: {"--no-such-flag", "box"},
	} {
		if r := weftRun(h, append([]string{"--", "--rm"}, args...)...); r.Code != want {
			t.Errorf("%v ends with %d; want %d: %s", args, r.Code, want, r.Stderr)
		}
	}
	r := h.Try("bash", "-c", "PATH="+debian+":$PATH; echo typed | weft run -- --rm -i box cat")
	if r.Code != 0 || r.Stdout != "typed\n" {
		t.Errorf("standard input: exit code %d, %q, %s", r.Code, r.Stdout, r.Stderr)
	}
	r = h.Try("script", "-qec", "PATH="+debian+":$PATH; weft run -- -it --rm box sh -c 'test -t 0 && echo a terminal; exit 3'", "/dev/null")
	if r.Code != 3 || !strings.Contains(r.Stdout, "a terminal") {
		t.Errorf("with a terminal: exit code %d, %q, %s", r.Code, r.Stdout, r.Stderr)
	}
	refusesRun(t, h, "no network of its own", "--ip", "10.40.0.8", "--", "--network", "host", "box", "true")

	// In the background, and again after every start.
	script := "ip -4 address show dev eth0 && ip route show default && exec sleep 1000"
	r = weftRun(h, "--ip", "10.40.0.7", "--", "-d", "--name", "web", "--restart", "always", "box", "sh", "-c", script)
	if id := run(h, "inspect", "-f", "{{.Id}}", "web"); r.Code != 0 || strings.TrimSpace(r.Stdout) != id {
		t.Fatalf("-d prints %q; want %s: %s", r.Stdout, id, r.Stderr)
	}
	run(h, "restart", "-t", "0", "web")
	run(h, "exec", "web", "sh", "-c", "kill -9 -1; true")
	netlab.Eventually(t, "three starts, each with address and route", func() bool {
		log := run(h, "logs", "web")
		return strings.Count(log, "inet 10.40.0.7/") >= 2 && strings.Count(log, "default via") == strings.Count(log, "inet 10.40.0.7/")
	})

	// An address that is taken: nothing runs, and it is said why.
	r = weftRun(h, "--ip", "10.40.0.7", "--", "--name", "late", "box", "echo", "ran")
	if r.Code != 125 || !strings.Contains(r.Stderr, "10.40.0.7") || r.Stdout != "" {
		t.Errorf("with a taken address: exit code %d, %q, %s", r.Code, r.Stdout, r.Stderr)
	}
}

// refusesRun runs weft run, which must fail.
func refusesRun(t *testing.T, h *netlab.Host, say string, args ...string) {
	t.Helper()
	if r := weftRun(h, args...); r.Code == 0 || !strings.Contains(r.Stderr, say) || r.Stdout != "" {
		t.Errorf("%v: exit code %d, %s (want %s)", args, r.Code, r.Stderr, say)
	}
}
