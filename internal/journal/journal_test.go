package journal

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func open(t *testing.T, dir string) *Journal {
	t.Helper()
	j, err := Open(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { j.Close() })
	return j
}

func entries(t *testing.T, j *Journal) map[string]string {
	t.Helper()
	list, err := j.Entries()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, e := range list {
		out[e.Name] = string(e.Data)
	}
	return out
}

func TestTheDaemonFindsWhatWasAddedBeforeItsStart(t *testing.T) {
	dir := t.TempDir()
	for _, v := range []struct{ name, data string }{{"a", "1"}, {"b", "2"}, {"a", "3"}} {
		if err := Add(dir, v.name, []byte(v.data)); err != nil {
			t.Fatal(err)
		}
	}
	j := open(t, dir)
	if got := entries(t, j); len(got) != 2 || got["a"] != "3" || got["b"] != "2" {
		t.Errorf("entries: %v", got)
	}
	for range 2 {
		if err := j.Remove("a"); err != nil {
			t.Error(err)
		}
	}
	if got := entries(t, j); len(got) != 1 {
		t.Errorf("after Remove: %v", got)
	}
}

func TestNothingIsAddedWhileADaemonRuns(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir)
	if err := Add(dir, "a", nil); !errors.Is(err, ErrBusy) {
		t.Errorf("Add beside a daemon: %v", err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if err := Add(dir, "a", nil); err != nil {
		t.Errorf("Add after the daemon: %v", err)
	}
}

func TestASecondDaemonDoesNotGetIt(t *testing.T) {
	dir := t.TempDir()
	open(t, dir)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if j, err := Open(ctx, dir); !errors.Is(err, ErrBusy) {
		t.Errorf("opened twice: %v, %v", j, err)
	}
}

func TestWhereThereIsNoStateNothingIsMade(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "none")
	if err := Add(dir, "a", nil); !errors.Is(err, ErrNoState) {
		t.Errorf("Add: %v", err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the state directory was made: %v", err)
	}
}

func TestAnEntryThatWasCutOffIsNone(t *testing.T) {
	dir := t.TempDir()
	open(t, dir).Close()
	if err := os.WriteFile(filepath.Join(dir, dirName, newName), []byte("ha"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := entries(t, open(t, dir)); len(got) != 0 {
		t.Errorf("entries: %v", got)
	}
}

func TestALockThatAResetRemovedIsNotTakenForTheNewOne(t *testing.T) {
	dir := t.TempDir()
	old := open(t, dir)
	if err := Destroy(dir); err != nil {
		t.Fatal(err)
	}
	next := open(t, dir) // as the daemon of the next launch
	old.Close()
	if err := Add(dir, "a", nil); !errors.Is(err, ErrBusy) {
		t.Errorf("Add beside the next daemon: %v", err)
	}
	if got := entries(t, next); len(got) != 0 {
		t.Errorf("entries: %v", got)
	}
}

func TestWhatIsNoEntryIsRefused(t *testing.T) {
	dir := t.TempDir()
	if err := Add(dir, "a", make([]byte, maxEntry+1)); err == nil {
		t.Error("too large, and added")
	}
	for _, name := range []string{"", "../a"} {
		if err := Add(dir, name, nil); err == nil {
			t.Errorf("name %q was taken", name)
		}
	}
	if err := Add(dir, "good", []byte("x")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, dirName, "big"+suffix), make([]byte, maxEntry+1), 0o600); err != nil {
		t.Fatal(err)
	}
	list, err := open(t, dir).Entries()
	if err == nil || len(list) != 1 || list[0].Name != "good" {
		t.Errorf("with one that is too large: %v, %v", list, err)
	}
}
