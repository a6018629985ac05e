package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/weft-net/weft/api"
	"github.com/weft-net/weft/daemon"
)

// envReport names the descriptor over which a daemon in the background tells
// its parent how the launch goes, one event a line.
const envReport = "WEFT_REPORT_FD"

// event is one line of the report; one of its fields is set.
type event struct {
	Step  *daemon.Step  `json:"step,omitempty"`
	Ready *daemon.Ready `json:"ready,omitempty"`
	Error *api.Error    `json:"error,omitempty"`
}

func asError(err error) *api.Error {
	var known *api.Error
	if errors.As(err, &known) {
		return known
	}
	return &api.Error{Code: api.CodeFailed, Message: err.Error()}
}

// reporter is where the daemon's launch is told: to the parent, else to the
// user.
func (a *app) reporter() (func(event), error) {
	value, ok := a.Env(envReport)
	if !ok {
		return func(e event) {
			switch {
			case e.Step != nil:
				a.printStep(*e.Step)
			case e.Ready != nil:
				a.printReadiness(*e.Ready)
				a.say("`weft token show` prints the line to run on the next host.")
			}
		}, nil
	}
	fd, err := strconv.Atoi(value)
	if err != nil || fd < 3 {
		return nil, usage("%s=%q is not a descriptor", envReport, value)
	}
	syscall.CloseOnExec(fd)
	pipe := os.NewFile(uintptr(fd), "report")
	return func(e event) {
		// A parent that is gone does not want to know.
		_ = json.NewEncoder(pipe).Encode(e)
		if e.Step == nil {
			pipe.Close()
		}
	}, nil
}

// background starts the daemon in a session of its own and waits until it is
// ready or has failed.
func (a *app) background(cmd *cobra.Command, l launchFlags) error {
	ctx, stop := a.interruptible()
	defer stop()
	logFile := l.logFile
	argv := childArgs(cmd, l.opts.Join)
	if logFile == "" {
		logFile = filepath.Join(l.opts.StateDir, daemon.LogName)
		argv = slices.Insert(argv, 2, "--log-file="+logFile)
	}
	old := fileSize(logFile)
	r, w, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("make pipe: %w", err)
	}
	child := exec.Command("/proc/self/exe", argv...)
	child.Args[0] = "weft"
	child.Dir = "/"
	child.Env = append(childEnv(os.Environ(), l.opts.Token), envReport+"=3")
	child.ExtraFiles = []*os.File{w}
	child.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = child.Start()
	w.Close()
	if err != nil {
		r.Close()
		return fmt.Errorf("start the daemon: %w", err)
	}

	events := make(chan event)
	go readEvents(r, events)
	defer func() { // ends readEvents, and waits for it
		r.Close()
		for range events {
		}
	}()
	interrupt, interrupted := ctx.Done(), false
	for {
		select {
		case <-interrupt:
			// The daemon undoes what it did, and is awaited; a second
			// interrupt ends this process at once.
			stop()
			interrupt, interrupted = nil, true
			_ = child.Process.Signal(syscall.SIGTERM)
		case e, ok := <-events:
			switch {
			case e.Step != nil:
				a.printStep(*e.Step)
				continue
			case e.Ready != nil && !interrupted:
				return errors.Join(a.printReady(*e.Ready), child.Process.Release())
			case !ok:
				// One that closes the pipe without a word may live on.
				_ = child.Process.Signal(syscall.SIGTERM)
			}
			stop()           // from here on, an interrupt ends this process
			_ = child.Wait() // ProcessState has what it says
			switch {
			case interrupted:
				return &api.Error{Code: api.CodeFailed, Message: "interrupted", Fix: "`weft launch` starts again"}
			case e.Error != nil:
				return e.Error
			}
			return &api.Error{Code: api.CodeFailed,
				Message: fmt.Sprintf("the daemon ended without a word (%s)%s", child.ProcessState, lastWords(logFile, old))}
		}
	}
}

// readEvents reads a report until either end of it is closed, or a line is no
// event.
func readEvents(r io.Reader, events chan<- event) {
	defer close(events)
	lines := json.NewDecoder(r)
	for {
		var e event
		if lines.Decode(&e) != nil {
			return
		}
		events <- e
	}
}

// childEnv is the environment for a daemon that another process starts. It gets its
// flags as arguments, whatever way they were given here, and the token in the
// environment, where other users do not see it.
func childEnv(own []string, token string) []string {
	env := slices.DeleteFunc(slices.Clone(own), func(v string) bool { return strings.HasPrefix(v, "WEFT_") })
	return append(env, "WEFT_TOKEN="+token)
}

// standBy makes this process anew, as one that waits for its turn: whoever took
// it shall see this one's end, with all that it had open.
func standBy(cmd *cobra.Command, l *launchFlags) error {
	if err := cmd.Flags().Set("when-running", daemon.RunningWait); err != nil {
		return err
	}
	argv := append([]string{"weft"}, childArgs(cmd, l.opts.Join)...)
	if err := syscall.Exec("/proc/self/exe", argv, childEnv(os.Environ(), l.opts.Token)); err != nil {
		return fmt.Errorf("start again: %w", err)
	}
	return nil
}

// lastWords is the end of a log, for an error: of what was written since it had
// a size of old bytes, since what is before is an earlier daemon's.
func lastWords(path string, old int64) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	if old <= int64(len(b)) { // else the old log was set aside
		b = b[old:]
	}
	text := strings.TrimSpace(string(b))
	if text == "" {
		return ""
	}
	lines := strings.Split(text, "\n")
	return fmt.Sprintf("; the end of %s: %s", path, strings.Join(lines[max(0, len(lines)-3):], " "))
}

// fileSize is 0 for a file that is not there.
func fileSize(path string) int64 {
	st, err := os.Stat(path)
	if err != nil {
		return 0
	}
	return st.Size()
}

// notifySystemd says that the daemon is ready (sd_notify(3)), where systemd asks.
func notifySystemd() {
	if addr := os.Getenv("NOTIFY_SOCKET"); addr != "" {
		if c, err := net.Dial("unixgram", addr); err == nil {
			_, _ = c.Write([]byte("READY=1"))
			c.Close()
		}
	}
}
