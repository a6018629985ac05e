package mesh

import (
	"context"
	"errors"
	"net"
	"time"
)

// raceStep is how long a way has to itself before the next is tried beside it.
const raceStep = 150 * time.Millisecond

// race opens a connection by the first of several paths that works.
func race(ctx context.Context, paths []path, dial func(context.Context, path) (net.Conn, error)) (net.Conn, path, error) {
	return first(ctx, paths, dial, func(c net.Conn) { c.Close() })
}

// first is what comes of the first of several ways that works, and which it was. One
// that is earlier in the list has a head start; what came of the others is dropped.
// The errors of those that do not work are in the order in which they came.
func first[W, R any](ctx context.Context, ways []W, try func(context.Context, W) (R, error), drop func(R)) (got R, by W, err error) {
	ctx, cancel := context.WithCancel(ctx)
	type result struct {
		got R
		by  W
		err error
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
			if r := <-results; r.err == nil {
				drop(r.got)
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
				return r.got, r.by, nil
			}
			errs = append(errs, r.err)
			if running == 0 && started == len(ways) {
				return got, by, errors.Join(errs...)
			}
		}
		if step = nil; started < len(ways) {
			w := ways[started]
			started, running = started+1, running+1
			go func() {
				got, err := try(ctx, w)
				results <- result{got, w, err}
			}()
			step = time.After(raceStep)
		}
	}
}
