package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/weft-net/weft/api"
	"github.com/weft-net/weft/daemon"
)

// roleEnv makes this test binary, when a launch under test starts it as the
// daemon, play one. It keeps clear of WEFT_, which a launch does not hand on.
const roleEnv = "CLI_TEST_DAEMON"

func TestMain(m *testing.M) {
	if role := os.Getenv(roleEnv); role != "" && os.Getenv(envReport) != "" {
		os.Exit(playDaemon(role))
	}
	os.Exit(m.Run())
}

// playDaemon reports over the pipe as its role has it, and is the exit code.
func playDaemon(role string) int {
	pipe := json.NewEncoder(os.NewFile(3, "report"))
	end := make(chan os.Signal, 1)
	signal.Notify(end, syscall.SIGTERM)
	seen := fmt.Sprintf("args %q token %q file %q", os.Args[1:], os.Getenv("WEFT_TOKEN"), os.Getenv("WEFT_TOKEN_FILE"))
	_ = pipe.Encode(event{Step: &daemon.Step{Name: "open state", Took: time.Millisecond, Detail: seen}})
	ready := event{Ready: &daemon.Ready{Founded: true, Name: "h", Join: "weft launch --join x", Peers: 1,
		Gateway: netip.MustParsePrefix("10.32.0.1/12"), Prefixes: []netip.Prefix{netip.MustParsePrefix("10.32.0.0/12")}}}
	switch role {
	case "ready":
		_ = pipe.Encode(ready)
	case "error":
		_ = pipe.Encode(event{Error: &api.Error{Code: api.CodeTimeout, Message: "nobody answers", Fix: "look there"}})
		return 1
	case "ready-though-ended":
		<-end
		_ = pipe.Encode(ready)
	case "crash":
		log := strings.TrimPrefix(os.Args[slices.IndexFunc(os.Args, func(a string) bool { return strings.HasPrefix(a, "--log-file=") })], "--log-file=")
		f, _ := os.OpenFile(log, os.O_APPEND|os.O_WRONLY, 0)
		fmt.Fprintln(f, "panic: out of thread")
		return 7
	}
	return 0
}

// writer calls a function for each write, and keeps all.
type writer struct {
	bytes.Buffer
	on func()
}

func (w *writer) Write(b []byte) (int, error) {
	if w.on != nil {
		w.on()
	}
	return w.Buffer.Write(b)
}

// launchAs runs a launch in the background whose daemon plays a role. The role
// that waits to be ended is interrupted at its first step.
func launchAs(t *testing.T, role string, args ...string) (stdout, stderr, stateDir string, err error) {
	t.Helper()
	t.Setenv(roleEnv, role)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var out bytes.Buffer
	var errs writer
	if role == "ready-though-ended" {
		errs.on = cancel
	}
	a := &app{World: World{Stdout: &out, Stderr: &errs}, ctx: ctx}
	cmd := a.launch()
	if err := cmd.ParseFlags(args); err != nil {
		t.Fatal(err)
	}
	l := launchFlags{opts: daemon.DefaultOptions()}
	l.opts.StateDir, l.opts.Token = t.TempDir(), "weft1-secret"
	if err := os.WriteFile(filepath.Join(l.opts.StateDir, daemon.LogName), []byte("an earlier daemon's word\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	err = a.background(cmd, l)
	return out.String(), errs.String(), l.opts.StateDir, err
}

func TestLaunchPrintsStepsAndThenTheJoinLineAsData(t *testing.T) {
	out, errs, _, err := launchAs(t, "ready")
	if err != nil || out != "weft launch --join x\n" {
		t.Errorf("stdout %q, error %v", out, err)
	}
	for _, want := range []string{"  open state  ", "1ms", "h founded a mesh: 1 peers, gateway 10.32.0.1, address space 10.32.0.0/12"} {
		if !strings.Contains(errs, want) {
			t.Errorf("stderr lacks %q:\n%s", want, errs)
		}
	}
	out, _, _, err = launchAs(t, "ready", "-o", "json")
	var r daemon.Ready
	if err != nil || json.Unmarshal([]byte(out), &r) != nil || r.Join != "weft launch --join x" {
		t.Errorf("json: error %v, stdout %s", err, out)
	}
}

func TestLaunchHandsTheTokenOnByEnvironmentOnlyAndOnce(t *testing.T) {
	t.Setenv("WEFT_TOKEN_FILE", "/where/it/came/from")
	_, errs, _, err := launchAs(t, "ready", "--token", "weft1-secret")
	if err != nil || !strings.Contains(errs, `token "weft1-secret" file ""`) {
		t.Errorf("error %v, the daemon sees:\n%s", err, errs)
	}
	if args, _, _ := strings.Cut(errs, " token "); strings.Contains(args, "secret") {
		t.Errorf("the token is among the arguments: %s", args)
	}
}

func TestLaunchEndsWithTheDaemonsError(t *testing.T) {
	out, _, _, err := launchAs(t, "error")
	if api.CodeOf(err) != api.CodeTimeout || err.Error() != "nobody answers: look there" || out != "" {
		t.Errorf("stdout %q, error %v", out, err)
	}
}

func TestLaunchQuotesTheLogOfADaemonThatDiesWithoutAWord(t *testing.T) {
	_, _, dir, err := launchAs(t, "crash")
	want := "the daemon ended without a word (exit status 7); the end of " + filepath.Join(dir, daemon.LogName) + ": panic: out of thread"
	if err == nil || err.Error() != want {
		t.Errorf("error %v; want %s", err, want)
	}
}

func TestAnInterruptedLaunchEndsTheDaemonEvenIfItJustBecameReady(t *testing.T) {
	out, _, _, err := launchAs(t, "ready-though-ended")
	var e *api.Error
	if !errors.As(err, &e) || e.Message != "interrupted" || out != "" {
		t.Errorf("stdout %q, error %v", out, err)
	}
}

func TestPathsAreMadeAbsoluteForADaemonThatWorksElsewhere(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	a := &app{socket: "s"}
	l := launchFlags{logFile: "log", opts: daemon.Options{StateDir: "state"}}
	if err := l.completePaths(a); err != nil {
		t.Fatal(err)
	}
	got := []string{l.opts.StateDir, l.opts.Socket, a.socket, l.logFile}
	if want := []string{dir + "/state", dir + "/s", dir + "/s", dir + "/log"}; !slices.Equal(got, want) {
		t.Errorf("got %q; want %q", got, want)
	}
	l.logFile = "missing/log"
	if err := l.completePaths(a); api.CodeOf(err) != api.CodeInvalid {
		t.Errorf("a log in a directory that is not there: %v", err)
	}
	l.logFile = "state/log" // which the daemon makes
	if err := l.completePaths(a); err != nil {
		t.Errorf("a log in the state directory: %v", err)
	}
}

func TestAForegroundLaunchTellsItsParentWhyItRefusesItsFlags(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	fd, err := syscall.Dup(int(w.Fd()))
	w.Close()
	if err != nil {
		t.Fatal(err)
	}
	_, errs, code := run(map[string]string{envReport: fmt.Sprint(fd)}, "launch", "--foreground", "--range", "lots")
	var e event
	if err := json.NewDecoder(r).Decode(&e); err != nil || e.Error == nil || e.Error.Code != api.CodeInvalid || code != exitUsage {
		t.Errorf("exit code %d, stderr %q, told %+v (%v)", code, errs, e, err)
	}
}

func TestAutoTakesBackWhatAnEarlierLaunchWasGiven(t *testing.T) {
	given := func(name, mtu, subnet string, advertise ...string) (o daemon.Options, err error) {
		l := launchFlags{opts: daemon.Options{HostOptions: daemon.HostOptions{Name: name}}, mtu: mtu, subnet: subnet, advertise: advertise}
		err = l.completeAutomatic()
		return l.opts, err
	}
	if o, err := given("auto", "auto", "auto", "auto"); err != nil || o.Automatic != (daemon.Automatic{Name: true, Advertise: true, MTU: true, Subnet: true}) ||
		o.Name != "" || o.MTU != 0 || o.Subnet.IsValid() || o.Advertise.IsValid() {
		t.Errorf("auto: %+v, %v", o, err)
	}
	if o, err := given("", "", ""); err != nil || o.Automatic != (daemon.Automatic{}) {
		t.Errorf("nothing: %+v, %v", o, err)
	}
	if o, err := given("h1", "1400", "10.40.0.0/16", "192.0.2.1", "192.0.2.2"); err != nil || o.Automatic != (daemon.Automatic{}) ||
		o.Name != "h1" || o.MTU != 1400 || o.Subnet.Bits() != 16 || o.Advertise.String() != "192.0.2.1" || len(o.AdvertiseAlso) != 1 {
		t.Errorf("values: %+v, %v", o, err)
	}
	for says, bad := range map[string][]string{"MTU": {"", "1k", ""}, "subnet": {"", "", "10.40"}, "advertise": {"", "", "", "192.0.2.1", "auto"}} {
		if _, err := given(bad[0], bad[1], bad[2], bad[3:]...); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%v: %v; want it to say %q", bad, err, says)
		}
	}
}
