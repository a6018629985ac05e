package store

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const lockName = "lock"

const (
	// endingTime is how long the lock of a process that has ended, or is about to,
	// may still be held: by itself, or by a child that was not a program of its own yet.
	endingTime  = 5 * time.Second
	endingPause = 20 * time.Millisecond
)

// LockedError says that another process uses the state directory.
type LockedError struct {
	Dir string
	PID int // 0 if it is not known
}

func (e *LockedError) Error() string {
	if e.PID == 0 {
		return fmt.Sprintf("state directory %s is in use by another weft daemon", e.Dir)
	}
	return fmt.Sprintf("state directory %s is in use by another weft daemon (pid %d)", e.Dir, e.PID)
}

func takeLock(dir string) (*os.File, error) {
	path := filepath.Join(dir, lockName)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock of state directory: %w", err)
	}
	for start := time.Now(); ; time.Sleep(endingPause) {
		if syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil {
			break
		}
		b, _ := os.ReadFile(path)
		if pid, _ := strconv.Atoi(strings.TrimSpace(string(b))); !ending(pid) || time.Since(start) > endingTime {
			f.Close()
			return nil, &LockedError{Dir: dir, PID: pid}
		}
	}
	err = f.Truncate(0)
	if err == nil {
		_, err = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("write lock of state directory: %w", err)
	}
	return f, nil
}

// ending tells whether a process has ended or is about to by a signal that it
// cannot refuse.
func ending(pid int) bool {
	if pid == 0 {
		return false
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return true
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || isEnding(string(status), string(stat))
}

// isEnding reads what the kernel says of a process.
func isEnding(status, stat string) bool {
	for line := range strings.Lines(status) {
		key, value, _ := strings.Cut(line, ":")
		switch value = strings.TrimSpace(value); key {
		case "State":
			if strings.HasPrefix(value, "Z") || strings.HasPrefix(value, "X") {
				return true
			}
		case "SigPnd", "ShdPnd":
			if pending, err := strconv.ParseUint(value, 16, 64); err == nil && pending&(1<<(unix.SIGKILL-1)) != 0 {
				return true
			}
		}
	}
	// The name may have blanks and brackets; the flags are the seventh after it.
	fields := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	if len(fields) < 7 {
		return false
	}
	flags, err := strconv.ParseUint(fields[6], 10, 64)
	const exiting = 0x4 // PF_EXITING
	return err == nil && flags&exiting != 0
}
