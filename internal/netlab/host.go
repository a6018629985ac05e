package netlab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Slowness is how many times as long everything may take here as elsewhere: a
// machine without acceleration says so.
var Slowness = func() time.Duration {
	n, err := strconv.Atoi(os.Getenv("WEFT_TEST_SLOWNESS"))
	if err != nil || n < 1 {
		return 1
	}
	return time.Duration(n)
}()

// commandTime bounds every command that a test runs.
var commandTime = 90 * time.Second * Slowness

// Host is a machine of the lab.
type Host struct {
	Name string
	Addr netip.Addr // on the underlay
	lab  *Lab
	pid  int    // of its init, as seen from outside
	port string // its end on the underlay
}

// Result is how a command ended.
type Result struct {
	Stdout, Stderr string
	Code           int
}

// command runs inside of the host's namespaces.
func (h *Host) command(ctx context.Context, args []string) *exec.Cmd {
	enter := []string{"-t", strconv.Itoa(h.pid), "-m", "-n", "-p", "-u", "--"}
	cmd := exec.CommandContext(ctx, "nsenter", append(enter, args...)...)
	cmd.Env = []string{"PATH=" + h.lab.binaries + ":" + os.Getenv("PATH") + ":/usr/sbin:/sbin", "HOME=/root", "LC_ALL=C", "GORACE=" + os.Getenv("GORACE")}
	cmd.Dir = "/"
	cmd.WaitDelay = time.Second
	return cmd
}

// Path is a file of the host as this process can open it.
func (h *Host) Path(name string) string { return fmt.Sprintf("/proc/%d/root%s", h.pid, name) }

// Try runs a command and returns how it ended.
func (h *Host) Try(args ...string) Result {
	h.lab.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), commandTime)
	defer cancel()
	return h.try(ctx, nil, args)
}

func (h *Host) try(ctx context.Context, input io.Reader, args []string) Result {
	h.lab.t.Helper()
	cmd := h.command(ctx, args)
	var out, errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = input, &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		h.lab.t.Fatalf("%s: run %q: %v", h.Name, args, err)
	}
	return Result{out.String(), errs.String(), cmd.ProcessState.ExitCode()}
}

// Run runs a command that has to succeed, and returns what it printed.
func (h *Host) Run(args ...string) string {
	h.lab.t.Helper()
	r := h.Try(args...)
	if r.Code != 0 {
		h.lab.t.Fatalf("%s: %q: exit code %d\n%s%s", h.Name, args, r.Code, r.Stdout, r.Stderr)
	}
	return strings.TrimSpace(r.Stdout)
}

// Feed is Try with something on the command's standard input.
func (h *Host) Feed(input string, args ...string) Result {
	h.lab.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), commandTime)
	defer cancel()
	return h.try(ctx, strings.NewReader(input), args)
}

// Root is the path by which this process reaches the host's files.
func (h *Host) Root() string { return fmt.Sprintf("/proc/%d/root", h.pid) }

// Start runs a command in the background. It ends with the host at the latest;
// the returned function ends it and returns what it printed.
func (h *Host) Start(args ...string) (stop func() string) {
	h.lab.t.Helper()
	cmd := h.command(context.Background(), args)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		h.lab.t.Fatalf("%s: start %q: %v", h.Name, args, err)
	}
	done := make(chan struct{})
	go func() { defer close(done); _ = cmd.Wait() }() // its end is what matters
	h.lab.t.Cleanup(func() { _ = cmd.Process.Kill(); <-done })
	return func() string {
		// nsenter forwards nothing: the command itself is its child.
		_ = exec.Command("pkill", "-INT", "-P", strconv.Itoa(cmd.Process.Pid)).Run()
		<-done
		return out.String()
	}
}

// connect sets eth0 up, and waits until the kernel has: what is looked at must not
// change by itself.
func (h *Host) connect() {
	h.lab.t.Helper()
	h.Run("ip", "link", "set", "eth0", "up")
	Eventually(h.lab.t, h.Name+" has a link", func() bool { return h.Run("cat", "/sys/class/net/eth0/operstate") == "up" })
}

// Container makes a network namespace of that name on the host.
func (h *Host) Container(name string) *Container {
	h.lab.t.Helper()
	h.Run("ip", "netns", "add", name)
	return &Container{Host: h, Name: name}
}

// Loss drops part of what reaches the host, in percent; 0 ends it.
func (h *Host) Loss(percent int) {
	h.lab.t.Helper()
	h.Try("nft", "delete table netdev lab")
	if percent > 0 {
		h.Run("nft", fmt.Sprintf("add table netdev lab; add chain netdev lab in { type filter hook ingress device eth0 priority 0; };"+
			"add rule netdev lab in numgen random mod 100 < %d drop", percent))
	}
}

// passing is a process in the middle of its end, or by which a daemon looks at the
// firewall, now and then and for a moment.
var passing = regexp.MustCompile(`^\[.*[^>]$|^(nft|ip6?tables\S*)( |$)`)

// Processes are the command lines of the host's processes but its init, zombies
// included. Those that are passing are waited for.
func (h *Host) Processes() []string {
	h.lab.t.Helper()
	var out []string
	Eventually(h.lab.t, "what ends has ended", func() bool {
		out = h.processes()
		return !slices.ContainsFunc(out, passing.MatchString)
	})
	return out
}

func (h *Host) processes() (out []string) {
	h.lab.t.Helper()
	for line := range strings.SplitSeq(h.Run("ps", "-eo", "pid,args"), "\n") {
		f := strings.Fields(line)
		if len(f) > 1 && f[0] != "PID" && f[0] != "1" && f[1] != "ps" {
			out = append(out, strings.Join(f[1:], " "))
		}
	}
	return out
}

// Container is a network namespace on a host.
type Container struct {
	*Host
	Name string
}

// Try runs a command inside.
func (c *Container) Try(args ...string) Result {
	c.lab.t.Helper()
	return c.Host.Try(append([]string{"ip", "netns", "exec", c.Name}, args...)...)
}

// Run runs a command inside that has to succeed.
func (c *Container) Run(args ...string) string {
	c.lab.t.Helper()
	return c.Host.Run(append([]string{"ip", "netns", "exec", c.Name}, args...)...)
}

// Start runs a command inside in the background.
func (c *Container) Start(args ...string) (stop func() string) {
	c.lab.t.Helper()
	return c.Host.Start(append([]string{"ip", "netns", "exec", c.Name}, args...)...)
}

// Pinger is a Host or a Container.
type Pinger interface{ Try(args ...string) Result }

// Pings tells whether one ping of three comes back.
func Pings(from Pinger, to string) bool {
	return from.Try("ping", "-c", "3", "-i", "0.05", "-W", "1", to).Code == 0
}

var (
	pingSummary = regexp.MustCompile(`(\d+) packets transmitted, (\d+) received`)
	pingAnswer  = regexp.MustCompile(`icmp_seq=(\d+) ttl=`)
)

// onTheirWay is how many answers may be on their way when ping is told to end.
const onTheirWay = 20

// Lost counts the pings without an answer in what ping printed, but for the
// last ones, whose answers may have been on their way when ping was told to end.
func Lost(ping string) (sent, lost int, err error) {
	m := pingSummary.FindStringSubmatch(ping)
	if m == nil {
		return 0, 0, fmt.Errorf("ping printed no summary: %s", ping)
	}
	sent, _ = strconv.Atoi(m[1])
	got, _ := strconv.Atoi(m[2])
	last := 0
	for _, m := range pingAnswer.FindAllStringSubmatch(ping, -1) {
		seq, _ := strconv.Atoi(m[1])
		last = max(last, seq)
	}
	if tail := sent - last; tail <= onTheirWay*int(Slowness) {
		got += tail
	}
	return sent, sent - got, nil
}
