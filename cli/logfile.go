package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime/debug"
	"sync"
)

// Bounds of a log: an older part than maxLog bytes is kept as one file, and
// what is written before the file can be opened is kept up to maxEarly.
const (
	maxLog   = 16 << 20
	maxEarly = 1 << 20
)

// lateFile is a log file in a directory that the daemon itself makes: lines
// wait in memory until it is there, so that a launch which fails before leaves
// nothing behind. It also takes the trace of a crash.
type lateFile struct {
	path string

	mu    sync.Mutex
	file  *os.File
	early []byte
}

// Write appends to the file, or to memory while there is no directory for it.
func (l *lateFile) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil {
		if len(l.early)+len(b) <= maxEarly {
			l.early = append(l.early, b...)
		}
		return len(b), l.open()
	}
	return l.file.Write(b)
}

func (l *lateFile) open() error {
	if st, err := os.Stat(l.path); err == nil && st.Size() > maxLog {
		if err := os.Rename(l.path, l.path+".old"); err != nil {
			return fmt.Errorf("set the old log aside: %w", err)
		}
	}
	f, err := os.OpenFile(l.path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open log: %w", err)
	}
	l.file = f
	if err := debug.SetCrashOutput(f, debug.CrashOptions{}); err != nil {
		return fmt.Errorf("lead crashes to the log: %w", err)
	}
	_, err = f.Write(l.early)
	l.early = nil
	return err
}

// Close closes the file, if it was opened.
func (l *lateFile) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil {
		return nil
	}
	return l.file.Close()
}
