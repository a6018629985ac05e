package wgproc

import (
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/device"
)

// Bounds of what is logged: a line is not repeated within repeatAfter, and at
// most maxLines different ones are remembered.
const (
	repeatAfter = time.Hour
	maxLines    = 1000
)

// quiet is a logger for WireGuard, which says the same of each peer that does
// not answer every five seconds.
func quiet(log *slog.Logger) *device.Logger {
	var mu sync.Mutex
	said := map[string]time.Time{}
	return &device.Logger{Verbosef: device.DiscardLogf, Errorf: func(format string, args ...any) {
		line := fmt.Sprintf(format, args...)
		mu.Lock()
		defer mu.Unlock()
		if time.Since(said[line]) < repeatAfter {
			return
		}
		if len(said) >= maxLines {
			clear(said)
		}
		said[line] = time.Now()
		log.Error(line)
	}}
}

// maxLog is the size in bytes above which the log is set aside.
const maxLog = 1 << 20

// boundedLog writes to standard error. While that is the log file, it is set
// aside when it has become too large, so that there are never more than two.
type boundedLog struct{ path string }

func (l boundedLog) Write(b []byte) (int, error) {
	if have, err := os.Stderr.Stat(); err == nil && have.Size() > maxLog {
		if there, err := os.Stat(l.path); err == nil && os.SameFile(have, there) {
			l.renew()
		}
	}
	return os.Stderr.Write(b)
}

// renew sets the log aside; if it cannot, the old one grows on.
func (l boundedLog) renew() {
	f, err := openLog(l.path)
	if err != nil {
		return
	}
	defer f.Close()
	_ = unix.Dup3(int(f.Fd()), int(os.Stderr.Fd()), unix.O_CLOEXEC)
}

func openLog(path string) (*os.File, error) {
	if st, err := os.Stat(path); err == nil && st.Size() > maxLog {
		if err := os.Rename(path, path+".old"); err != nil {
			return nil, fmt.Errorf("set the old log aside: %w", err)
		}
	}
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	return f, nil
}
