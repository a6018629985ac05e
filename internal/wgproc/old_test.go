package wgproc

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/internal/nl"
)

// beOld locks a directory as an older weft did, and waits to be ended.
func beOld(dir string) {
	f, err := os.OpenFile(filepath.Join(dir, oldLock), os.O_RDWR|os.O_CREATE, 0o600)
	if err == nil {
		err = unix.FcntlFlock(f.Fd(), unix.F_SETLK, &unix.Flock_t{Type: unix.F_WRLCK, Whence: io.SeekStart})
	}
	if err != nil {
		os.Stdout.WriteString(err.Error())
	}
	os.Stdout.Close()
	select {}
}

func TestProcessOfAnOlderWeftIsFoundLeftAloneAndEnded(t *testing.T) {
	inside(t, func(p Process, device string, conn *nl.Conn) {
		begin := func() int {
			cmd := exec.Command("/proc/self/exe", "old", p.Dir, "--device="+device)
			out, err := cmd.StdoutPipe()
			if err == nil {
				err = cmd.Start()
			}
			if err != nil {
				t.Fatal(err)
			}
			if word, err := io.ReadAll(out); len(word) > 0 || err != nil {
				t.Fatalf("it says %q, %v", word, err)
			}
			go func() { _ = cmd.Wait() }() // that it is killed is no surprise
			return cmd.Process.Pid
		}
		pid := begin()
		if running, err := p.Running(); err != nil || len(running) != 1 || running[0] != (Info{Device: device, PID: pid}) {
			t.Errorf("Running = %+v, %v", running, err)
		}
		if renewed, err := p.Renew(device); renewed || err == nil || !strings.Contains(err.Error(), "weft stop --all && weft launch") {
			t.Errorf("Renew = %v, %v", renewed, err)
		}
		if renewed, err := p.Renew(device + "b"); renewed || err != nil {
			t.Errorf("Renew of another device = %v, %v", renewed, err)
		}
		if ended, err := p.EndAll(); !ended || err != nil {
			t.Errorf("EndAll = %v, %v", ended, err)
		}
		begin()
		if ended, err := p.Remove(device); !ended || err != nil {
			t.Errorf("Remove = %v, %v", ended, err)
		}
		if left, err := os.ReadDir(p.Dir); err != nil || len(left) > 0 {
			t.Errorf("left: %v, %v", left, err)
		}
	})
}
