package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

const (
	turnName = "next.lock"
	turnPoll = 50 * time.Millisecond
)

// Turn is the right to open a state directory before all others that wait for it.
type Turn struct{ f *os.File }

// AwaitTurn waits until nobody uses a state directory and it is the caller's turn.
// A nil ask waits for the user's end. Otherwise ask is called again and again, to
// have the user let go of it; its error ends the waiting. One who asks keeps the
// turn, so that a user who lets go and waits again comes after him.
func AwaitTurn(ctx context.Context, dir string, ask func(context.Context) error) (*Turn, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make state directory: %w", err)
	}
	var turn *Turn
	for {
		free := false
		var err error
		if turn == nil {
			turn, err = takeTurn(dir)
		}
		if turn != nil {
			free, err = isFree(dir)
		}
		if free {
			return turn, nil
		}
		if turn != nil && err == nil && ask != nil {
			err = ask(ctx)
		}
		if err != nil || ask == nil {
			turn.Close()
			turn = nil
		}
		if err != nil {
			return nil, err
		}
		select {
		case <-ctx.Done():
			turn.Close()
			return nil, ctx.Err()
		case <-time.After(turnPoll):
		}
	}
}

// Close ends the turn, once the store is open or will not be opened. That of nil
// does nothing.
func (t *Turn) Close() {
	if t != nil {
		t.f.Close()
	}
}

// takeTurn returns nil if it is another's turn.
func takeTurn(dir string) (*Turn, error) {
	f, err := os.OpenFile(filepath.Join(dir, turnName), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("wait for state directory: %w", err)
	}
	if syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) != nil {
		return nil, f.Close()
	}
	return &Turn{f}, nil
}

// isFree tells whether nobody uses a state directory.
func isFree(dir string) (bool, error) {
	f, err := os.Open(filepath.Join(dir, lockName))
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("wait for state directory: %w", err)
	}
	defer f.Close()
	return syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil, nil
}
