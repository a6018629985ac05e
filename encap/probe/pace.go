package probe

import (
	"math"
	"time"
)

const (
	// everyAtLeast is the time between two small probes of a path while a host has few,
	// everyOfMany while it has many, and calmPerSecond how many it sends in sum from few
	// to many: what it costs to be idle. A dead path is noticed half a second later.
	everyAtLeast  = 500 * time.Millisecond
	everyOfMany   = time.Second
	calmPerSecond = 48
	// perSecond is how many small probes a host sends in sum at most; with more paths
	// each is probed still less often.
	perSecond = 500
	// mostLate is the most that a prober that wakes late is taken to have been late.
	mostLate = 500 * time.Millisecond
	// quickAtLeast is the time between two probes of a path in doubt.
	quickAtLeast = 75 * time.Millisecond
	// fullAtLeast is the time between two looks at whether the MTU still holds while a
	// host has few paths, fullOfMany while it has many, and fullCalm how many it takes a
	// second in sum from few to many: each sends and brings back a packet as large as the
	// path takes. With more paths it takes fullPerSecond, and each is looked at still less
	// often.
	fullAtLeast   = 2 * time.Second
	fullOfMany    = 5 * time.Second
	fullCalm      = 10
	fullPerSecond = 20
	// patience is for how long a path in doubt is probed before it is dead.
	patience = 1500 * time.Millisecond
	// doubtful is for how long a path in doubt is probed before that is said: who is
	// to find out more has begun by the time that it is dead.
	doubtful = 500 * time.Millisecond
	// leastLost is how many probes have to be lost besides: a process that stood
	// still for a while has waited, but not asked.
	leastLost = 10
	// starters are the first probes of a path, which go out quickly.
	starters = 10
	// longestWait bounds the time after which a probe counts as lost.
	longestWait = 500 * time.Millisecond
	// climbEvery is how often more than the present MTU is tried.
	climbEvery = 30 * time.Second
	// hopelessEvery is how often a path is tried that carries only small packets.
	hopelessEvery = 5 * time.Second
)

// pace is how often a path is probed.
type pace struct {
	every time.Duration // between small probes
	quick time.Duration // between those of a path in doubt, and between tries of sizes
	full  time.Duration // between two looks at whether the MTU still holds
}

// paceOf is that of so many paths on a host that wakes so late. Who wakes late has too
// much to do, and its answers come late, too: were it to ask the more often for that, it
// would keep itself, and on a shared machine all others, from ever being on time again.
func paceOf(paths int, late time.Duration) pace {
	every := max(everyAtLeast, min(everyOfMany, share(paths, calmPerSecond)), share(paths, perSecond), 5*late)
	full := max(fullAtLeast, 2*every, min(fullOfMany, share(paths, fullCalm)), share(paths, fullPerSecond))
	return pace{every: every, quick: max(quickAtLeast, every/10, 2*late), full: full}
}

// share is the time between two probes of one of n, if there are so many a second in
// sum.
func share(n, perSecond int) time.Duration {
	return time.Duration(n) * time.Second / time.Duration(perSecond)
}

// dead is how long nothing may come back. The probe after the last answer is a
// full interval later; from then on, there are many.
func (p pace) dead() time.Duration { return p.every + patience }

// rest is how long the prober sleeps at least, so that what is due about then goes
// out together: to wake costs more than to send.
func (p pace) rest(hurried bool) time.Duration {
	if hurried {
		return min(p.every/10, p.quick/3)
	}
	return p.every / 10
}

// interval is the longest time between two probes of a path that works, on a host that
// wakes so late.
func (p pace) interval(late time.Duration) time.Duration {
	return p.every + p.every/10 + p.rest(false) + late
}

// The chance to take a size wrongly for one that does not pass. That the MTU
// fell is looked for all the time and believed for half a minute; a step of
// the search that is missed costs some bytes until then.
const (
	doubtRisk  = 1e-5
	searchRisk = 1e-3
)

// repeats is how many probes of one size must be lost, while small ones pass,
// before chance is no explanation any more. The loss that was seen may be
// less than there is.
func repeats(loss, risk float64) int {
	const unseen, most = 0.1, 30
	p := min(loss+unseen, 0.99)
	return min(int(math.Ceil(math.Log(risk)/math.Log(p))), most)
}
