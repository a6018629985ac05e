// Package journal keeps what a daemon has to do that did not run when it was
// asked: one small file each, in the state directory. The daemon holds the
// journal's lock for as long as it runs, so that nothing can be added behind
// its back: what it finds at its start is all that there is, and came before
// every request that it answers. What an entry means is left to those that
// write and read it.
package journal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

const (
	dirName  = "journal"
	lockName = "lock"
	newName  = "new" // an entry that is being written
	suffix   = ".entry"
	maxEntry = 64 << 10 // bytes
	lockPoll = 10 * time.Millisecond
)

// ErrBusy says that a daemon runs, or another is adding an entry just now.
var ErrBusy = errors.New("a daemon holds the journal")

// ErrNoState says that there is no state directory, and so nothing to be done
// about it later.
var ErrNoState = errors.New("no state directory")

// Entry is one thing to be done.
type Entry struct {
	Name string
	Data []byte
}

// Journal is the daemon's side: as long as it is open nobody can add.
type Journal struct {
	dir  string
	lock *os.File
}

// Open takes the journal of a state directory, and waits for those that are
// adding to it until ctx ends.
func Open(ctx context.Context, stateDir string) (*Journal, error) {
	for {
		lock, err := takeLock(stateDir)
		if err == nil {
			return &Journal{filepath.Join(stateDir, dirName), lock}, nil
		}
		if !errors.Is(err, ErrBusy) {
			return nil, fmt.Errorf("open the journal: %w", err)
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("open the journal: %w", err)
		case <-time.After(lockPoll):
		}
	}
}

// Entries are those that were added and not removed. One that is too large to
// be one is an error, and the others are returned all the same.
func (j *Journal) Entries() ([]Entry, error) {
	files, err := os.ReadDir(j.dir)
	if err != nil {
		return nil, fmt.Errorf("read the journal: %w", err)
	}
	var out []Entry
	var errs []error
	for _, f := range files {
		name, ok := strings.CutSuffix(f.Name(), suffix)
		if !ok {
			continue
		}
		b, err := read(filepath.Join(j.dir, f.Name()))
		if err != nil {
			errs = append(errs, fmt.Errorf("read the journal: %w", err))
			continue
		}
		out = append(out, Entry{name, b})
	}
	return out, errors.Join(errs...)
}

func read(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxEntry+1))
	if err == nil && len(b) > maxEntry {
		err = fmt.Errorf("%s is larger than %d bytes", path, maxEntry)
	}
	return b, err
}

// Remove forgets an entry, durably. One that is gone is no error.
func (j *Journal) Remove(name string) error {
	if err := os.Remove(filepath.Join(j.dir, name+suffix)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove from the journal: %w", err)
	}
	return syncDir(j.dir)
}

// Close lets others add again.
func (j *Journal) Close() error { return j.lock.Close() }

// Destroy removes the journal of a state directory with all its entries.
func Destroy(stateDir string) error {
	if err := os.RemoveAll(filepath.Join(stateDir, dirName)); err != nil {
		return fmt.Errorf("remove the journal: %w", err)
	}
	return nil
}

// Add makes an entry durable while no daemon runs. The same name again replaces
// it. Errors: ErrBusy, ErrNoState.
func Add(stateDir, name string, data []byte) error {
	if len(data) > maxEntry || name == "" || strings.ContainsAny(name, "/\x00") {
		return fmt.Errorf("add %q to the journal: it is no name, or %d bytes are more than %d", name, len(data), maxEntry)
	}
	lock, err := takeLock(stateDir)
	if err != nil {
		return fmt.Errorf("add to the journal: %w", err)
	}
	defer lock.Close()
	dir := filepath.Join(stateDir, dirName)
	if err := write(filepath.Join(dir, newName), data); err != nil {
		return fmt.Errorf("add to the journal: %w", err)
	}
	if err := os.Rename(filepath.Join(dir, newName), filepath.Join(dir, name+suffix)); err != nil {
		return fmt.Errorf("add to the journal: %w", err)
	}
	return errors.Join(syncDir(dir), syncDir(stateDir))
}

func write(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// takeLock takes the lock without waiting.
func takeLock(stateDir string) (*os.File, error) {
	dir := filepath.Join(stateDir, dirName)
	if err := os.Mkdir(dir, 0o700); errors.Is(err, fs.ErrNotExist) {
		return nil, ErrNoState
	} else if err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	path := filepath.Join(dir, lockName)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrBusy // a reset removes it at this moment
	}
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, ErrBusy
		}
		return nil, err
	}
	// A reset may have removed the file in between, and a daemon made another.
	mine, err := f.Stat()
	if err == nil {
		var there fs.FileInfo
		if there, err = os.Stat(path); err == nil && os.SameFile(mine, there) {
			return f, nil
		}
	}
	f.Close()
	return nil, ErrBusy
}
