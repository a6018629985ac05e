package store

import (
	"errors"
	"hash/fnv"
	"os"
	"path/filepath"
	"testing"

	bolt "go.etcd.io/bbolt"
)

// FuzzDamagedFile damages a sound store at a few places, makes the meta pages
// valid again, and opens it: what is not refused can be read and written, and
// bbolt's own check finds nothing in it.
func FuzzDamagedFile(f *testing.F) {
	dir := f.TempDir()
	filled(f, dir)
	good, err := os.ReadFile(filepath.Join(dir, fileName))
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte{0, 0, 24, 4}, false)
	f.Add([]byte{2, 0, 8, 0xff, 3, 0, 10, 1}, true)
	f.Add([]byte{4, 0, 16, 1, 4, 0, 20, 0x7f, 5, 1, 0, 0}, true)
	f.Fuzz(func(t *testing.T, changes []byte, cut bool) {
		file := append([]byte{}, good...)
		page := os.Getpagesize()
		for ; len(changes) >= 4; changes = changes[4:] {
			at := int(changes[0])*page + int(changes[1])<<8 + int(changes[2])
			if at < len(file) {
				file[at] ^= changes[3]
			}
		}
		for _, at := range []int{0, page} {
			h := fnv.New64a()
			h.Write(file[at+pageHeader : at+pageHeader+metaSize-8])
			order.PutUint64(file[at+pageHeader+metaSize-8:], h.Sum64())
		}
		if cut && len(changes) > 0 {
			file = file[:len(file)*int(changes[0])/256]
		}
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, fileName), file, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := Open(dir, false)
		if err != nil {
			if !errors.As(err, new(*DamagedError)) && !errors.As(err, new(*VersionError)) {
				t.Fatal(err)
			}
			return
		}
		defer s.Close()
		isSound(t, s)
		if err := s.Commit([]Write{{"tree", []byte("key-0050"), nil}, {"new", []byte("k"), make([]byte, 9000)}}); err != nil {
			t.Fatal(err)
		}
		isSound(t, s)
	})
}

// isSound reads all of a store, and has bbolt check it.
func isSound(t testing.TB, s *Store) {
	t.Helper()
	err := s.db.View(func(tx *bolt.Tx) error {
		var errs []error
		for err := range tx.Check() {
			errs = append(errs, err)
		}
		return errors.Join(append(errs, forEachBucket(tx, func(name string, _ *bolt.Bucket) error {
			_, err := s.All(name)
			return err
		}))...)
	})
	if err != nil {
		t.Errorf("the store is not sound: %v", err)
	}
}
