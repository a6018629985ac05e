package encap

import (
	"fmt"
	"slices"
	"time"

	"github.com/weft-net/weft/encap/probe"
)

const (
	// provenTime is how long a faster path has to have worked before it is taken.
	provenTime = 10 * time.Second
	// longestHold bounds that time for a path that comes and goes.
	longestHold = 5 * time.Minute
	// unansweredTime is how long a path that was just chosen may take to be
	// answered for the first time.
	unansweredTime = 2500 * time.Millisecond
)

// Path is one way to a peer that policy allows.
type Path struct {
	Device    string // that packets leave by
	Transport string
}

// Choice is the path that carries the traffic to a peer.
type Choice struct {
	Path
	At  time.Time // when it became this one; the zero value if there was no other
	Why string
	// failures of paths that were left because they died.
	failures map[string]failure
}

// failure is how often a path died while it was in use, and when last.
type failure struct {
	times int
	last  time.Time
}

// hold is how long a path has to have worked before it is taken again.
func (f failure) hold() time.Duration {
	hold := provenTime
	for range f.times - 1 {
		if hold *= 2; hold >= longestHold {
			return longestHold
		}
	}
	return hold
}

// Choose picks one of the allowed paths, which come fastest first, and of one
// transport the newest. It leaves a path as soon as that does not work and another
// does, and takes a faster one when that has worked for a time, which grows if it
// keeps failing; a newer one of the same transport at once, since waiting for it
// proves nothing. Where
// nothing is known it keeps what there was: a peer may be too old to answer
// probes, or only probes may be dropped. The zero Path means that there is
// nothing to choose from.
func Choose(paths []Path, quality map[string]probe.Quality, before Choice, now time.Time) Choice {
	out := before
	out.failures = map[string]failure{}
	for _, p := range paths {
		if f, ok := before.failures[p.Device]; ok {
			out.failures[p.Device] = f
		}
	}
	become := func(p Path, why string) Choice {
		if p != before.Path {
			out.Path, out.At = p, now
		}
		out.Why = why
		return out
	}
	if len(paths) == 0 {
		return become(Path{}, "no transport is allowed and possible")
	}
	current, known := find(paths, before.Path)
	if !known {
		if p, ok := firstOf(paths, func(p Path) bool { return quality[p.Device].Works }); ok {
			return become(p, first(paths, p, "it is the fastest that works"))
		}
		return become(paths[0], "it is the fastest that is allowed")
	}
	q := quality[current.Device]
	if isDead(q, before.At, now) {
		if p, ok := firstOf(paths, func(p Path) bool { return outlives(quality[p.Device], q, now) }); ok {
			f := out.failures[current.Device]
			out.failures[current.Device] = failure{f.times + 1, now}
			return become(p, fmt.Sprintf("%s does not work: no probe is answered", current.Transport))
		}
		if p, ok := firstOf(paths, func(p Path) bool { return quality[p.Device].Works }); ok {
			return become(current, fmt.Sprintf("no probe is answered; %s may stand in in a moment", p.Transport))
		}
		return become(current, "no probe is answered on any path that is allowed")
	}
	// What has held for as long as the longest wait is forgiven.
	if f, ok := out.failures[current.Device]; ok && q.Works && now.Sub(before.At) >= longestHold && now.Sub(f.last) >= longestHold {
		delete(out.failures, current.Device)
	}
	for _, p := range paths {
		if p == current {
			break
		}
		f, failed := out.failures[p.Device]
		newer := p.Transport == current.Transport && !failed
		if fq := quality[p.Device]; fq.Works && (newer || now.Sub(fq.Since) >= f.hold()) {
			return become(p, first(paths, p, "it is the fastest that works"))
		}
	}
	return become(current, reasonToStay(paths, quality, out, now))
}

// reasonToStay says why nothing faster than the current path is taken.
func reasonToStay(paths []Path, quality map[string]probe.Quality, c Choice, now time.Time) string {
	fastest := paths[0]
	if fastest == c.Path {
		return "it is the fastest that is allowed"
	}
	if q := quality[fastest.Device]; q.Works {
		return fmt.Sprintf("%s works since %s, and is taken when it has for %s", fastest.Transport, q.Since.Format(time.TimeOnly), c.failures[fastest.Device].hold())
	}
	return fastest.Transport + " does not work: no probe is answered"
}

func first(paths []Path, p Path, otherwise string) string {
	if p == paths[0] {
		return "it is the fastest that is allowed"
	}
	return otherwise
}

// isDead tells whether a path in use does not work. One that was never answered
// gets some time, from when it was chosen.
func isDead(q probe.Quality, chosen, now time.Time) bool {
	if q.Works || q.Sent == 0 {
		return false
	}
	answered := q.RTT > 0
	return answered || now.Sub(chosen) >= unansweredTime
}

// outlives tells whether a path works where the one in use is dead, and not only
// because of two that fell silent together, or come back together, one is the
// first of which that is known.
func outlives(q, dead probe.Quality, now time.Time) bool {
	if q.Works && q.Since.Before(dead.Since) {
		// By then the dead one had been silent for long.
		return q.Heard.After(dead.Since.Add(-together(dead)))
	}
	return q.Works && now.Sub(q.Since) >= together(q)
}

// together is how far apart it may be noticed that paths fell silent, or came back,
// which do so in one moment: where the other daemon ends and starts. It is longer than
// the time between two probes, and shorter than that from the last answer of one path
// to the death of the other.
func together(q probe.Quality) time.Duration { return max(time.Second, q.Every+q.Every/4) }

func firstOf(paths []Path, is func(Path) bool) (Path, bool) {
	if i := slices.IndexFunc(paths, is); i >= 0 {
		return paths[i], true
	}
	return Path{}, false
}

func find(paths []Path, p Path) (Path, bool) {
	for _, q := range paths {
		if q == p {
			return q, true
		}
	}
	return Path{}, false
}
