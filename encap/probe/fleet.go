package probe

import (
	"math"
	"math/rand/v2"
	"time"
)

// never is when nothing is due.
const never = time.Duration(math.MaxInt64)

// fleet is all paths. What differs between two runs of it comes from rng.
type fleet struct {
	pace    pace
	late    time.Duration // how late the prober wakes of late, smoothed
	hurried int           // paths in a hurry
	// interval is the longest time between two probes of a path that works, of those that
	// are under way, and intervalAt when it was that.
	interval, intervalAt time.Duration
	rng                  *rand.Rand
	paths                map[Path]*path
	order                []*path // as they were given
	// dues is when each of order is due: all that has to be looked at again and
	// again is near each other.
	dues    []time.Duration
	changed bool // Works, Doubt or MTU of a path, since it was last taken back
}

func newFleet(rng *rand.Rand) *fleet { return &fleet{rng: rng, pace: paceOf(0, 0)} }

// woke takes note of how late the prober woke. A host that was suspended for an hour is
// not busy.
func (f *fleet) woke(late time.Duration) { f.late += (min(late, mostLate) - f.late) / 8 }

// setPace is for so many paths from now on. Those that were put off by a slower pace
// are still to come.
func (f *fleet) setPace(now time.Duration, paths int) {
	f.pace = paceOf(paths, f.late)
	if i := f.pace.interval(f.late); i >= f.interval || now-f.intervalAt > f.interval {
		f.interval, f.intervalAt = i, now
	}
}

// step changes a path, and follows what that changes for all.
func (f *fleet) step(p *path, change func()) {
	hurried, works, doubt, mtu := p.hurried(), p.works, p.doubt, p.mtu
	change()
	f.hurried += p.hurried() - hurried
	f.dues[p.place] = p.due()
	f.changed = f.changed || works != p.works || doubt != p.doubt || mtu != p.mtu
}

// set makes the paths be those of exactly these targets. What is known of
// those that stay is kept.
func (f *fleet) set(now time.Duration, targets []Target) {
	before := f.paths
	f.hurried = 0
	f.setPace(now, len(targets))
	f.paths = make(map[Path]*path, len(targets))
	f.order, f.dues = f.order[:0], f.dues[:0]
	for _, t := range targets {
		p := before[t.Path]
		if p == nil {
			// Not all at once, and yet soon.
			start := now + time.Duration(f.rng.Int64N(int64(f.pace.quick)))
			p = &path{target: t, first: f.rng.Uint64(), next: start, since: now}
			p.believe(t.Known)
		}
		if p.target.MTU != t.MTU {
			said := p.mtu
			p.retarget(now, t.MTU)
			f.changed = f.changed || p.mtu != said
		}
		p.target, p.place = t, len(f.order)
		f.paths[t.Path] = p
		f.hurried += p.hurried()
		f.order, f.dues = append(f.order, p), append(f.dues, p.due())
	}
	clear(f.order[len(f.order):cap(f.order)])
}

// tick appends the probes that are due.
func (f *fleet) tick(now time.Duration, out []ask) []ask {
	f.setPace(now, len(f.order))
	for i, due := range f.dues {
		if due <= now {
			p := f.order[i]
			f.step(p, func() { out = p.tick(now, f.pace, f.rng, out) })
		}
	}
	return out
}

// rest is how long the prober sleeps at least.
func (f *fleet) rest() time.Duration { return f.pace.rest(f.hurried > 0) }

// due is when tick has something to do.
func (f *fleet) due() time.Duration {
	at := never
	for _, due := range f.dues {
		at = min(at, due)
	}
	return at
}

// answer takes an answer that came by a path and says when that has something
// to do then.
func (f *fleet) answer(now time.Duration, by Path, seq uint64, size int) (due time.Duration) {
	p := f.paths[by]
	if p == nil {
		return never
	}
	f.step(p, func() { p.answer(now, seq, size, f.pace, f.rng) })
	return f.dues[p.place]
}

// qualities of all paths, with times counted from a beginning.
func (f *fleet) qualities(now time.Duration, beginning time.Time) map[Path]Quality {
	out := make(map[Path]Quality, len(f.order))
	for _, p := range f.order {
		out[p.target.Path] = Quality{
			Works: p.works,
			Doubt: p.doubt,
			Since: beginning.Add(p.since),
			Heard: beginning.Add(p.heard),
			Sent:  int(p.sent + p.asked),
			RTT:   p.rtt,
			Loss:  p.loss(now),
			MTU:   p.mtu,
			Every: f.interval,
		}
	}
	return out
}
