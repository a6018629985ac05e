package store

import (
	"errors"
	"syscall"
	"testing"
)

// fullDisk mounts a small file system.
func fullDisk(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("weft-test", dir, "tmpfs", 0, "size=160k"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func TestFullDiskFailsCommitsAndLosesNone(t *testing.T) {
	dir := fullDisk(t)
	s := open(t, dir)
	done, failed := 0, 0
	for n := 0; n < 10_000 && failed < 20; {
		err := s.Commit(record(n))
		if err == nil {
			n++
			done = n
			continue
		}
		if failed++; !errors.Is(err, syscall.ENOSPC) {
			t.Fatalf("commit %d: %v", n, err)
		}
	}
	if failed < 20 || done < 10 {
		t.Fatalf("%d commits went through, %d failed", done, failed)
	}
	if have := hasRecords(t, s, done); have != done {
		t.Errorf("a commit that failed is there")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir)
	defer s.Close()
	if have := hasRecords(t, s, done); have != done {
		t.Errorf("a commit that failed is there after reopening")
	}
}
