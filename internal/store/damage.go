package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"time"
)

// DamagedError says that a store's bytes are not those that were written. The
// file is left as it is.
type DamagedError struct {
	Path  string
	Cause error
}

func (e *DamagedError) Error() string {
	return fmt.Sprintf("the store %s is damaged: %v", e.Path, e.Cause)
}

// Unwrap returns the cause.
func (e *DamagedError) Unwrap() error { return e.Cause }

// VersionError says that a newer weft wrote the store. The file is left as it is.
type VersionError struct {
	Path    string
	Version int
}

func (e *VersionError) Error() string {
	return fmt.Sprintf("the store %s is of version %d, and this weft knows up to %d", e.Path, e.Version, Version)
}

// SetAside renames the store of a state directory that nobody uses, so that the
// next Open makes a new one, and returns its new path. It never replaces a file.
func SetAside(dir string, now time.Time) (string, error) {
	lock, err := takeLock(dir)
	if err != nil {
		return "", err
	}
	defer lock.Close()
	from := filepath.Join(dir, fileName)
	base := from + ".corrupt-" + now.UTC().Format("20060102T150405Z")
	to := base
	for i := 2; ; i++ {
		// The lock keeps out whoever else might make a file of that name.
		_, err := os.Lstat(to)
		if errors.Is(err, fs.ErrNotExist) {
			break
		}
		if err != nil {
			return "", fmt.Errorf("set the store aside: %w", err)
		}
		to = fmt.Sprintf("%s.%d", base, i)
	}
	if err := os.Rename(from, to); err != nil {
		return "", fmt.Errorf("set the store aside: %w", err)
	}
	return to, syncDir(dir)
}

// PutBack undoes SetAside, where no other store has been made since.
func PutBack(dir, aside string) error {
	lock, err := takeLock(dir)
	if err != nil {
		return err
	}
	defer lock.Close()
	to := filepath.Join(dir, fileName)
	if _, err := os.Lstat(to); !errors.Is(err, fs.ErrNotExist) {
		return errors.Join(fmt.Errorf("put the store back: %s: %w", to, fs.ErrExist), err)
	}
	if err := os.Rename(aside, to); err != nil {
		return fmt.Errorf("put the store back: %w", err)
	}
	return syncDir(dir)
}

// syncDir makes the names in a directory durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("open directory to sync it: %w", err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("sync directory %s: %w", dir, err)
	}
	return nil
}

// guarded turns a panic into an error, and so a fault on a page of the file
// that is mapped but cannot be read. Examined files should give neither.
func guarded(what func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("reading it failed: %v", r)
		}
	}()
	return what()
}
