package probe

import (
	"math"
	"math/rand/v2"
	"slices"
	"time"
)

// ladder are the sizes tried first where the best does not pass, falling: near
// each other where underlays differ by the headers of some tunnel. The gaps
// are searched afterwards.
var ladder = []int{32000, 16000, 8900, 6000, 4000, 3000, 2200, 1472, 1440, 1410, 1380, 1350, 1320, 1290, 1260, 1230, 1200, 1152}

// sections is in how many parts a gap is cut at once.
const sections = 9

// stage is what is being found out about sizes.
type stage int

const (
	idle    stage = iota
	confirm       // whether one size passes: the present one, or the target's
	descend       // which rung of the ladder passes, now that confirm failed
	refine        // what passes between lo and hi
	climb         // whether more than the present one passes
)

// sizing is what is known of the sizes that pass on one path, and the search
// for the largest. Several sizes are asked for in a round, and a small probe
// after them. A size does not pass when enough rounds brought an answer to the
// small one and none to it: loss takes both alike.
type sizing struct {
	mtu    int    // what is said to others; 0 if not known
	lo, hi int    // the largest that passes, and the least that does not; lo is 0 if none is known
	asked  uint64 // probes of sizes

	check   time.Duration // when lo is looked at again
	climbAt time.Duration // when more is tried

	stage  stage
	tries  []int         // sizes of this stage, falling
	from   uint64        // the number of its first probe
	best   int           // the largest that came back; 0 for none
	proof  uint64        // the first small probe that went with a round
	proofs int           // how many of those were answered
	round  time.Duration // when the next one is due
}

// noProof is later than every probe.
const noProof = math.MaxUint64

// abandon ends the search: on a dead path every size is lost.
func (s *sizing) abandon() { s.stage = idle }

// proven takes note that a small probe was answered.
func (s *sizing) proven(n uint64) {
	if s.stage != idle && n >= s.proof {
		s.proofs++
	}
}

// answerSize takes an answer to a probe of a size.
func (s *sizing) answerSize(now time.Duration, n uint64, size int) {
	if s.stage == idle || n < s.from || n >= s.asked || !slices.Contains(s.tries, size) {
		return
	}
	s.best = max(s.best, size)
	if s.best == s.tries[0] {
		s.round = now // there is nothing more to learn
	}
}

// sizesDue is when tickSizes has something to do, if anything.
func (p *path) sizesDue() (at time.Duration, any bool) {
	switch {
	case !p.works:
		return 0, false
	case p.stage != idle:
		return p.round, true
	case p.lo > 0 && p.lo < p.target.MTU:
		return min(p.check, p.climbAt), true
	}
	return p.check, true
}

// tickSizes appends the probes of sizes that are due.
func (p *path) tickSizes(now time.Duration, pace pace, rng *rand.Rand, out []ask) []ask {
	if at, any := p.sizesDue(); !any || now < at {
		return out
	}
	if p.stage == idle {
		return p.beginIdle(now, pace, out)
	}
	risk := searchRisk
	if p.stage == confirm {
		risk = doubtRisk
	}
	if p.best != p.tries[0] && p.proofs < repeats(p.loss(now), risk) {
		return p.askRound(now, pace, rng, out)
	}
	p.conclude(now, pace, rng)
	if p.stage != idle {
		out = p.askRound(now, pace, rng, out)
	}
	return out
}

// beginIdle begins with what is due: first of all whether the present size
// still passes.
func (p *path) beginIdle(now time.Duration, pace pace, out []ask) []ask {
	if now < p.check {
		p.climbAt = now + climbEvery
		p.begin(climb, append([]int{p.target.MTU}, rungs(p.lo, p.target.MTU)...))
		return out // due at once
	}
	size := p.lo
	if size == 0 {
		size, p.hi = p.target.MTU, p.target.MTU+1
	}
	p.begin(confirm, []int{size})
	// Mostly one probe is enough; rounds follow if it is lost.
	p.round = now + max(pace.quick, p.wait())
	return p.askSizes(out)
}

func (p *path) begin(s stage, tries []int) {
	p.stage, p.tries, p.from, p.best = s, tries, p.asked, 0
	p.proof, p.proofs, p.round = noProof, 0, 0
}

// askRound asks for each size that could still be news, and then for a small
// one: what takes the same way answers last.
func (p *path) askRound(now time.Duration, pace pace, rng *rand.Rand, out []ask) []ask {
	if p.proof == noProof {
		p.proof = p.sent
	}
	p.round = now + pace.quick
	return p.small(now, pace, rng, p.askSizes(out))
}

func (p *path) askSizes(out []ask) []ask {
	for _, size := range p.tries {
		if size > p.best {
			out = append(out, ask{p.target, p.first + p.asked, size})
			p.asked++
		}
	}
	return out
}

// conclude draws the conclusion of a stage and begins the next one, if any.
func (p *path) conclude(now time.Duration, pace pace, rng *rand.Rand) {
	stage := p.stage
	p.stage = idle
	p.check = now + jittered(pace.full, rng)
	switch {
	case p.best == 0 && stage == confirm:
		p.lo, p.hi = 0, p.tries[0]
		p.climbAt = now + climbEvery
		if steps := rungs(0, p.hi); len(steps) > 0 {
			p.begin(descend, steps)
			return
		}
		p.mtu, p.check = 0, now+hopelessEvery
		return
	case p.best == 0 && stage == descend:
		p.mtu, p.check = 0, now+hopelessEvery
		return
	case p.best == 0 && stage == climb:
		return
	case stage == climb:
		p.hi = p.target.MTU + 1
	}
	p.lo = max(p.lo, p.best)
	p.mtu = p.lo
	for _, size := range p.tries {
		if size > p.lo {
			p.hi = min(p.hi, size)
		}
	}
	// Whether lo is the very last is asked when the gap is searched, not each
	// time that it is confirmed.
	if stage != confirm && p.hi-p.lo > 1 {
		p.begin(refine, between(p.lo, p.hi))
	}
}

// believe takes over what somebody else found. It is confirmed as soon as the path
// works, and more is tried right after.
func (p *path) believe(known int) {
	if known < leastMTU {
		return
	}
	p.mtu = min(known, p.target.MTU)
	p.lo, p.hi = p.mtu, p.target.MTU+1
}

// retarget takes note of another most that is worth trying.
func (p *path) retarget(now time.Duration, mtu int) {
	p.abandon()
	p.check = now
	p.mtu, p.lo, p.hi = min(p.mtu, mtu), min(p.lo, mtu), mtu+1
	p.climbAt = now
}

// rungs are those of the ladder between two sizes, falling.
func rungs(above, below int) []int {
	var out []int
	for _, size := range ladder {
		if above < size && size < below {
			out = append(out, size)
		}
	}
	return out
}

// between cuts a gap in sections: the sizes at the cuts, falling.
func between(lo, hi int) []int {
	var out []int
	for i := sections - 1; i > 0; i-- {
		if size := lo + (hi-lo)*i/sections; size > lo && (len(out) == 0 || size < out[len(out)-1]) {
			out = append(out, size)
		}
	}
	return out
}
