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
	rng     *rand.Rand
	paths   map[Path]*path
	order   []*path // as they were given
	changed bool    // Works or MTU of a path, since it was last taken back
}

func newFleet(rng *rand.Rand) *fleet { return &fleet{rng: rng, pace: paceOf(0)} }

// set makes the paths be those of exactly these targets. What is known of
// those that stay is kept.
func (f *fleet) set(now time.Duration, targets []Target) {
	before := f.paths
	f.pace = paceOf(len(targets))
	f.paths = make(map[Path]*path, len(targets))
	f.order = f.order[:0]
	for _, t := range targets {
		p := before[t.Path]
		if p == nil {
			// Not all at once, and yet soon.
			start := now + time.Duration(f.rng.Int64N(int64(f.pace.quick)))
			p = &path{target: t, first: f.rng.Uint64(), next: start, since: now}
		}
		if p.target.MTU != t.MTU {
			said := p.mtu
			p.retarget(now, t.MTU)
			f.changed = f.changed || p.mtu != said
		}
		p.target = t
		f.paths[t.Path] = p
		f.order = append(f.order, p)
	}
	clear(f.order[len(f.order):cap(f.order)])
}

// tick appends the probes that are due.
func (f *fleet) tick(now time.Duration, out []ask) []ask {
	for _, p := range f.order {
		if p.due() > now {
			continue
		}
		works, mtu := p.works, p.mtu
		out = p.tick(now, f.pace, f.rng, out)
		f.changed = f.changed || works != p.works || mtu != p.mtu
	}
	return out
}

// due is when tick has something to do.
func (f *fleet) due() time.Duration {
	at := never
	for _, p := range f.order {
		at = min(at, p.due())
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
	works := p.works
	p.answer(now, seq, size, f.pace, f.rng)
	f.changed = f.changed || works != p.works
	return p.due()
}

// qualities of all paths, with times counted from a beginning.
func (f *fleet) qualities(now time.Duration, beginning time.Time) map[Path]Quality {
	out := make(map[Path]Quality, len(f.order))
	for _, p := range f.order {
		out[p.target.Path] = Quality{
			Works: p.works,
			Since: beginning.Add(p.since),
			Sent:  int(p.sent + p.asked),
			RTT:   p.rtt,
			Loss:  p.loss(now),
			MTU:   p.mtu,
		}
	}
	return out
}
