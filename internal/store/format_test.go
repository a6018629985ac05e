package store

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	bolt "go.etcd.io/bbolt"
)

// rewrite changes a closed store behind this package's back.
func rewrite(t *testing.T, dir string, change func(*bolt.Tx) error) {
	t.Helper()
	db, err := bolt.Open(filepath.Join(dir, fileName), 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := db.Update(change); err != nil {
		t.Fatal(err)
	}
}

// put writes values as they are, with their bucket.
func put(bucket string, values map[string]string) func(*bolt.Tx) error {
	return func(tx *bolt.Tx) error {
		b, err := tx.CreateBucketIfNotExists([]byte(bucket))
		for k, v := range values {
			err = errors.Join(err, b.Put([]byte(k), []byte(v)))
		}
		return err
	}
}

func readFile(t *testing.T, dir string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, fileName))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestStoreOfVersion1IsMigratedAndNothingIsLost(t *testing.T) {
	want := map[string]map[string]string{"peer": {"identity": "id", "empty": ""}, "ipam": {}}
	for i := range 3000 { // many pages
		want["ipam"][fmt.Sprintf("addrs/%04d", i)] = strings.Repeat("v", i%100)
	}
	dir := t.TempDir()
	rewrite(t, dir, put(metaBucket, map[string]string{versionKey: "1"}))
	for bucket, values := range want {
		rewrite(t, dir, put(bucket, values))
	}
	for range 2 { // the second time there is nothing to migrate
		s := open(t, dir)
		for bucket, values := range want {
			all, err := s.All(bucket)
			if err != nil || len(all) != len(values) {
				t.Fatalf("%s has %d values (%v); want %d", bucket, len(all), err, len(values))
			}
			for _, w := range all {
				if v, ok := values[string(w.Key)]; !ok || v != string(w.Value) {
					t.Errorf("%s/%s = %q; want %q", bucket, w.Key, w.Value, v)
				}
			}
		}
		s.Close()
		if v, err := examineFile(filepath.Join(dir, fileName)); v != Version || err != nil {
			t.Errorf("it is of version %d (%v)", v, err)
		}
	}
}

func TestStoreThatTheFirstWeftsDidNotFinishIsUsed(t *testing.T) {
	dir := t.TempDir()
	rewrite(t, dir, func(*bolt.Tx) error { return nil })
	s := open(t, dir)
	defer s.Close()
	if s.Created() {
		t.Error("it says that it is new")
	}
	if err := s.Put("b", "k", []byte("v")); err != nil {
		t.Error(err)
	}
}

func TestMigrationsRunInOrderAndAllOrNothing(t *testing.T) {
	dir := t.TempDir()
	open(t, dir).Close()
	rewrite(t, dir, put(metaBucket, map[string]string{versionKey: "1"}))
	was := readFile(t, dir)
	db, err := bolt.Open(filepath.Join(dir, fileName), 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	appendTo := func(what string) func(*bolt.Tx) error {
		return func(tx *bolt.Tx) error {
			b, err := tx.CreateBucketIfNotExists([]byte("b"))
			if err != nil {
				return err
			}
			return b.Put([]byte("k"), append(bytes.Clone(b.Get([]byte("k"))), what...))
		}
	}
	refusal := errors.New("no")
	table := []func(*bolt.Tx) error{nil, appendTo("1"), appendTo("2"), func(*bolt.Tx) error { return refusal }}
	err = migrate(db, table, 1)
	if !errors.Is(err, refusal) || !strings.Contains(err.Error(), "from version 3 to 4") {
		t.Errorf("a migration that fails: %v", err)
	}
	if !bytes.Equal(was, readFile(t, dir)) {
		t.Error("the failed migration left something")
	}
	if err := migrate(db, table[:3], 1); err != nil {
		t.Fatal(err)
	}
	_ = db.View(func(tx *bolt.Tx) error {
		if v := tx.Bucket([]byte("b")).Get([]byte("k")); string(v) != "12" {
			t.Errorf("the migrations made %q; want 12", v)
		}
		if v := tx.Bucket([]byte(metaBucket)).Get([]byte(versionKey)); string(v) != "3" {
			t.Errorf("the version is %s; want 3", v)
		}
		return nil
	})
}

func TestNewerStoreIsRefusedAndLeftUnchanged(t *testing.T) {
	dir := t.TempDir()
	open(t, dir).Close()
	rewrite(t, dir, put(metaBucket, map[string]string{versionKey: "99"}))
	was := readFile(t, dir)
	_, err := Open(dir, true)
	var newer *VersionError
	if !errors.As(err, &newer) || newer.Version != 99 || strings.Contains(err.Error(), "\n") {
		t.Errorf("Open = %v; want one line of version 99", err)
	}
	if !bytes.Equal(was, readFile(t, dir)) {
		t.Error("the store was changed")
	}
}

func TestStoreOfAReleasedWeftIsReadForEver(t *testing.T) {
	// The sum is part of the format: whoever changes it needs a migration.
	w := Write{"ipam", []byte("addrs/x"), []byte("owner")}
	if got := fmt.Sprintf("%x", seal(w)); got != "6f776e657238273c22" {
		t.Errorf("sealed as %s", got)
	}
}
