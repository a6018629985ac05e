// Package store keeps what a peer must not forget, in one bbolt file that is
// durable before any answer. It knows buckets, keys and bytes; what they mean
// is known by those that put them there. Its lock keeps a second daemon out of
// the same state directory. A file that was damaged since it was written is
// found out when it is opened, refused and left as it is.
package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	bolt "go.etcd.io/bbolt"
)

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
				err = b.Put(w.Key, seal(w))
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
	err := s.db.View(func(tx *bolt.Tx) (err error) {
		if b := tx.Bucket([]byte(bucket)); b != nil {
			if v := b.Get([]byte(key)); v != nil {
				out, err = unseal(bucket, []byte(key), v)
			}
		}
		return err
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
			value, err := unseal(bucket, k, v)
			out = append(out, Write{bucket, append([]byte{}, k...), value})
			return err
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
	for _, name := range append([]string{fileName, turnName}, others...) {
		if e := os.Remove(filepath.Join(s.dir, name)); e != nil && !errors.Is(e, fs.ErrNotExist) {
			err = errors.Join(err, e)
		}
	}
	if e := os.Remove(filepath.Join(s.dir, lockName)); e != nil && !errors.Is(e, fs.ErrNotExist) { // somebody deletes the directory
		err = errors.Join(err, e)
	}
	s.closed.Do(func() { err = errors.Join(err, s.lock.Close()) })
	if e := os.Remove(s.dir); e != nil && !errors.Is(e, syscall.ENOTEMPTY) && !errors.Is(e, fs.ErrNotExist) && !errors.Is(e, syscall.EBUSY) && !errors.Is(e, syscall.EROFS) {
		err = errors.Join(err, e)
	}
	if err != nil {
		return fmt.Errorf("remove state in %s: %w", s.dir, err)
	}
	return nil
}
