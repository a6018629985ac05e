package mesh

import (
	"context"
	"errors"
	"net"
	"time"
)

// raceStep is how long a way has to itself before the next is tried beside it.
const raceStep = 150 * time.Millisecond

// race opens a connection by the first of several paths that works. One that is
// earlier in the list has a head start; the connections of the others are closed.
func race(ctx context.Context, paths []path, dial func(context.Context, path) (net.Conn, error)) (net.Conn, path, error) {
	ctx, cancel := context.WithCancel(ctx)
	type result struct {
		conn net.Conn
		by   path
		err  error
	}
	results := make(chan result)
	next := make(chan struct{}, 1)
	next <- struct{}{}
	running, started := 0, 0
	var step <-chan time.Time
	var errs []error
	defer func() {
		cancel()
		for range running { // they end with the context
			if r := <-results; r.conn != nil {
				r.conn.Close()
			}
		}
	}()
	for {
		select {
		case <-next:
		case <-step:
		case r := <-results:
			running--
			if r.err == nil {
				return r.conn, r.by, nil
			}
			errs = append(errs, r.err)
			if running == 0 && started == len(paths) {
				return nil, path{}, errors.Join(errs...)
			}
		}
		if step = nil; started < len(paths) {
			p := paths[started]
			started, running = started+1, running+1
			go func() {
				conn, err := dial(ctx, p)
				results <- result{conn, p, err}
			}()
			step = time.After(raceStep)
		}
	}
}
