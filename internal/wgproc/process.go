package wgproc

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Times that a start and each step of an end may take.
const (
	startTime = 10 * time.Second
	endTime   = 3 * time.Second
)

// Process starts and ends the one userspace WireGuard of a directory.
type Process struct {
	// Command runs Main with the arguments that are appended.
	Command []string
	Dir     string // holds lock and log
}

// Own is the process that this same program is when it is called as `weft wg`.
func Own(dir string) Process {
	return Process{Command: []string{"/proc/self/exe", "wg"}, Dir: dir}
}

// Start starts the process, detached, and returns when it can be configured.
// Since there is no device yet, a process that still has the lock is a useless
// one, and is ended first.
func (p Process) Start(device, alias string, mtu int) error {
	if _, err := p.End(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), startTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, p.Command[0], slices.Concat(p.Command[1:], []string{
		detachFlag, "--device=" + device, "--alias=" + alias, "--mtu=" + strconv.Itoa(mtu), "--state-dir=" + p.Dir})...)
	cmd.Args[0] = "weft"
	cmd.Env = environment()
	cmd.WaitDelay = time.Second
	word, err := cmd.Output()
	if err != nil && len(word) > 0 {
		err = errors.New(string(word))
	}
	if err != nil {
		return fmt.Errorf("start userspace WireGuard: %w", err)
	}
	return nil
}

// environment keeps secrets and other programs' expectations from a process
// that outlives them; what is left is the Go runtime's.
func environment() []string {
	out := []string{} // nil would be all
	for _, v := range os.Environ() {
		if strings.HasPrefix(v, "GO") {
			out = append(out, v)
		}
	}
	return out
}

// End ends the process and waits until it is gone, and its device with it;
// ended tells whether there was one.
func (p Process) End() (ended bool, err error) {
	pid, err := holder(p.Dir)
	if err != nil || pid == 0 {
		return false, err
	}
	fail := func(err error) (bool, error) {
		return false, fmt.Errorf("end userspace WireGuard (pid %d): %w", pid, err)
	}
	process, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return false, nil
	}
	if err != nil {
		return fail(err)
	}
	defer unix.Close(process)
	if now, err := holder(p.Dir); err != nil || now != pid {
		return false, err // it ended by itself, and the number may be another's
	}
	for _, signal := range []unix.Signal{unix.SIGTERM, unix.SIGKILL} {
		if err := unix.PidfdSendSignal(process, signal, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
			return fail(err)
		}
		if gone, err := waitFor(process, endTime); err != nil || gone {
			return gone, err
		}
	}
	return fail(errors.New("it does not end"))
}

// waitFor waits for the end of a process, by its descriptor.
func waitFor(process int, most time.Duration) (gone bool, err error) {
	for end := time.Now().Add(most); time.Now().Before(end); {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(process), Events: unix.POLLIN}}, int(time.Until(end).Milliseconds())+1)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return false, fmt.Errorf("wait for the end of userspace WireGuard: %w", err)
		}
		if n > 0 {
			return true, nil
		}
	}
	return false, nil
}

// Remove ends the process and removes its files, the socket of its device
// included.
func (p Process) Remove(device string) (ended bool, err error) {
	if ended, err = p.End(); err != nil {
		return ended, err
	}
	forgetSocket(device)
	for _, name := range []string{lockName, logName, logName + ".old"} {
		if e := os.Remove(filepath.Join(p.Dir, name)); e != nil && !errors.Is(e, fs.ErrNotExist) {
			err = errors.Join(err, e)
		}
	}
	return ended, err
}
