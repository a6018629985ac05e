package wgproc

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// A process whose lock was deleted, with the state directory or alone, is found by what
// it has: a TUN device, which the kernel names (proc_pid_fdinfo(5)).

// program is a process of userspace WireGuard in the caller's network namespace.
type program struct {
	pid         int
	device, dir string
}

// programs are all of them, whatever directory they were started for.
func programs() []program {
	own, err := os.Readlink("/proc/thread-self/ns/net")
	if err != nil {
		return nil
	}
	found, _ := filepath.Glob("/proc/[0-9]*") // the pattern is a good one
	var out []program
	for _, path := range found {
		pid, err := strconv.Atoi(filepath.Base(path))
		if err != nil {
			continue
		}
		device := argument(pid, "--device=")
		if device == "" || !isCalled(pid) {
			continue
		}
		// Both fail where it has ended meanwhile.
		if ns, err := os.Readlink(path + "/ns/net"); err != nil || ns != own || !hasTUN(pid, device) {
			continue
		}
		out = append(out, program{pid, device, argument(pid, "--state-dir=")})
	}
	return out
}

// isCalled tells whether a process is called as `weft wg`.
func isCalled(pid int) bool {
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	args := strings.Split(string(line), "\x00")
	return err == nil && len(args) > 1 && args[1] == "wg"
}

// hasTUN tells whether a process has the TUN device of a name open.
func hasTUN(pid int, device string) bool {
	open, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fdinfo/*", pid)) // the pattern is a good one
	return slices.ContainsFunc(open, func(path string) bool {
		info, err := os.ReadFile(path)
		if err != nil {
			return false
		}
		for line := range strings.Lines(string(info)) {
			if name, ok := strings.CutPrefix(line, "iff:"); ok {
				return strings.TrimSpace(name) == device
			}
		}
		return false
	})
}

// endLost ends the processes that have a device and no lock.
func (p Process) endLost(device string) (ended bool, err error) {
	for _, x := range programs() {
		if x.device != device {
			continue
		}
		has := func() (bool, error) { return isCalled(x.pid) && hasTUN(x.pid, device), nil }
		if err := end(x.pid, has); err != nil {
			return ended, err
		}
		ended = true
	}
	return ended, nil
}
