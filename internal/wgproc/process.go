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

// Times that a start, a hand-over and each step of an end may take.
const (
	startTime = 10 * time.Second
	renewTime = 60 * time.Second
	endTime   = 3 * time.Second
)

// Process starts and ends the userspace WireGuards of a directory, one for each
// device.
type Process struct {
	// Command runs Main with the arguments that are appended; its first word is
	// the path of a program.
	Command  []string
	Dir      string // holds lock, log and socket
	Software string // version of the program, to be shown
}

// Own is the process that this same program is when it is called as `weft wg`.
func Own(dir, software string) Process {
	return Process{Command: []string{"/proc/self/exe", "wg"}, Dir: dir, Software: software}
}

// Start starts the process of a device, detached, and returns when it can be
// configured. Since there is no device yet, a process that still has the lock is
// a useless one, and is ended first.
func (p Process) Start(device, alias string, mtu int) error {
	if _, err := p.End(device); err != nil {
		return err
	}
	if err := p.run(startTime, device, "--alias="+alias, "--mtu="+strconv.Itoa(mtu)); err != nil {
		return fmt.Errorf("start userspace WireGuard: %w", err)
	}
	return nil
}

// Renew has a process of this program take the place of one of another build or in
// another container, without a packet lost, and tells whether there was one. It
// returns when the other has ended. If the other cannot be succeeded, it goes on.
func (p Process) Renew(device string) (renewed bool, err error) {
	if pid, err := p.oldOf(device); err != nil || pid != 0 {
		if err == nil {
			err = fmt.Errorf("userspace WireGuard (pid %d) is of a version that cannot be succeeded: "+
				"`weft stop --all && weft launch` replaces it, and interrupts traffic to other hosts for a moment", pid)
		}
		return false, err
	}
	for end := time.Now().Add(renewTime); ; {
		next, err := holder(lockPath(p.Dir, device), successor)
		if err != nil {
			return false, err
		}
		if next == 0 {
			break
		}
		if time.Now().After(end) {
			return false, fmt.Errorf("userspace WireGuard (pid %d) has not taken over: `weft stop --all && weft launch` starts it anew", next)
		}
		time.Sleep(step)
	}
	pid, err := holder(lockPath(p.Dir, device), carrier)
	if err != nil || pid == 0 {
		return false, err
	}
	if same, err := sameProgram(pid, p.Command[0]); err != nil || same {
		return false, err
	}
	if err := p.run(renewTime, device, "--succeed"); err != nil {
		return false, errors.Join(fmt.Errorf("replace userspace WireGuard: %w", err), p.endPart(lockPath(p.Dir, device), successor))
	}
	return true, nil
}

// run runs the command until the process that it starts is ready.
func (p Process) run(most time.Duration, device string, args ...string) error {
	ctx, cancel := context.WithTimeout(context.Background(), most)
	defer cancel()
	cmd := exec.CommandContext(ctx, p.Command[0], slices.Concat(p.Command[1:], []string{
		detachFlag, "--device=" + device, "--state-dir=" + p.Dir, softwareFlag + p.Software}, args)...)
	cmd.Args[0] = "weft"
	cmd.Env = environment()
	cmd.WaitDelay = time.Second
	word, err := cmd.Output()
	if err != nil && len(word) > 0 {
		err = errors.New(string(word))
	}
	return err
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

// End ends the process of a device and waits until it is gone, and the device
// with it; ended tells whether there was one.
func (p Process) End(device string) (ended bool, err error) {
	if pid, err := p.oldOf(device); err != nil || pid != 0 {
		if err == nil {
			err = p.endPart(filepath.Join(p.Dir, oldLock), carrier)
		}
		if err == nil {
			err = os.Remove(filepath.Join(p.Dir, oldLock)) // nobody makes it any more
		}
		return pid != 0, err
	}
	path := lockPath(p.Dir, device)
	for {
		again := false
		// The one that would take the other's place comes first.
		for _, part := range []int64{successor, carrier} {
			pid, err := holder(path, part)
			if err == nil && pid != 0 {
				again, err = true, p.endPart(path, part)
			}
			if err != nil {
				return ended, err
			}
		}
		if !again {
			lost, err := p.endLost(device)
			return ended || lost, errors.Join(err, p.forget(device))
		}
		ended = true
	}
}

// EndAll ends the processes of all devices.
func (p Process) EndAll() (ended bool, err error) {
	running, err := p.Running()
	if err != nil {
		return false, err
	}
	devices := map[string]bool{}
	for _, r := range running {
		devices[r.Device] = true
	}
	locks, _ := filepath.Glob(lockPath(p.Dir, "*")) // the pattern is a good one
	for _, path := range locks {
		devices[deviceOf(path)] = true
	}
	for _, x := range programs() {
		if filepath.Clean(x.dir) == filepath.Clean(p.Dir) {
			devices[x.device] = true
		}
	}
	for device := range devices {
		was, e := p.End(device)
		ended, err = ended || was, errors.Join(err, e)
	}
	return ended, err
}

// forget removes what a process that was killed has left, and the lock, of which
// nobody has a part while it is removed.
func (p Process) forget(device string) error {
	forgetSocket(device)
	path := lockPath(p.Dir, device)
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	l, err := takeLock(p.Dir, device, carrier)
	if err != nil {
		return nil // there is one again
	}
	defer l.close()
	removeHand(p.Dir, device)
	return os.Remove(path)
}

// endPart ends the process that has a part of a lock.
func (p Process) endPart(path string, part int64) error {
	pid, err := holder(path, part)
	if err != nil || pid == 0 {
		return err
	}
	if pid == elsewhere {
		return fmt.Errorf("end userspace WireGuard: it is in another container, and ends with that (%s)", path)
	}
	return end(pid, func() (bool, error) {
		now, err := holder(path, part)
		return now == pid, err
	})
}

// end ends a process, if it still is the one that is meant once it is held: it may
// have ended by itself, and the number may be another's.
func end(pid int, isMeant func() (bool, error)) error {
	fail := func(err error) error {
		return fmt.Errorf("end userspace WireGuard (pid %d): %w", pid, err)
	}
	process, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return fail(err)
	}
	defer unix.Close(process)
	if meant, err := isMeant(); err != nil || !meant {
		return err
	}
	for _, signal := range []unix.Signal{unix.SIGTERM, unix.SIGKILL} {
		if err := unix.PidfdSendSignal(process, signal, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
			return fail(err)
		}
		if gone, err := waitFor(process, endTime); err != nil || gone {
			return err
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

// Remove ends the process of a device and removes its files.
func (p Process) Remove(device string) (ended bool, err error) {
	if ended, err = p.End(device); err != nil {
		return ended, err
	}
	files := []string{logPath(p.Dir, device)}
	if pid, e := p.old(); e == nil && pid == 0 {
		files = append(files, filepath.Join(p.Dir, oldLock), filepath.Join(p.Dir, "wireguard.log"), filepath.Join(p.Dir, "wireguard.log.old"))
	}
	for _, name := range append(files, logPath(p.Dir, device)+".old") {
		if e := os.Remove(name); e != nil && !errors.Is(e, fs.ErrNotExist) {
			err = errors.Join(err, e)
		}
	}
	return ended, err
}
