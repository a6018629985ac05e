package store

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestTurnOfADirectoryThatNobodyUsesIsAtOnce(t *testing.T) {
	for name, ask := range map[string]func(context.Context) error{"waits": nil, "asks": func(context.Context) error { return errors.New("asked nobody") }} {
		turn, err := AwaitTurn(t.Context(), t.TempDir()+"/new", ask)
		if err != nil {
			t.Errorf("one that %s: %v", name, err)
		}
		turn.Close()
	}
}

func TestOneWhoAsksComesBeforeThoseThatWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		first := open(t, dir)
		var mu sync.Mutex // that only the turn makes this safe cannot be seen from here
		var order []string
		done := make(chan bool)
		stand := func(who string, ask func(context.Context) error) {
			turn, err := AwaitTurn(t.Context(), dir, ask)
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			order = append(order, who)
			mu.Unlock()
			s := open(t, dir)
			turn.Close()
			s.Close()
			done <- true
		}
		go stand("waits", nil)
		time.Sleep(time.Second)
		asked := 0
		go stand("asks", func(context.Context) error {
			if asked++; asked == 3 {
				go stand("waits again", nil) // as one who lets go and stands by
				return first.Close()
			}
			return nil
		})
		for range 3 {
			<-done
		}
		if asked != 3 || order[0] != "asks" {
			t.Errorf("asked %d times; the order is %v", asked, order)
		}
	})
}

func TestAwaitTurnEnds(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	defer s.Close()
	refused := errors.New("no")
	if turn, err := AwaitTurn(t.Context(), dir, func(context.Context) error { return refused }); !errors.Is(err, refused) || turn != nil {
		t.Errorf("refused: %v, %v", turn, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*turnPoll)
	defer cancel()
	if turn, err := AwaitTurn(ctx, dir, nil); !errors.Is(err, context.DeadlineExceeded) || turn != nil {
		t.Errorf("ended: %v, %v", turn, err)
	}
}
