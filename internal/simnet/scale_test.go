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

// TestScale has a mesh of many go through what happens to one.
func TestScale(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := *size
		w := newWorld(t, n+1)
		if n > founding {
			w.prepare(n)
		} else {
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
		w.measure("restart", func() { w.launchAll(n) }, w.sees(n, mesh.StateAlive))
		runtime.GC()
		var mem runtime.MemStats
		runtime.ReadMemStats(&mem)
		w.note(Result{What: memory, Rate: float64(mem.HeapAlloc) / float64(n)})
		w.idle()
		w.measure("prefix", func() { w.publish(n/2, 2) }, func(p *mesh.Mesh) bool {
			return slices.ContainsFunc(p.Peers(), func(o mesh.Peer) bool { return o.ID == w.ids[n/2].ID && len(o.Record.Prefixes) == 2 })
		})
		w.measure("join", func() { w.launch(n) }, w.sees(n+1, mesh.StateAlive))
		w.measure("leave", func() {
			if err := w.peers[n].Depart(t.Context()); err != nil {
				t.Fatal(err)
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
	})
}
