package store

import (
	"bytes"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"
)

// filled is a closed store with buckets of all kinds: inline, a page, a tree,
// with long values and free pages. It is the same each time.
func filled(t testing.TB, dir string) {
	s, err := Open(dir, true)
	if err != nil {
		t.Fatal(err)
	}
	var tree []Write
	for i := range 120 {
		tree = append(tree, Write{"tree", fmt.Appendf(nil, "key-%04d", i), bytes.Repeat([]byte{byte(i)}, i%64)})
	}
	for _, writes := range [][]Write{
		tree,
		{{"peer", []byte("identity"), []byte("me")}, {"peer", []byte("token"), []byte("secret")}},
		{{"page", []byte("snapshot"), bytes.Repeat([]byte("long"), 1030)}},
		{{"tree", []byte("key-0007"), nil}, {"gone", []byte("k"), nil}},
	} {
		if err := s.Commit(writes); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestDamagedStoreIsRefusedAndKept(t *testing.T) {
	base := t.TempDir()
	filled(t, base)
	good := readFile(t, base)
	page := os.Getpagesize()
	change := func(f func([]byte)) []byte { b := bytes.Clone(good); f(b); return b }
	structural := func(f func(*bolt.Tx) error) []byte {
		dir := t.TempDir()
		filled(t, dir)
		rewrite(t, dir, f)
		return readFile(t, dir)
	}
	for name, tc := range map[string]struct {
		want string
		file []byte
	}{
		"empty":              {"it is empty", nil},
		"not a store":        {"meta pages", []byte(strings.Repeat("#!/bin/sh\n", 5000))},
		"zeros":              {"meta pages", make([]byte, len(good))},
		"a few bytes":        {"meta pages", good[:10]},
		"cut in a meta page": {"it has", good[:page+10]},
		"cut":                {"it has", good[:5*page]},
		"torn meta pages": {"meta pages", change(func(b []byte) {
			clear(b[20:40])
			clear(b[page+20 : page+40])
		})},
		"pages of zeros":      {"page ", change(func(b []byte) { clear(b[2*page:]) })},
		"pages of something":  {"page ", change(func(b []byte) { copy(b[2*page:], bytes.Repeat([]byte{0xff}, len(b)-2*page)) })},
		"no meta bucket":      {"version is missing", structural(func(tx *bolt.Tx) error { return tx.DeleteBucket([]byte(metaBucket)) })},
		"no version":          {"version is missing", structural(func(tx *bolt.Tx) error { return tx.Bucket([]byte(metaBucket)).Delete([]byte(versionKey)) })},
		"unreadable version":  {"no version of a store", structural(put(metaBucket, map[string]string{versionKey: "two"}))},
		"a value by somebody": {"checksum", structural(put("peer", map[string]string{"identity": "another"}))},
		"a bucket in another": {"no value", structural(func(tx *bolt.Tx) error { _, err := tx.Bucket([]byte("peer")).CreateBucket([]byte("b")); return err })},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, fileName), tc.file, 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := Open(dir, true)
			var damaged *DamagedError
			if !errors.As(err, &damaged) || !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("Open = %v; want damage, one line with %q", err, tc.want)
			}
			if !bytes.Equal(tc.file, readFile(t, dir)) {
				t.Error("the damaged store was changed")
			}
		})
	}
}

// kept is a digest of every value of a file.
func kept(file []byte) (uint64, error) {
	h := fnv.New64a()
	_, err := walk(bytes.NewReader(file), int64(len(file)), func(bucket string, key, value []byte) {
		fmt.Fprintf(h, "%s %d %s %d %s", bucket, len(key), key, len(value), value)
	})
	return h.Sum64(), err
}

// Of all bytes, one in the newer meta page takes the store back by a commit,
// since it is as if the power had failed before that page was written. All
// others are found, or are not in use.
func TestNoDamagedByteChangesWhatIsRead(t *testing.T) {
	dir := t.TempDir()
	filled(t, dir)
	file := readFile(t, dir)
	want, err := kept(file)
	if err != nil {
		t.Fatal(err)
	}
	found, tried := 0, 0
	for i := 2 * os.Getpagesize(); i < len(file) && i < 16*os.Getpagesize(); i++ {
		if file[i] == 0 && i%16 > 0 {
			continue // most of a file is unused
		}
		flip := byte(1) << (i * 5 % 8)
		file[i] ^= flip
		tried++
		if _, err := examine(bytes.NewReader(file), int64(len(file))); err != nil {
			found++
		} else if got, err := kept(file); got != want {
			t.Errorf("byte %d: another content was read (%v)", i, err)
		}
		file[i] ^= flip
	}
	t.Logf("%d of %d damaged bytes were found", found, tried)
	if found < 6000 {
		t.Errorf("only %d of %d were found", found, tried)
	}
}

func TestSetAsideKeepsEveryFile(t *testing.T) {
	dir := t.TempDir()
	now := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	seen := map[string]bool{}
	for i := range 3 {
		file := fmt.Appendf(nil, "damaged %d", i)
		if err := os.WriteFile(filepath.Join(dir, fileName), file, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(dir, true); err == nil {
			t.Fatal("a damaged store was opened")
		}
		path, err := SetAside(dir, now)
		if err != nil || seen[path] || !strings.HasPrefix(path, filepath.Join(dir, "weft.db.corrupt-20300102T030405Z")) {
			t.Fatalf("SetAside = %s, %v; seen: %v", path, err, seen)
		}
		seen[path] = true
		s := open(t, dir)
		if !s.Created() {
			t.Error("the store is not a new one")
		}
		if err := PutBack(dir, path); err == nil {
			t.Error("PutBack of a store in use went through")
		}
		if _, err := SetAside(dir, now); !errors.As(err, new(*LockedError)) {
			t.Errorf("SetAside of a store in use: %v", err)
		}
		s.Close()
	}
	for i := range 3 {
		if !seen[filepath.Join(dir, "weft.db.corrupt-20300102T030405Z"+[]string{"", ".2", ".3"}[i])] {
			t.Errorf("set aside as %v", seen)
		}
	}
}

func TestPutBackUndoesSetAsideAndReplacesNothing(t *testing.T) {
	dir := t.TempDir()
	filled(t, dir)
	want := readFile(t, dir)
	path, err := SetAside(dir, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	open(t, dir).Close()
	if err := PutBack(dir, path); !errors.Is(err, fs.ErrExist) {
		t.Errorf("PutBack over a store: %v", err)
	}
	if err := os.Remove(filepath.Join(dir, fileName)); err != nil {
		t.Fatal(err)
	}
	if err := PutBack(dir, path); err != nil || !bytes.Equal(readFile(t, dir), want) {
		t.Errorf("PutBack: %v", err)
	}
}

func TestLeftoverOfAStoreThatWasBeingMadeIsReplaced(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, newName), []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := open(t, dir)
	defer s.Close()
	if !s.Created() {
		t.Error("the store is not a new one")
	}
}
