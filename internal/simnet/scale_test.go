package simnet

import (
	"flag"
	"runtime"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weft-net/weft/mesh"
)

var (
	size   = flag.Int("simnet.peers", 20, "how many peers")
	record = flag.String("simnet.record", "", "file in which the results replace those for as many peers")
)

// window is for how long the bytes of an event are counted, at least.
const window = 30 * time.Second

// founding is up to how many peers a mesh is founded by joining one after the
// other; a larger one begins with what its peers remember of each other.
const founding = 300

// restarting is up to how many peers it is the mesh that has been restarted to which the
// rest happens, once nothing is gossiped of that any more. In a larger one that takes half
// an hour, and many of a machine: there the rest happens to one that no gossip has made.
const restarting = 1000

// TestScale has a mesh of many go through what happens to one.
func TestScale(t *testing.T) {
	if n := *size; n > restarting {
		t.Run("restart", in(func(t *testing.T) {
			w := newWorld(t, n)
			w.prepare(n)
			w.restart(n)
		}))
		t.Run("others", in(func(t *testing.T) {
			w := newWorld(t, n+1)
			w.acquaint(n)
			w.others(n)
		}))
		return
	}
	synctest.Test(t, func(t *testing.T) {
		n := *size
		w := newWorld(t, n+1)
		if n > founding {
			w.prepare(n)
		} else {
			w.found(n)
		}
		w.restart(n)
		w.others(n)
	})
}

// in is a test in a bubble of virtual time.
func in(test func(*testing.T)) func(*testing.T) {
	return func(t *testing.T) { synctest.Test(t, test) }
}

// found makes a mesh by joins, and ends all.
func (w *world) found(n int) {
	w.measure("found", func() {
		for i := range n {
			w.launch(i)
			if i%10 == 9 {
				time.Sleep(200 * time.Millisecond)
			}
		}
	}, w.sees(n, mesh.StateAlive))
	for i := range n {
		w.stop(i)
	}
}

func (w *world) restart(n int) {
	w.measure("restart", func() { w.launchAll(n) }, w.sees(n, mesh.StateAlive))
}

// others are the events that befall a mesh of n peers that is there.
func (w *world) others(n int) {
	w.idle()
	w.measure("prefix", func() { w.publish(n/2, 2) }, func(p *mesh.Mesh) bool {
		return slices.ContainsFunc(p.Peers(), func(o mesh.Peer) bool { return o.ID == w.ids[n/2].ID && len(o.Record.Prefixes) == 2 })
	})
	w.measure("join", func() { w.launch(n) }, w.sees(n+1, mesh.StateAlive))
	w.measure("leave", func() {
		if err := w.peers[n].Depart(w.t.Context()); err != nil {
			w.t.Fatal(err)
		}
		w.stop(n)
	}, w.sees(1, mesh.StateDeparted))
	w.measure("crash", func() {
		for i := 9; i < n; i += 10 {
			w.stop(i)
		}
	}, w.sees(n/10, mesh.StateFailed))
	w.measure("return", func() {
		for i := 9; i < n; i += 10 {
			w.launch(i)
		}
	}, w.sees(n, mesh.StateAlive))
}

// TestMemory measures the heap of one peer that knows many, and shares nothing with
// them. The others are there for a moment only, one after the other, in which no
// time passes, so that it knows all as alive.
func TestMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, *size)
		var without, with float64
		for range 2 { // the first time makes the goroutines, whose memory stays
			w.cache = nil
			without = heap()
			w.launch(0)
			w.cache = mesh.NewVerifyCache()
			for i := 1; i < *size; i++ {
				w.launch(i)
				w.stop(i)
			}
			if !w.sees(*size, mesh.StateAlive)(w.peers[0]) {
				t.Fatal("not all are known")
			}
			time.Sleep(11 * time.Second) // the deadlines of their connections are over
			w.cache, w.latest = nil, nil
			clear(w.snaps)
			with = heap()
			w.stop(0)
			w.latest = nil
			clear(w.snaps)
			time.Sleep(5 * time.Minute) // its timers run out
		}
		w.note(Result{What: memory, Rate: with - without})
	})
}

// heap is how many bytes are in use.
func heap() float64 {
	var mem runtime.MemStats
	for range 2 { // what finalizers let go of is gone after the second
		runtime.GC()
	}
	runtime.ReadMemStats(&mem)
	return float64(mem.HeapAlloc)
}
