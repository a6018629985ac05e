package wgproc

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Files of the process in its directory.
const (
	lockName = "wireguard.lock"
	logName  = "wireguard.log"
)

// wholeFile is a POSIX record lock, of which the kernel says who holds it: no
// process id is written down that could become another process's.
func wholeFile() *unix.Flock_t { return &unix.Flock_t{Type: unix.F_WRLCK, Whence: io.SeekStart} }

// takeLock makes the caller the one process of a directory, until it ends or
// closes the file.
func takeLock(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, lockName), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the lock of userspace WireGuard: %w", err)
	}
	if err := unix.FcntlFlock(f.Fd(), unix.F_SETLK, wholeFile()); err != nil {
		f.Close()
		return nil, fmt.Errorf("userspace WireGuard runs already (%s): %w", f.Name(), err)
	}
	return f, nil
}

// holder is the process that has the lock of a directory, 0 if there is none.
func holder(dir string) (pid int, err error) {
	f, err := os.Open(filepath.Join(dir, lockName))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("open the lock of userspace WireGuard: %w", err)
	}
	defer f.Close()
	lock := wholeFile()
	if err := unix.FcntlFlock(f.Fd(), unix.F_GETLK, lock); err != nil {
		return 0, fmt.Errorf("look who holds %s: %w", f.Name(), err)
	}
	if lock.Type == unix.F_UNLCK {
		return 0, nil
	}
	return int(lock.Pid), nil
}
