package probe

import (
	"math/bits"
	"math/rand/v2"
	"time"
)

// smallSize is the size of an ordinary probe as an IP packet, in bytes.
const smallSize = 128

// remembered is how many of the last small probes are remembered.
const remembered = 32

// ask is a probe that has to be sent. Its size is that of the IP packet.
type ask struct {
	target Target
	seq    uint64
	size   int
}

// path is what is known of one path. It has no clock: time is passed in, as
// what has passed since some beginning. Small probes tell whether it works;
// larger ones, in size.go, what fits.
type path struct {
	target Target
	place  int // in the fleet's order
	// first is the number of the first probe, of the small and of the others
	// alike. It is random, so that answers to somebody before us never fit.
	first uint64

	sent     uint64                    // small probes
	at       [remembered]time.Duration // when the last ones were sent, by number
	answered uint32                    // which of them were answered, one bit each
	last     time.Duration             // when the last one was sent
	next     time.Duration             // when another is due

	works   bool
	since   time.Duration // when works became what it is
	heard   time.Duration // the last answer
	unheard int           // small probes since then
	doubt   bool          // it works, but has not been answered for a while

	rtt, spread time.Duration // smoothed, and how far it varies

	sizing
}

// tick appends the probes that are due.
func (p *path) tick(now time.Duration, pace pace, rng *rand.Rand, out []ask) []ask {
	if p.works && now-p.heard >= pace.dead() && p.unheard >= leastLost {
		p.become(false, now)
		p.abandon()
	}
	p.doubt = p.works && now-p.heard >= pace.every+doubtful && p.unheard >= leastLost/2
	out = p.tickSizes(now, pace, rng, out)
	if now >= p.next {
		out = p.small(now, pace, rng, out)
	}
	return out
}

// hurried is 1 for a path that is probed quickly, as the last probe was not answered or
// it is new, and else 0.
func (p *path) hurried() int {
	if p.works && p.unheard > 1 || !p.works && p.sent < starters {
		return 1
	}
	return 0
}

// due is when tick has something to do.
func (p *path) due() time.Duration {
	if d, any := p.sizesDue(); any {
		return min(d, p.next)
	}
	return p.next
}

// small appends a small probe.
func (p *path) small(now time.Duration, pace pace, rng *rand.Rand, out []ask) []ask {
	out = append(out, ask{p.target, p.first + p.sent, smallSize})
	p.at[p.sent%remembered] = now
	p.answered &^= 1 << (p.sent % remembered)
	p.sent++
	p.unheard++
	p.last = now
	switch {
	case p.works && p.unheard == 1:
		// An answer puts the next one off.
		p.next = now + max(pace.quick, p.wait())
	case p.works || p.sent < starters:
		p.next = now + pace.quick
	default:
		p.next = now + jittered(pace.every, rng)
	}
	return out
}

// answer takes an answer to a small probe or one of another size. Only what is
// waited for counts, and once.
func (p *path) answer(now time.Duration, seq uint64, size int, pace pace, rng *rand.Rand) {
	n := seq - p.first
	if size != smallSize {
		p.answerSize(now, n, size)
		return
	}
	bit := uint32(1) << (n % remembered)
	if n >= p.sent || p.sent-n > remembered || p.answered&bit != 0 {
		return
	}
	p.answered |= bit
	p.measure(now - p.at[n%remembered])
	p.heard, p.unheard, p.doubt = now, 0, false
	p.proven(n)
	if !p.works && p.twoInARow(n) {
		p.become(true, now)
		p.check = now
	}
	if p.works {
		p.next = max(now, p.last+jittered(pace.every, rng))
	} else {
		p.next = max(now, p.last+pace.quick)
	}
}

// twoInARow tells whether the probe before or after one that was answered was
// answered as well.
func (p *path) twoInARow(n uint64) bool {
	is := func(n uint64) bool { return p.answered&(1<<(n%remembered)) != 0 }
	return n > 0 && p.sent-n < remembered && is(n-1) || n+1 < p.sent && is(n+1)
}

func (p *path) become(works bool, now time.Duration) { p.works, p.since = works, now }

// measure smooths as TCP does (RFC 6298).
func (p *path) measure(rtt time.Duration) {
	if p.rtt == 0 {
		p.rtt, p.spread = max(rtt, 1), rtt/2
		return
	}
	p.spread += ((p.rtt - rtt).Abs() - p.spread) / 4
	p.rtt = max(p.rtt+(rtt-p.rtt)/8, 1)
}

// wait is after what time a probe counts as lost.
func (p *path) wait() time.Duration {
	if p.rtt == 0 {
		return longestWait
	}
	return min(max(p.rtt+4*p.spread, quickAtLeast), longestWait)
}

// loss of the probes that are remembered, 0 to 1.
func (p *path) loss(now time.Duration) float64 {
	known := min(p.sent, remembered)
	// The youngest may still be under way.
	for n := p.sent; known > 0 && p.answered&(1<<((n-1)%remembered)) == 0 && now-p.at[(n-1)%remembered] < p.wait(); n-- {
		known--
	}
	if known == 0 {
		return 0
	}
	return max(0, 1-float64(bits.OnesCount32(p.answered))/float64(known))
}

// jittered keeps the probes of many paths from marching in step.
func jittered(d time.Duration, rng *rand.Rand) time.Duration {
	return d - d/10 + time.Duration(rng.Int64N(int64(d/5)))
}
