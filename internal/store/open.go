package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

const (
	fileName    = "weft.db"
	newName     = fileName + ".new" // a store that is being made
	openTimeout = time.Second
)

// ErrNotFound is wrapped by the error of Open where there is no store and none
// was to be made.
var ErrNotFound = errors.New("not found")

// Open opens the store of a state directory, and makes directory and store
// where there are none if create is set. A store of an older version is
// migrated. Errors: *LockedError, ErrNotFound, *VersionError, *DamagedError.
// None of them changes the file.
func Open(dir string, create bool) (_ *Store, err error) {
	path := filepath.Join(dir, fileName)
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) && !create {
		return nil, fmt.Errorf("no weft state in %s: %w", dir, ErrNotFound)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make state directory: %w", err)
	}
	lock, err := takeLock(dir)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			lock.Close()
		}
	}()
	_, err = os.Stat(path)
	fresh := errors.Is(err, fs.ErrNotExist)
	if fresh {
		if err := makeStore(dir); err != nil {
			return nil, fmt.Errorf("make store: %w", err)
		}
	}
	version, err := examineFile(path)
	if err != nil {
		return nil, err
	}
	db, err := openBolt(path)
	if err != nil {
		return nil, err
	}
	if err := update(db, version); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return &Store{db: db, lock: lock, dir: dir, created: fresh}, nil
}

// makeStore makes an empty store of the current version. It gets its name only
// when it is whole, so that a store that is there is never half-made.
func makeStore(dir string) error {
	path := filepath.Join(dir, newName)
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	db, err := bolt.Open(path, 0o600, &bolt.Options{Timeout: openTimeout})
	if err != nil {
		return err
	}
	err = db.Update(func(tx *bolt.Tx) error { return writeVersion(tx, Version) })
	if err := errors.Join(err, db.Close()); err != nil {
		return errors.Join(err, os.Remove(path))
	}
	if err := os.Rename(path, filepath.Join(dir, fileName)); err != nil {
		return err
	}
	return errors.Join(syncDir(dir), syncDir(filepath.Dir(dir)))
}

// examineFile finds out whether a store can be opened, and of which version it is.
func examineFile(path string) (version int, err error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, fmt.Errorf("open the store: %w", err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return 0, fmt.Errorf("open the store: %w", err)
	}
	version, err = examine(f, st.Size())
	switch {
	case err != nil:
		return 0, &DamagedError{path, err}
	case version > Version:
		return 0, &VersionError{path, version}
	}
	return version, nil
}

func openBolt(path string) (db *bolt.DB, err error) {
	damage := guarded(func() error {
		db, err = bolt.Open(path, 0o600, &bolt.Options{Timeout: openTimeout})
		return nil
	})
	switch {
	case damage != nil:
		return nil, &DamagedError{path, damage}
	case errors.Is(err, bolterrors.ErrTimeout):
		return nil, &LockedError{Dir: filepath.Dir(path)}
	case err != nil:
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	return db, nil
}

// update migrates a store to the current version.
func update(db *bolt.DB, version int) error {
	var failed error // by something else than damage, such as a full disk
	damage := guarded(func() error {
		failed = migrate(db, migrations[:], version)
		return nil
	})
	switch {
	case damage != nil:
		return &DamagedError{db.Path(), damage}
	case failed != nil:
		return fmt.Errorf("%s, which is left as it was: %w", db.Path(), failed)
	}
	return nil
}
