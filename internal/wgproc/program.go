package wgproc

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Info says what process carries the packets of a device.
type Info struct {
	Device   string
	PID      int    // 0 in another container
	Software string // version of the program; "" for one of an older weft, or in another container
}

// Running are the processes of the directory, in the order of their devices.
func (p Process) Running() ([]Info, error) {
	locks, err := filepath.Glob(lockPath(p.Dir, "*"))
	if err != nil {
		return nil, err
	}
	var out []Info
	for _, path := range locks {
		pid, err := holder(path, carrier)
		if err != nil {
			return nil, err
		}
		if pid != 0 {
			out = append(out, Info{deviceOf(path), max(0, pid), argument(pid, softwareFlag)})
		}
	}
	old, err := p.old()
	if err != nil {
		return nil, err
	}
	if old != 0 {
		out = append(out, Info{argument(old, "--device="), old, ""})
	}
	return out, nil
}

// old is the process of an older weft, 0 if there is none.
func (p Process) old() (pid int, err error) { return holder(filepath.Join(p.Dir, oldLock), carrier) }

// oldOf is that process if it carries the packets of a device.
func (p Process) oldOf(device string) (pid int, err error) {
	if pid, err = p.old(); pid != 0 && argument(pid, "--device=") != device {
		pid = 0
	}
	return pid, err
}

// deviceOf is the opposite of lockPath.
func deviceOf(lock string) string {
	return strings.TrimSuffix(strings.TrimPrefix(filepath.Base(lock), "wireguard-"), ".lock")
}

// argument is the rest of a process's argument that begins like this.
func argument(pid int, prefix string) string {
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil {
		return ""
	}
	for arg := range strings.SplitSeq(string(line), "\x00") {
		if rest, ok := strings.CutPrefix(arg, prefix); ok {
			return rest
		}
	}
	return ""
}

// sameProgram tells whether a process runs the program in a file: the very file,
// or one with the same content. That says more than any version, which builds
// need not change, and a process of any build can be asked it. One of another
// container is never the same: it ends with that.
func sameProgram(pid int, path string) (bool, error) {
	if pid == elsewhere {
		return false, nil
	}
	of := fmt.Sprintf("/proc/%d/exe", pid)
	a, err := os.Stat(of)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil // it has ended
	}
	b, e := os.Stat(path)
	if err = errors.Join(err, e); err != nil {
		return false, fmt.Errorf("look at the program of process %d: %w", pid, err)
	}
	if os.SameFile(a, b) {
		return true, nil
	}
	if a.Size() != b.Size() {
		return false, nil
	}
	x, err := digest(of)
	if err != nil {
		return false, err
	}
	y, err := digest(path)
	return x == y, err
}

func digest(path string) (sum [sha256.Size]byte, err error) {
	f, err := os.Open(path)
	if err != nil {
		return sum, fmt.Errorf("read a program: %w", err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return sum, fmt.Errorf("read a program: %w", err)
	}
	return [sha256.Size]byte(h.Sum(nil)), nil
}
