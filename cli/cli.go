// Package cli is the command line: a file a verb. It checks what can be
// checked without the daemon, asks the daemon over its socket, and prints: data
// to standard output, talk to standard error. Only launch, reset
// and stop run anything of the daemon in this process, and the hidden wg is a
// process of its own.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/weft-net/weft/api"
)

// World is what a command line sees of its process.
type World struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	Env            func(string) (string, bool)
}

// Process is the world of this process.
func Process() World {
	return World{Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Env: os.LookupEnv}
}

// app is what the verbs share in one run.
type app struct {
	World
	ctx     context.Context // of the whole run; signals are added by interruptible
	socket  string
	output  string
	timeout time.Duration
}

// Main runs one command line and returns the exit code.
func Main(args []string, w World) int {
	a := &app{World: w, ctx: context.Background()}
	root := a.root()
	root.SetArgs(args)
	cmd, err := root.ExecuteC()
	return a.finish(cmd, err)
}

const (
	groupHost       = "host"
	groupContainers = "containers"
	groupLook       = "look"
)

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "weft",
		Short: "One network for the containers of many hosts, without a central store",
		Long: `weft joins hosts into a mesh and gives every container on them an address of
its own. Start it on the first host with 'weft launch', run the line that this
prints on the others, and attach containers.

Every flag can be given in the environment, too: --state-dir as WEFT_STATE_DIR.

Exit codes: 0 done, 1 failed, 2 usage, 3 no daemon answers, 4 degraded, 5 timeout.`,
		Example: `  weft launch                                   # on the first host; prints the line for the others
  weft launch --join 192.168.1.1 --token weft1-…  # on every other host
  weft attach c1                                # network namespace c1 gets an address
  weft status`,
		SilenceErrors: true, SilenceUsage: true,
	}
	root.SetIn(a.Stdin)
	root.SetOut(a.Stdout)
	root.SetErr(a.Stderr)
	root.AddGroup(
		&cobra.Group{ID: groupHost, Title: "This host:"},
		&cobra.Group{ID: groupContainers, Title: "Containers:"},
		&cobra.Group{ID: groupLook, Title: "Look:"},
	)
	root.PersistentFlags().StringVar(&a.socket, "socket", api.DefaultSocket, "control `socket` of the daemon")
	root.PersistentFlags().Var(&wait{&a.timeout}, "timeout", "how long to wait at most (default 30s, launch 1m)")
	root.AddCommand(a.wg(), a.await(), a.hook())
	for _, v := range []struct {
		group string
		cmds  []*cobra.Command
	}{
		{groupHost, []*cobra.Command{a.launch(), a.connect(), a.forget(), a.prime(), a.expose(), a.hide(), a.stop(), a.leave(), a.reset(), a.rmpeer(), a.token(), a.keys(), a.cni()}},
		{groupContainers, []*cobra.Command{a.attach(), a.detach(), a.run(), a.publish(), a.unpublish(), a.ps()}},
		{groupLook, []*cobra.Command{a.status(), a.report(), a.version()}},
	} {
		for _, c := range v.cmds {
			c.GroupID = v.group
			root.AddCommand(c)
		}
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usage("%s", err) })
	root.PersistentPreRunE = func(cmd *cobra.Command, _ []string) error {
		if err := fromEnvironment(cmd, a.Env); err != nil {
			return err
		}
		if err := cmd.ValidateFlagGroups(); err != nil { // cobra does so later, and calls it no error of usage
			return usage("%s", err)
		}
		return nil
	}
	refuseUnknownTopics(root)
	return root
}

// refuseUnknownTopics makes usage errors of what cobra's own verbs answer with
// a help text and success.
func refuseUnknownTopics(root *cobra.Command) {
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	for _, c := range root.Commands() {
		switch c.Name() {
		case "help":
			c.Args = func(_ *cobra.Command, args []string) error {
				if _, _, err := root.Find(args); err != nil {
					return usage("%s", err)
				}
				return nil
			}
		case "completion":
			c.RunE = func(*cobra.Command, []string) error {
				return usage("say for which shell: weft completion bash, zsh, fish or powershell")
			}
		}
	}
}

// interruptible is a context that SIGINT and SIGTERM end. Until a verb calls
// it they end the process, so that nothing has to listen to them while the
// user is asked something.
func (a *app) interruptible() (context.Context, context.CancelFunc) {
	return signal.NotifyContext(a.ctx, os.Interrupt, syscall.SIGTERM)
}

// request is the context of one request to the daemon.
func (a *app) request() (context.Context, context.CancelFunc) {
	t := a.timeout
	if t <= 0 {
		t = 30 * time.Second
	}
	ctx, stop := a.interruptible()
	ctx, cancel := context.WithTimeout(ctx, t)
	return ctx, func() { cancel(); stop() }
}

func (a *app) client() *api.Client { return api.NewClient(a.socket) }

// say talks to the user.
func (a *app) say(format string, args ...any) { fmt.Fprintf(a.Stderr, format+"\n", args...) }

// Exit codes.
const (
	exitOK          = 0
	exitFailed      = 1
	exitUsage       = 2
	exitUnreachable = 3
	exitDegraded    = 4
	exitTimeout     = 5
)

// errDegraded ends a status that was printed and tells of errors.
var errDegraded = errors.New("degraded")

func usage(format string, args ...any) error {
	return &api.Error{Code: api.CodeInvalid, Message: fmt.Sprintf(format, args...)}
}

// finish prints an error in one line and returns the exit code.
func (a *app) finish(cmd *cobra.Command, err error) int {
	if err == nil {
		return exitOK
	}
	if errors.Is(err, errDegraded) {
		return exitDegraded
	}
	var theirs exitStatus
	if errors.As(err, &theirs) {
		return int(theirs)
	}
	var known *api.Error
	if !errors.As(err, &known) && cmd.Runnable() && !cmd.HasSubCommands() {
		known = &api.Error{Code: api.CodeFailed, Message: err.Error()}
	} else if known == nil {
		known = &api.Error{Code: api.CodeInvalid, Message: err.Error()} // cobra's own: unknown verb
	}
	code := map[api.Code]int{api.CodeInvalid: exitUsage, api.CodeUnavailable: exitUnreachable, api.CodeTimeout: exitTimeout}[known.Code]
	if code == 0 {
		code = exitFailed
	}
	line := strings.Join(strings.Fields(known.Error()), " ")
	if code == exitUsage && known.Fix == "" {
		line += ": see " + cmd.CommandPath() + " --help"
	}
	a.say("%s: %s", cmd.CommandPath(), line)
	return code
}
