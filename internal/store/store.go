// Package store keeps what a peer must not forget, in one bbolt file that is
// durable before any answer. It knows buckets, keys and bytes; what they mean
// is known by those that put them there. Its lock keeps a second daemon out of
// the same state directory.
package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// Version of the store's layout. A store of a newer version is refused.
//
//	1  first layout
const Version = 1

const (
	fileName    = "weft.db"
	lockName    = "lock"
	metaBucket  = "meta"
	versionKey  = "version"
	openTimeout = time.Second
)

// ErrNotFound is wrapped by the error of Open where there is no store and none
// was to be made.
var ErrNotFound = errors.New("not found")

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

// Store is an open store. It is safe for concurrent use.
type Store struct {
	db   *bolt.DB
	lock *os.File
	dir  string
	// created tells that this Open made the store.
	created bool
	closed  sync.Once
}

// Write is one change: Value nil deletes the key.
type Write struct {
	Bucket     string
	Key, Value []byte
}

// Open opens the store of a state directory, and makes directory and store
// where there are none if create is set. Errors: *LockedError, ErrNotFound, a
// refusal of a newer version, and damage, which leaves the file as it is.
func Open(dir string, create bool) (*Store, error) {
	path := filepath.Join(dir, fileName)
	_, err := os.Stat(path)
	fresh := errors.Is(err, fs.ErrNotExist)
	if fresh && !create {
		return nil, fmt.Errorf("no weft state in %s: %w", dir, ErrNotFound)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make state directory: %w", err)
	}
	lock, err := takeLock(dir)
	if err != nil {
		return nil, err
	}
	db, err := bolt.Open(path, 0o600, &bolt.Options{Timeout: openTimeout})
	if err != nil {
		lock.Close()
		if errors.Is(err, bolterrors.ErrTimeout) {
			return nil, &LockedError{Dir: dir}
		}
		return nil, fmt.Errorf("open %s (left as it is): %w", path, err)
	}
	s := &Store{db: db, lock: lock, dir: dir, created: fresh}
	if err := s.checkVersion(); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

func takeLock(dir string) (*os.File, error) {
	path := filepath.Join(dir, lockName)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock of state directory: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		b, _ := os.ReadFile(path)
		f.Close()
		pid, _ := strconv.Atoi(strings.TrimSpace(string(b)))
		return nil, &LockedError{Dir: dir, PID: pid}
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

func (s *Store) checkVersion() error {
	return s.db.Update(func(tx *bolt.Tx) error {
		b, err := tx.CreateBucketIfNotExists([]byte(metaBucket))
		if err != nil {
			return err
		}
		v := b.Get([]byte(versionKey))
		if v == nil {
			return b.Put([]byte(versionKey), []byte(strconv.Itoa(Version)))
		}
		n, err := strconv.Atoi(string(v))
		if err != nil {
			return fmt.Errorf("%s has no readable version: %q", s.db.Path(), v)
		}
		if n > Version {
			return fmt.Errorf("%s is of version %d, this weft knows up to %d: use the newer weft again", s.db.Path(), n, Version)
		}
		return nil
	})
}

// Created tells whether this Open made the store.
func (s *Store) Created() bool { return s.created }

// Commit makes all writes durable, or none.
func (s *Store) Commit(writes []Write) error {
	if len(writes) == 0 {
		return nil
	}
	err := s.db.Update(func(tx *bolt.Tx) error {
		for _, w := range writes {
			b, err := tx.CreateBucketIfNotExists([]byte(w.Bucket))
			if err != nil {
				return err
			}
			if w.Value == nil {
				err = b.Delete(w.Key)
			} else {
				err = b.Put(w.Key, w.Value)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("write to %s: %w", s.db.Path(), err)
	}
	return nil
}

// Put makes one value durable.
func (s *Store) Put(bucket, key string, value []byte) error {
	return s.Commit([]Write{{bucket, []byte(key), value}})
}

// Get returns a copy of one value, nil if there is none.
func (s *Store) Get(bucket, key string) ([]byte, error) {
	var out []byte
	err := s.db.View(func(tx *bolt.Tx) error {
		if b := tx.Bucket([]byte(bucket)); b != nil {
			if v := b.Get([]byte(key)); v != nil {
				out = append([]byte{}, v...)
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read %s/%s: %w", bucket, key, err)
	}
	return out, nil
}

// All returns copies of a bucket's keys and values, in the order of the keys.
func (s *Store) All(bucket string) ([]Write, error) {
	var out []Write
	err := s.db.View(func(tx *bolt.Tx) error {
		b := tx.Bucket([]byte(bucket))
		if b == nil {
			return nil
		}
		return b.ForEach(func(k, v []byte) error {
			out = append(out, Write{bucket, append([]byte{}, k...), append([]byte{}, v...)})
			return nil
		})
	})
	if err != nil {
		return nil, fmt.Errorf("read bucket %s: %w", bucket, err)
	}
	return out, nil
}

// Close releases the store and its lock; again it does nothing.
func (s *Store) Close() (err error) {
	s.closed.Do(func() { err = errors.Join(s.db.Close(), s.lock.Close()) })
	return err
}

// Destroy closes the store and deletes it; the directory goes too if nothing
// else is in it.
func (s *Store) Destroy(others ...string) error {
	// The lock is let go of last, so that no other daemon starts on half of it.
	err := s.db.Close()
	for _, name := range append([]string{fileName}, others...) {
		if e := os.Remove(filepath.Join(s.dir, name)); e != nil && !errors.Is(e, fs.ErrNotExist) {
			err = errors.Join(err, e)
		}
	}
	err = errors.Join(err, os.Remove(filepath.Join(s.dir, lockName)))
	s.closed.Do(func() { err = errors.Join(err, s.lock.Close()) })
	if e := os.Remove(s.dir); e != nil && !errors.Is(e, syscall.ENOTEMPTY) && !errors.Is(e, fs.ErrNotExist) && !errors.Is(e, syscall.EBUSY) {
		err = errors.Join(err, e)
	}
	if err != nil {
		return fmt.Errorf("remove state in %s: %w", s.dir, err)
	}
	return nil
}
