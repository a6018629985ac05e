package cli

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/weft-net/weft/api"
)

// fakeDaemon answers on a socket with what it is told to.
type fakeDaemon struct {
	socket  string
	answers map[string]any // by path; an *api.Error is answered as such
	asked   map[string]string
}

func newFake(t *testing.T, answers map[string]any) *fakeDaemon {
	t.Helper()
	f := &fakeDaemon{socket: filepath.Join(t.TempDir(), "s"), answers: answers, asked: map[string]string{}}
	l, err := net.Listen("unix", f.socket)
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		f.asked[r.URL.Path] = string(b)
		if e, ok := f.answers[r.URL.Path].(*api.Error); ok {
			w.WriteHeader(http.StatusConflict)
			_ = json.NewEncoder(w).Encode(e)
			return
		}
		_ = json.NewEncoder(w).Encode(f.answers[r.URL.Path])
	})}
	go srv.Serve(l) //nolint:errcheck // ends at Close
	t.Cleanup(func() { srv.Close() })
	return f
}

// run is a command line with an environment.
func run(env map[string]string, args ...string) (stdout, stderr string, code int) {
	var out, errs bytes.Buffer
	code = Main(args, World{Stdin: strings.NewReader(""), Stdout: &out, Stderr: &errs,
		Env: func(k string) (string, bool) { v, ok := env[k]; return v, ok }})
	return out.String(), errs.String(), code
}

var c1 = api.Attachment{Container: "c1", Address: netip.MustParsePrefix("10.32.0.2/12"), Gateway: netip.MustParseAddr("10.32.0.1"),
	MAC: "0a:57:0a:20:00:02", Interface: "eth0", HostInterface: "weft0", NetNS: "/run/netns/c1", MTU: 1450, State: "attached", Since: time.Unix(0, 0),
	IPv6: []netip.Addr{netip.MustParseAddr("fd12:3456:789a::a20:2")}}

func TestAttachPrintsTheAddressAndNothingElse(t *testing.T) {
	f := newFake(t, map[string]any{api.PathAttach: c1})
	out, errs, code := run(nil, "attach", "c1", "10.32.0.2", "--ifname", "eth7", "--socket", f.socket)
	if out != "10.32.0.2\n" || errs != "" || code != 0 {
		t.Errorf("stdout %q, stderr %q, exit code %d", out, errs, code)
	}
	if want := `{"container":"c1","address":"10.32.0.2","interface":"eth7"}`; f.asked[api.PathAttach] != want {
		t.Errorf("asked %s; want %s", f.asked[api.PathAttach], want)
	}
}

func TestPsHasEveryFormat(t *testing.T) {
	f := newFake(t, map[string]any{api.PathAttachments: []api.Attachment{c1}})
	for format, want := range map[string]string{
		"table": "CONTAINER   ENGINE   ADDRESS        INTERFACE   MAC                 STATE      IPV6\nc1          -        10.32.0.2/12   eth0        0a:57:0a:20:00:02   attached   fd12:3456:789a::a20:2\n",
		"name":  "c1\n",
	} {
		if out, errs, code := run(nil, "ps", "-o", format, "--socket", f.socket); out != want || code != 0 {
			t.Errorf("%s: %q, %q, %d; want %q", format, out, errs, code, want)
		}
	}
	out, _, _ := run(nil, "ps", "-o", "json", "--socket", f.socket)
	var list []api.Attachment
	if err := json.Unmarshal([]byte(out), &list); err != nil || len(list) != 1 || list[0].Address != c1.Address {
		t.Errorf("json: %v: %s", err, out)
	}
	if out, _, _ := run(nil, "ps", "-o", "wide", "--socket", f.socket); !strings.Contains(out, "/run/netns/c1") {
		t.Errorf("wide: %s", out)
	}
}

func TestErrorsOfTheDaemonAreOneLineWithTheirExitCode(t *testing.T) {
	for code, exit := range map[api.Code]int{
		api.CodeInvalid: 2, api.CodeConflict: 1, api.CodeTimeout: 5, api.CodeExhausted: 1, api.CodeNotFound: 1, api.CodeUnavailable: 3,
	} {
		f := newFake(t, map[string]any{api.PathAttach: &api.Error{Code: code, Message: "it is\nso", Fix: "do that"}})
		out, errs, got := run(nil, "attach", "c1", "--socket", f.socket)
		if got != exit || out != "" || errs != "weft attach: it is so: do that\n" {
			t.Errorf("%s: exit code %d (want %d), %q, %q", code, got, exit, out, errs)
		}
	}
}

func TestStatusOfADegradedHostIsPrintedAndExits4(t *testing.T) {
	s := api.Status{Health: []api.Warning{{Code: "no-link", Severity: api.SeverityError, Text: "broken", Fix: "mend it"}}}
	f := newFake(t, map[string]any{api.PathStatus: s})
	out, errs, code := run(nil, "status", "--socket", f.socket)
	if code != 4 || errs != "" || !strings.Contains(out, "error no-link: broken\n    fix: mend it") {
		t.Errorf("exit code %d, stderr %q:\n%s", code, errs, out)
	}
	for view := range views {
		if _, errs, code := run(nil, "status", view, "-o", "json", "--socket", f.socket); code != 4 || errs != "" {
			t.Errorf("%s: exit code %d, %q", view, code, errs)
		}
	}
}

func TestEnvironmentStandsInForFlagsAndFlagsBeatIt(t *testing.T) {
	f := newFake(t, map[string]any{api.PathAttachments: []api.Attachment{c1}})
	if out, errs, code := run(map[string]string{"WEFT_SOCKET": f.socket, "WEFT_OUTPUT": "name"}, "ps"); out != "c1\n" || code != 0 {
		t.Errorf("by environment: %q, %q, %d", out, errs, code)
	}
	if _, _, code := run(map[string]string{"WEFT_SOCKET": f.socket}, "ps", "--socket", "/nowhere"); code != 3 {
		t.Errorf("the flag does not beat the environment: exit code %d", code)
	}
	if _, errs, code := run(map[string]string{"WEFT_TIMEOUT": "soon"}, "ps"); code != 2 || !strings.Contains(errs, "WEFT_TIMEOUT") {
		t.Errorf("a bad value: %q, %d", errs, code)
	}
}

func TestEveryVerbExplainsItselfWithAnExample(t *testing.T) {
	a := &app{World: World{Stdout: io.Discard, Stderr: io.Discard}}
	for _, c := range a.root().Commands() {
		if c.Hidden || c.Name() == "completion" || c.Name() == "help" {
			continue
		}
		if c.Short == "" || c.Example == "" && !c.HasSubCommands() {
			t.Errorf("%s has no purpose or no example", c.CommandPath())
		}
	}
	if out, _, code := run(nil, "attach", "--help"); code != 0 || !strings.Contains(out, "Examples:") {
		t.Errorf("--help: exit code %d: %s", code, out)
	}
}

func TestTokenNeverReachesTheArgumentsOfTheBackground(t *testing.T) {
	a := &app{World: World{Env: func(string) (string, bool) { return "", false }}}
	cmd := a.launch()
	if err := cmd.ParseFlags([]string{"--token", "weft1-secret", "--name", "n", "--join", "a,b"}); err != nil {
		t.Fatal(err)
	}
	got := strings.Join(childArgs(cmd, []string{"a", "b"}), " ")
	if got != "launch --foreground --name=n --join=a --join=b" {
		t.Errorf("arguments: %s", got)
	}
}

func TestBackgroundGetsTheListsThatWereGiven(t *testing.T) {
	a := &app{World: World{Env: func(string) (string, bool) { return "", false }}}
	want := []string{"192.0.2.1", "exec:/run/discover a,b", `exec:/run/discover "x y"`, "file:/a b"}
	for _, parse := range []func() []string{
		func() []string { return childArgs(a.launch(), want) },
		func() []string { // given by a flag, and passed on twice
			cmd := a.launch()
			if err := cmd.ParseFlags(childArgs(a.launch(), want)[1:]); err != nil {
				t.Fatal(err)
			}
			got, _ := cmd.Flags().GetStringSlice("join")
			return childArgs(a.launch(), got)
		},
	} {
		cmd := a.launch()
		if err := cmd.ParseFlags(parse()[1:]); err != nil {
			t.Fatal(err)
		}
		if got, err := cmd.Flags().GetStringSlice("join"); err != nil || !slices.Equal(got, want) {
			t.Errorf("%q, %v; want %q", got, err, want)
		}
	}
}

var update = flag.Bool("update", false, "write docs/commands.md anew")

func TestCommandReferenceIsCurrent(t *testing.T) {
	a := &app{World: World{Stdout: io.Discard, Stderr: io.Discard}}
	var b strings.Builder
	b.WriteString("# Command reference\n\nWhat `--help` says, written by `go test ./cli -update`.\n")
	var write func(c *cobra.Command)
	write = func(c *cobra.Command) {
		out, _, code := run(nil, append(strings.Fields(c.CommandPath())[1:], "--help")...)
		if code != 0 {
			t.Errorf("%s --help: exit code %d", c.CommandPath(), code)
		}
		fmt.Fprintf(&b, "\n## %s\n\n```\n%s```\n", c.CommandPath(), out)
		for _, sub := range c.Commands() {
			if !sub.Hidden && sub.Name() != "completion" && sub.Name() != "help" {
				write(sub)
			}
		}
	}
	write(a.root())
	const path = "../docs/commands.md"
	if *update {
		if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(path)
	if err != nil || string(have) != b.String() {
		t.Errorf("%s is not what --help says (%v): go test ./cli -update", path, err)
	}
}
