package store

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func open(t *testing.T, dir string) *Store {
	t.Helper()
	s, err := Open(dir, true)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestCommitIsThereAfterReopening(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	s := open(t, dir)
	if !s.Created() {
		t.Error("a new store does not say that it is new")
	}
	writes := []Write{{"b", []byte("k1"), []byte("v1")}, {"b", []byte("k2"), []byte("v2")}, {"b", []byte("k1"), nil}}
	if err := s.Commit(writes); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir)
	defer s.Close()
	if s.Created() {
		t.Error("an old store says that it is new")
	}
	all, err := s.All("b")
	if err != nil || len(all) != 1 || string(all[0].Value) != "v2" {
		t.Errorf("All = %q, %v; want only k2", all, err)
	}
	if v, err := s.Get("b", "k1"); v != nil || err != nil {
		t.Errorf("Get of a deleted key = %q, %v", v, err)
	}
	if v, err := s.Get("none", "k"); v != nil || err != nil {
		t.Errorf("Get from no bucket = %q, %v", v, err)
	}
}

func TestSecondOpenIsRefusedAndNamesTheFirst(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	defer s.Close()
	_, err := Open(dir, true)
	var locked *LockedError
	if !errors.As(err, &locked) || locked.PID != os.Getpid() {
		t.Errorf("second Open: %v; want a LockedError with our pid", err)
	}
}

func TestOpenWithoutCreateLeavesNothingBehind(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "none")
	if _, err := Open(dir, false); !errors.Is(err, ErrNotFound) {
		t.Errorf("Open = %v; want ErrNotFound", err)
	}
	if _, err := os.Stat(dir); err == nil {
		t.Error("the directory was made")
	}
}

func TestDestroyRemovesOnlyWhatIsOurs(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	s := open(t, dir)
	if err := os.WriteFile(filepath.Join(dir, "weft.log"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.Destroy("weft.log"); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir); err == nil {
		t.Error("the directory is still there")
	}

	s = open(t, dir)
	if err := os.WriteFile(filepath.Join(dir, "mine"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.Destroy(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "mine")); err != nil {
		t.Error("a file of the user's was removed")
	}

	s = open(t, dir)
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := s.Destroy(); err != nil {
		t.Errorf("a store that somebody has deleted: %v", err)
	}
}
