package probe

import (
	"container/heap"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/google/uuid"
)

// world is a fleet and its paths in virtual time: what a path does to packets
// is said by a function, and nothing else is random.
type world struct {
	t     testing.TB
	now   time.Duration
	fleet *fleet
	rng   *rand.Rand
	sky   arrivals
	sent  int // probes
	bytes int // of them

	loss    float64 // of each packet, one way
	fits    int     // bytes; larger ones are lost
	cut     bool
	latency func(size int) time.Duration // there and back
	late    time.Duration                // by how much the host wakes too late
	wakes   time.Duration                // when it does, at the earliest

	works, dies int // how often some path became so
	sawWorks    map[Path]bool
}

type arrival struct {
	at   time.Duration
	by   Path
	seq  uint64
	size int
}

type arrivals []arrival

func (a arrivals) Len() int           { return len(a) }
func (a arrivals) Less(i, j int) bool { return a[i].at < a[j].at }
func (a arrivals) Swap(i, j int)      { a[i], a[j] = a[j], a[i] }
func (a *arrivals) Push(x any)        { *a = append(*a, x.(arrival)) }
func (a *arrivals) Pop() any {
	last := len(*a) - 1
	x := (*a)[last]
	*a = (*a)[:last]
	return x
}

// newWorld has n paths that lose nothing and carry up to 1500 bytes, of which
// 1450 are worth trying.
func newWorld(t testing.TB, seed uint64, n int) *world {
	w := &world{t: t, rng: rand.New(rand.NewPCG(seed, 1)), fits: 1500, sawWorks: map[Path]bool{}}
	w.latency = func(int) time.Duration { return 5 * time.Millisecond }
	w.fleet = newFleet(rand.New(rand.NewPCG(seed, 2)))
	w.fleet.set(0, targetsOf(n, 1450))
	return w
}

func targetsOf(n, mtu int) []Target {
	var out []Target
	for i := range n {
		id := uuid.UUID{byte(i >> 8), byte(i)}
		out = append(out, Target{Path: Path{id, "t0"}, Addr: netip.AddrFrom4([4]byte{10, 32, byte(i >> 8), byte(i)}), MTU: mtu})
	}
	return out
}

// run lets time pass.
func (w *world) run(d time.Duration) {
	until := w.now + d
	for {
		next := w.fleet.due()
		if next < never {
			next = max(next, w.wakes) + w.late
		}
		if len(w.sky) > 0 {
			next = min(next, w.sky[0].at)
		}
		if next > until {
			w.now = until
			return
		}
		w.now = max(w.now, next)
		for len(w.sky) > 0 && w.sky[0].at <= w.now {
			a := heap.Pop(&w.sky).(arrival)
			w.fleet.answer(w.now, a.by, a.seq, a.size)
		}
		if due := w.fleet.due(); due < never && w.now >= max(due, w.wakes)+w.late {
			w.fleet.woke(w.late)
			w.tick()
			w.wakes = w.now + w.fleet.rest()
		}
		hurried := 0
		for _, p := range w.fleet.order {
			hurried += p.hurried()
		}
		if hurried != w.fleet.hurried {
			w.t.Fatalf("%d paths are in a hurry, and %d are said to be", hurried, w.fleet.hurried)
		}
		if w.fleet.changed {
			w.fleet.changed = false
			w.count()
		}
	}
}

func (w *world) tick() {
	for _, a := range w.fleet.tick(w.now, nil) {
		w.sent++
		w.bytes += a.size
		if w.cut || a.size > w.fits || w.rng.Float64() < w.loss || w.rng.Float64() < w.loss {
			continue
		}
		heap.Push(&w.sky, arrival{w.now + w.latency(a.size), a.target.Path, a.seq, a.size})
	}
}

func (w *world) count() {
	for _, p := range w.fleet.order {
		if p.works == w.sawWorks[p.target.Path] {
			continue
		}
		w.sawWorks[p.target.Path] = p.works
		if p.works {
			w.works++
		} else {
			w.dies++
		}
	}
}

// until runs in small steps until something is so, at most for a while, and
// returns how long it took.
func (w *world) until(limit time.Duration, what string, so func() bool) time.Duration {
	w.t.Helper()
	begin := w.now
	for !so() {
		if w.now-begin > limit {
			w.t.Fatalf("not within %s: %s", limit, what)
		}
		w.run(10 * time.Millisecond)
	}
	return w.now - begin
}

// only is the path of a world that has one.
func (w *world) only() *path { return w.fleet.order[0] }

func (w *world) all(so func(p *path) bool) bool {
	for _, p := range w.fleet.order {
		if !so(p) {
			return false
		}
	}
	return true
}
