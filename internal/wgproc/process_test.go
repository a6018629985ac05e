package wgproc

import (
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weft-net/weft/internal/nl"
)

// TestMain makes this test a program that can be userspace WireGuard, too.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "old" {
		beOld(os.Args[2])
	}
	if len(os.Args) > 1 && os.Args[1] == "holder" {
		pid, err := holder(os.Args[2], carrier)
		fmt.Print(pid, " ", err)
		return
	}
	if len(os.Args) > 1 && os.Args[1] == "wg" {
		if Main(os.Args[2:]) != nil {
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// inside runs a test in a network namespace with a process that ends with it.
func inside(t *testing.T, fn func(p Process, device string, conn *nl.Conn)) {
	t.Helper()
	ns, err := nl.NewNamespace()
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	p := Own(t.TempDir(), "test")
	defer func() {
		if _, err := p.EndAll(); err != nil {
			t.Error(err)
		}
	}()
	// The sockets of processes are in one directory, whatever namespace they are in.
	device := fmt.Sprintf("p%d", os.Getpid())
	err = ns.Do(func() error {
		conn, err := nl.Open()
		if err != nil {
			return err
		}
		defer conn.Close()
		fn(p, device, conn)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func start(t *testing.T, p Process, device string) (pid int) {
	t.Helper()
	if err := p.Start(device, nl.AliasPrefix+"test", 1400); err != nil {
		t.Fatal(err)
	}
	pid, err := holder(lockPath(p.Dir, device), carrier)
	if err != nil || pid == 0 {
		t.Fatalf("holder = %d, %v", pid, err)
	}
	return pid
}

func TestProcessIsDetachedAndCarriesNoSecret(t *testing.T) {
	t.Setenv("WEFT_TOKEN", "weft1-secret")
	t.Setenv("NOTIFY_SOCKET", "/nonexistent")
	inside(t, func(p Process, device string, conn *nl.Conn) {
		pid := start(t, p, device)
		link, err := conn.Link(device)
		if err != nil || link.Kind != nl.KindTUN || !link.IsWeft() || link.MTU != 1400 {
			t.Errorf("device %+v, %v", link, err)
		}
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		f := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
		if err != nil || f[1] == fmt.Sprint(os.Getpid()) || f[3] != fmt.Sprint(pid) {
			t.Errorf("process %d has parent %s and session %s, %v", pid, f[1], f[3], err)
		}
		env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
		if err != nil || strings.Contains(string(env), "secret") || strings.Contains(string(env), "NOTIFY") {
			t.Errorf("environment %q, %v", env, err)
		}
		if ended, err := p.End(device); !ended || err != nil {
			t.Errorf("End = %v, %v", ended, err)
		}
		if _, err := conn.Link(device); err == nil {
			t.Error("the device outlives its process")
		}
		if _, err := os.Stat(socketPath(device)); err == nil {
			t.Error("the socket outlives its process")
		}
		if ended, err := p.End(device); ended || err != nil {
			t.Errorf("End again = %v, %v", ended, err)
		}
	})
}

func TestThereIsOneProcessForADevice(t *testing.T) {
	inside(t, func(p Process, device string, conn *nl.Conn) {
		first := start(t, p, device)
		if err := Run(t.Context(), Config{Device: device, MTU: 1400, Dir: p.Dir}, slog.New(slog.DiscardHandler), func() {}); err == nil || !strings.Contains(err.Error(), "runs already") {
			t.Errorf("Run beside it = %v", err)
		}
		beside := start(t, p, device+"b")
		if running, err := p.Running(); err != nil || len(running) != 2 || running[0] != (Info{device, first, "test"}) || running[1] != (Info{device + "b", beside, "test"}) {
			t.Errorf("Running = %v, %v", running, err)
		}
		// Start is for when there is no device: what has the lock then is useless.
		second := start(t, p, device)
		if pid, err := holder(lockPath(p.Dir, device), carrier); first == second || err != nil || pid != second {
			t.Errorf("%d, then %d; the lock has %d, %v", first, second, pid, err)
		}
	})
}

func TestProcessWhoseDirectoryIsGoneIsFoundByItsDevice(t *testing.T) {
	for what, end := range map[string]func(p Process, device string) (bool, error){
		"by its device":    func(p Process, device string) (bool, error) { return p.End(device) },
		"by its directory": func(p Process, _ string) (bool, error) { return p.EndAll() },
		"by its device, for another directory": func(p Process, device string) (bool, error) {
			p.Dir = filepath.Join(p.Dir, "another")
			return p.Remove(device)
		},
	} {
		t.Run(what, func(t *testing.T) {
			inside(t, func(p Process, device string, conn *nl.Conn) {
				start(t, p, device)
				start(t, p, device+"b")
				if err := os.RemoveAll(p.Dir); err != nil {
					t.Fatal(err)
				}
				if ended, err := end(p, device); !ended || err != nil {
					t.Errorf("ended: %v, %v", ended, err)
				}
				if _, err := conn.Link(device); err == nil {
					t.Error("the process goes on")
				}
				if _, err := conn.Link(device + "b"); (err == nil) != (what != "by its directory") {
					t.Errorf("the other device: %v", err)
				}
				if _, err := p.End(device + "b"); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

func TestProcessIsNotTakenForThatOfAnotherNamespaceOrDirectory(t *testing.T) {
	inside(t, func(p Process, device string, conn *nl.Conn) {
		pid := start(t, p, device)
		inside(t, func(other Process, _ string, _ *nl.Conn) {
			if ended, err := other.End(device); ended || err != nil {
				t.Errorf("End in another namespace = %v, %v", ended, err)
			}
		})
		if ended, err := Own(t.TempDir(), "test").EndAll(); ended || err != nil {
			t.Errorf("EndAll of another directory = %v, %v", ended, err)
		}
		if now, err := holder(lockPath(p.Dir, device), carrier); now != pid || err != nil {
			t.Errorf("the lock has %d, %v; want %d", now, err, pid)
		}
	})
}

func TestStartSaysWhyItFailsAndLeavesNothing(t *testing.T) {
	inside(t, func(p Process, device string, conn *nl.Conn) {
		if _, err := conn.CreateBridge(device, nil); err != nil {
			t.Fatal(err)
		}
		if err := p.Start(device, nl.AliasPrefix+"test", 1400); err == nil || !strings.Contains(err.Error(), "make TUN device "+device) {
			t.Errorf("Start = %v", err)
		}
		if pid, err := holder(lockPath(p.Dir, device), carrier); pid != 0 || err != nil {
			t.Errorf("holder = %d, %v", pid, err)
		}
		nowhere := Own(filepath.Join(p.Dir, "none"), "test")
		if err := nowhere.Start(device, nl.AliasPrefix+"test", 1400); err == nil || !strings.Contains(err.Error(), "no such file or directory") {
			t.Errorf("Start without a directory = %v", err)
		}
	})
}

func TestRemoveTakesTheSocketOfAKilledProcessAndNoOther(t *testing.T) {
	inside(t, func(p Process, device string, conn *nl.Conn) {
		start(t, p, device)
		if _, err := p.End(device); err != nil {
			t.Fatal(err)
		}
		for what, stale := range map[string]bool{"stale": true, "in use": false} {
			if err := os.MkdirAll(socketDir, 0o755); err != nil {
				t.Fatal(err)
			}
			l, err := net.ListenUnix("unix", &net.UnixAddr{Name: socketPath(device)})
			if err != nil {
				t.Fatal(err)
			}
			l.SetUnlinkOnClose(false)
			if stale {
				l.Close()
			}
			if _, err := p.Remove(device); err != nil {
				t.Error(err)
			}
			if _, err := os.Stat(socketPath(device)); (err != nil) != stale {
				t.Errorf("a socket that is %s: %v", what, err)
			}
			l.Close()
			os.Remove(socketPath(device))
		}
		if left, err := os.ReadDir(p.Dir); err != nil || len(left) > 0 {
			t.Errorf("left: %v, %v", left, err)
		}
	})
}

func TestLogDoesNotRepeatItself(t *testing.T) {
	var out strings.Builder
	log := quiet(slog.New(slog.NewTextHandler(&out, nil)))
	for range 3 {
		log.Errorf("no answer from %d", 1)
		log.Errorf("no answer from %d", 2)
		log.Verbosef("too much")
	}
	if got := strings.Count(out.String(), "\n"); got != 2 {
		t.Errorf("%d lines:\n%s", got, out.String())
	}
}

func TestProcessOfAnotherContainerIsElsewhere(t *testing.T) {
	dir := t.TempDir()
	look := func(program string, args ...string) string {
		out, err := exec.Command(program, args...).Output()
		if err != nil {
			t.Fatal(err)
		}
		return string(out)
	}
	path := lockPath(dir, "x")
	if got := look("unshare", "--pid", "--fork", os.Args[0], "holder", path); got != "0 <nil>" {
		t.Errorf("holder of a lock that is not there: %s", got)
	}
	l, err := takeLock(dir, "x", carrier)
	if err != nil {
		t.Fatal(err)
	}
	defer l.close()
	if got, want := look(os.Args[0], "holder", path), fmt.Sprint(os.Getpid(), " <nil>"); got != want {
		t.Errorf("holder in this container: %s, want %s", got, want)
	}
	if got, want := look("unshare", "--pid", "--fork", os.Args[0], "holder", path), fmt.Sprint(elsewhere, " <nil>"); got != want {
		t.Errorf("holder in another container: %s, want %s", got, want)
	}
}
