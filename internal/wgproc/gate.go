package wgproc

import "sync"

// gate lets readers of a descriptor that two processes have through while it is
// this one's turn to read.
type gate struct {
	mu     sync.Mutex
	moved  sync.Cond
	open   bool
	ended  bool // for good
	inside int
}

func newGate(open bool) *gate {
	g := &gate{open: open}
	g.moved.L = &g.mu
	return g
}

// enter waits until the gate is open; it is false when the gate has ended.
func (g *gate) enter() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	for !g.open && !g.ended {
		g.moved.Wait()
	}
	if g.ended {
		return false
	}
	g.inside++
	return true
}

func (g *gate) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.inside--
	g.moved.Broadcast()
}

// shut lets nobody in any more, has those who are inside interrupted, and
// returns when they have left.
func (g *gate) shut(interrupt func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.open = false
	interrupt()
	for g.inside > 0 {
		g.moved.Wait()
	}
}

// unlock is the opposite of shut.
func (g *gate) unlock() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.open = true
	g.moved.Broadcast()
}

// end sends everybody away who waits, or comes.
func (g *gate) end() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.ended = true
	g.moved.Broadcast()
}
