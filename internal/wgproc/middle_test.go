package wgproc

import (
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// inTheMiddle begins a hand-over and returns while the two processes overlap.
func (s *side) inTheMiddle() (older, newer int, result <-chan error) {
	s.t.Helper()
	s.upgrade()
	done := make(chan error, 1)
	go func() {
		done <- s.ns.Do(func() error {
			_, err := s.p.Renew(s.device)
			return err
		})
	}()
	older = s.pid()
	for end := time.Now().Add(20 * time.Second); newer == 0; time.Sleep(time.Millisecond) {
		var err error
		if newer, err = holder(lockPath(s.p.Dir, s.device), successor); err != nil || time.Now().After(end) {
			s.t.Fatalf("no successor: %v", err)
		}
	}
	return older, newer, done
}

func TestTrafficComesBackWhenEitherIsKilledInTheMiddle(t *testing.T) {
	a, b := pair(t, false)
	for _, after := range []time.Duration{0, 50 * time.Millisecond, 300 * time.Millisecond, 900 * time.Millisecond} {
		t.Run("the newer after "+after.String(), func(t *testing.T) {
			older, newer, result := a.inTheMiddle()
			time.Sleep(after)
			if err := unix.Kill(newer, unix.SIGKILL); err != nil {
				t.Fatal(err)
			}
			if err := <-result; err == nil {
				t.Error("Renew says nothing")
			}
			a.wantPing(b)
			b.wantPing(a)
			if now := a.pid(); now != older {
				t.Errorf("process %d carries; want %d", now, older)
			}
			if answer, err := call(a.device, "get=1\n"); err != nil || answer == "" {
				t.Errorf("it answers %q, %v", answer, err)
			}
		})
	}
	for _, after := range []time.Duration{300 * time.Millisecond, 900 * time.Millisecond} {
		t.Run("the older after "+after.String(), func(t *testing.T) {
			older, newer, result := a.inTheMiddle()
			time.Sleep(after)
			if err := unix.Kill(older, unix.SIGKILL); err != nil {
				t.Fatal(err)
			}
			if err := <-result; err != nil {
				t.Error(err)
			}
			a.wantPing(b)
			b.wantPing(a)
			if now := a.pid(); now != newer {
				t.Errorf("process %d carries; want %d", now, newer)
			}
		})
	}
	t.Run("hand-over works afterwards", func(t *testing.T) {
		there, back := stream(a, b), stream(b, a)
		if err := a.renew(); err != nil {
			t.Fatal(err)
		}
		wantNoLoss(t, "to the other", there)
		wantNoLoss(t, "from it", back)
	})
}

func TestEndInTheMiddleLeavesNothing(t *testing.T) {
	for n := range 3 {
		t.Run(strconv.Itoa(n), func(t *testing.T) {
			a, _ := pair(t, false)
			_, _, result := a.inTheMiddle()
			time.Sleep(time.Duration(n) * 300 * time.Millisecond)
			if ended, err := a.p.End(a.device); !ended || err != nil {
				t.Errorf("End = %v, %v", ended, err)
			}
			<-result // it fails, or came to its end first
			a.wantNothingLeft()
		})
	}
}
