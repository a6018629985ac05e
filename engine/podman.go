package engine

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// podmanUsed is what every podman of root makes before it does anything else
// after the machine has started.
const podmanUsed = "/run/libpod"

// podman has no daemon, and where it is asked to be one its socket ends when
// nobody speaks. Its program works in either case.
type podman struct{}

// NewPodman returns root's podman.
func NewPodman() Engine { return podman{} }

func (podman) Name() string       { return Podman }
func (podman) KeepsStopped() bool { return true }

// ready finds the program. To run it takes a tenth of a second, so that is left
// out where podman was not used since the machine was started: then none of its
// containers runs.
func (podman) ready() (program string, err error) {
	program, err = exec.LookPath("podman")
	if err != nil {
		return "", silent(err, "podman is not installed")
	}
	if _, err := os.Stat(podmanUsed); err != nil {
		return "", silent(err, "podman was not used since this machine was started")
	}
	return program, nil
}

// command runs podman so that it ends with this process at the latest.
func command(ctx context.Context, program string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.WaitDelay = time.Second
	return cmd
}

// Find asks for the one container that podman means by a reference.
func (p podman) Find(ctx context.Context, ref string) ([]Container, error) {
	if !reference().MatchString(ref) {
		return nil, nil
	}
	program, err := p.ready()
	if err != nil {
		return nil, err
	}
	// The signal that ends the child is bound to the thread that started it.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var out, errs bytes.Buffer
	cmd := command(ctx, program, "inspect", "--type", "container", ref)
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		said := strings.TrimSpace(errs.String())
		if strings.Contains(said, "no such") {
			return nil, nil
		}
		return nil, silent(err, "podman does not answer: %v: %s", err, said)
	}
	var list []json.RawMessage
	if err := json.Unmarshal(out.Bytes(), &list); err != nil {
		return nil, fmt.Errorf("read podman's description of container %s: %w", ref, err)
	}
	var found []Container
	for _, b := range list {
		c, err := decode(Podman, b)
		if err != nil {
			return nil, err
		}
		found = append(found, c)
	}
	return found, nil
}

// Watch follows podman's events.
func (p podman) Watch(ctx context.Context, begun func(), changed func(id string)) error {
	program, err := p.ready()
	if err != nil {
		return err
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd := command(ctx, program, "events", "--format", "json", "--filter", "type=container")
	out, err := cmd.StdoutPipe()
	if err != nil {
		return fmt.Errorf("follow podman's events: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("follow podman's events: %w", err)
	}
	begun()
	err = follow(Podman, out, changed)
	_ = cmd.Process.Kill() // it may run still where what it said cannot be read
	return errors.Join(err, cmd.Wait())
}
