package store

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestLockOfAKilledProcessIsWaitedFor(t *testing.T) {
	dir := t.TempDir()
	lock, err := takeLock(dir)
	if err != nil {
		t.Fatal(err)
	}
	// As after a fork: a child holds what its parent, which is dead, has locked.
	holder := exec.Command("sleep", "60")
	holder.ExtraFiles = []*os.File{lock}
	if err := holder.Start(); err != nil {
		t.Fatal(err)
	}
	dead := exec.Command("true")
	if err := dead.Run(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, lockName), []byte(strconv.Itoa(dead.Process.Pid)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	lock.Close()
	end := time.AfterFunc(300*time.Millisecond, func() { _ = holder.Process.Kill() })
	defer end.Stop()
	again, err := takeLock(dir)
	if err != nil {
		t.Fatalf("after its end: %v", err)
	}
	_ = holder.Wait() // killed
	defer again.Close()
	began := time.Now()
	if _, err := takeLock(dir); !errors.As(err, new(*LockedError)) || time.Since(began) > endingTime/2 {
		t.Errorf("of a process that lives: %v after %s", err, time.Since(began))
	}
}

func TestProcessIsEndingOnceItIsKilled(t *testing.T) {
	if ending(os.Getpid()) || ending(0) {
		t.Error("a process that runs is not ending")
	}
	// Stopped by a tracer or not: what is pending cannot be refused.
	const status = "Name:\tweft\nState:\tS (sleeping)\nSigPnd:\t%1\nShdPnd:\t%2\n"
	const stat = "12 (we) ft)) S 1 12 12 0 -1 %3 0 0"
	for _, tc := range []struct {
		own, shared, flags string
		want               bool
	}{
		{"0000000000000000", "0000000000000000", "4194304", false},
		{"0000000000000100", "0000000000000000", "4194304", true},
		{"0000000000000000", "0000000000000100", "4194304", true},
		{"0000000000000000", "0000000000004000", "4194304", false},
		{"0000000000000000", "0000000000000000", "4194308", true},
	} {
		r := strings.NewReplacer("%1", tc.own, "%2", tc.shared, "%3", tc.flags)
		if got := isEnding(r.Replace(status), r.Replace(stat)); got != tc.want {
			t.Errorf("%+v: %v", tc, got)
		}
	}
	child := exec.Command("sleep", "60")
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	_ = child.Process.Signal(syscall.SIGKILL)
	if !ending(child.Process.Pid) {
		t.Error("a process that was killed is ending")
	}
	_ = child.Wait() // killed
}
