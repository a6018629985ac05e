package cli

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
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
				_ = a.printReady(*e.Ready)
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
	r, w, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("make pipe: %w", err)
	}
	defer r.Close()
	logFile := l.logFile
	argv := childArgs(cmd, l.opts.Join)
	if logFile == "" {
		logFile = filepath.Join(l.opts.StateDir, daemon.LogName)
		argv = slices.Insert(argv, 2, "--log-file="+logFile)
	}
	child := exec.Command("/proc/self/exe", argv...)
	child.Args[0] = "weft"
	child.Dir = "/"
	child.Env = append(os.Environ(), envReport+"=3", "WEFT_TOKEN="+l.opts.Token)
	child.ExtraFiles = []*os.File{w}
	child.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = child.Start()
	w.Close()
	if err != nil {
		return fmt.Errorf("start the daemon: %w", err)
	}

	events, failed := make(chan event), make(chan error, 1)
	go func() { // ends when the child closes its end, at ready or by its own end
		defer close(events)
		lines := bufio.NewScanner(r)
		for lines.Scan() {
			var e event
			if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
				failed <- fmt.Errorf("read the daemon's report: %w", err)
				return
			}
			events <- e
		}
	}()
	interrupted := a.ctx.Done()
	for {
		select {
		case <-interrupted:
			// The daemon undoes what it did; its last word is awaited.
			interrupted = nil
			_ = child.Process.Signal(syscall.SIGTERM)
		case e, ok := <-events:
			switch {
			case !ok:
				select {
				case err := <-failed:
					return err
				default:
				}
				return errors.Join(&api.Error{Code: api.CodeFailed, Message: "the daemon ended without a word" + lastWords(logFile)}, child.Wait())
			case e.Step != nil:
				a.printStep(*e.Step)
			case e.Error != nil:
				_ = child.Wait() // its exit code says no more than its error
				return e.Error
			case e.Ready != nil:
				return errors.Join(a.printReady(*e.Ready), child.Process.Release())
			}
		}
	}
}

// lastWords is the end of a log, for an error.
func lastWords(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	return fmt.Sprintf("; the end of %s: %s", path, strings.Join(lines[max(0, len(lines)-3):], " "))
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
