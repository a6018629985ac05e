package wgproc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// A device's lock file has a byte for each part that a process can have. Which
// process has one is said by the kernel (POSIX record locks): no process id is
// written down that could become another process's.
const (
	carrier   = int64(iota) // carries the packets
	successor               // is about to
	parts
)

// oldLock is the lock of an older weft, which had one process at most. It locked the
// whole file.
const oldLock = "wireguard.lock"

func lockPath(dir, device string) string { return filepath.Join(dir, "wireguard-"+device+".lock") }
func logPath(dir, device string) string  { return filepath.Join(dir, "wireguard-"+device+".log") }
func handPath(dir, device string) string { return filepath.Join(dir, "wireguard-"+device+".sock") }

func record(part int64, kind int16) *unix.Flock_t {
	return &unix.Flock_t{Type: kind, Whence: io.SeekStart, Start: part, Len: 1}
}

// lock is the open lock file of a process that has a part.
type lock struct{ f *os.File }

// takeLock makes the caller have a part, until it ends or closes the lock.
func takeLock(dir, device string, part int64) (*lock, error) {
	for {
		f, err := os.OpenFile(lockPath(dir, device), os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return nil, fmt.Errorf("open the lock of userspace WireGuard: %w", err)
		}
		if err := unix.FcntlFlock(f.Fd(), unix.F_SETLK, record(part, unix.F_WRLCK)); err != nil {
			f.Close()
			return nil, fmt.Errorf("userspace WireGuard runs already (%s): %w", f.Name(), err)
		}
		have, err := f.Stat()
		if now, e := os.Stat(f.Name()); err == nil && e == nil && os.SameFile(have, now) {
			return &lock{f}, nil
		}
		f.Close() // somebody removed it in between
	}
}

// becomeCarrier waits until the carrier has ended, takes its place, and is the
// successor no more.
func (l *lock) becomeCarrier(ctx context.Context) error {
	for {
		err := unix.FcntlFlock(l.f.Fd(), unix.F_SETLK, record(carrier, unix.F_WRLCK))
		if err == nil {
			return unix.FcntlFlock(l.f.Fd(), unix.F_SETLK, record(successor, unix.F_UNLCK))
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("take the lock of userspace WireGuard: %w", err)
		case <-time.After(time.Millisecond):
		}
	}
}

func (l *lock) close() { l.f.Close() }

// elsewhere stands for a process that is in another container, so that it has no
// number here (pid_namespaces(7)).
const elsewhere = -1

// holder is the process that has a part, 0 if there is none. A process that has
// one itself must not ask: it would lose it.
func holder(path string, part int64) (pid int, err error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("open the lock of userspace WireGuard: %w", err)
	}
	defer f.Close()
	held := record(part, unix.F_WRLCK)
	if err := unix.FcntlFlock(f.Fd(), unix.F_GETLK, held); err != nil {
		return 0, fmt.Errorf("look who holds %s: %w", f.Name(), err)
	}
	switch {
	case held.Type == unix.F_UNLCK:
		return 0, nil
	case held.Pid == 0:
		return elsewhere, nil
	}
	return int(held.Pid), nil
}
