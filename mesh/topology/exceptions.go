package topology

import (
	"bytes"
	"slices"
	"time"

	"github.com/google/uuid"
)

// Sight is what this peer's own probes say of its paths to another.
type Sight struct {
	Peer  uuid.UUID
	Paths bool      // there are any that may be taken
	Works bool      // one of them is answered
	Since time.Time // when Works became what it is
	// Silent tells that enough was asked on each path to say that none is answered.
	Silent bool
	// Doubt tells that it may be silent soon.
	Doubt bool
	Heard time.Time // the last answer on any of them; when asking began if there was none
}

// Most is how many peers a peer names by their whole ids, of either kind. One with
// even more trouble than MostShort is room for names some, and is a leaf.
const Most = 32

// Times that a link that was broken has to work without a break until it counts
// again, at first and at most; each break doubles it. The longest forgives them.
const (
	provenTime  = 10 * time.Second
	longestHold = 5 * time.Minute
)

// Exceptions are the peers to which the direct link does not work, as this peer
// publishes them. The zero value is none.
type Exceptions struct{ of map[uuid.UUID]exception }

type exception struct {
	kind  kind
	works bool      // at present, and not for long enough to count
	times int       // how often it began
	last  time.Time // when it did last
}

type kind int

const (
	over   kind = iota // it works again, and is remembered for a while
	broken             // others reach it
	mute               // nobody is known to
)

// Restore takes up what an earlier process has published, so that nothing moves
// because the daemon is launched anew.
func Restore(brokenTo, shaky, muted []uuid.UUID, now time.Time) Exceptions {
	e := Exceptions{map[uuid.UUID]exception{}}
	for _, id := range muted {
		e.of[id] = exception{kind: mute, times: 1, last: now}
	}
	for _, id := range slices.Concat(brokenTo, shaky) {
		e.of[id] = exception{kind: broken, works: slices.Contains(shaky, id), times: 1, last: now}
	}
	return e
}

// Next is what follows from what this peer sees. That a path is silent is no
// reason to leave it: the daemon at the other end may be stopped, and the kernel
// there forward all the same. A link is broken if others have heard that peer
// (heard says when, last) for longer than slack after it fell silent here, or if
// it has no path at all. A peer by which traffic is relayed (relays) is mute when
// it is silent: to leave it for another relay costs nothing.
func (e Exceptions) Next(sights []Sight, heard map[uuid.UUID]time.Time, relays map[uuid.UUID]bool, slack time.Duration, now time.Time) Exceptions {
	next := Exceptions{map[uuid.UUID]exception{}}
	for _, s := range sights {
		x, known := e.of[s.Peer]
		x = x.next(s, heard[s.Peer].Sub(s.Heard) > slack, relays[s.Peer], now)
		if known || x.kind != over {
			next.of[s.Peer] = x
		}
		if x.kind == over && now.Sub(x.last) >= longestHold {
			delete(next.of, s.Peer)
		}
	}
	return next
}

func (x exception) next(s Sight, heardElsewhere, relay bool, now time.Time) exception {
	is := over
	switch {
	case !s.Paths, s.Silent && heardElsewhere:
		is = broken
	case s.Silent && relay:
		is = mute
	}
	switch {
	case x.kind == over && is != over:
		x = exception{kind: is, times: x.times + 1, last: now}
	case x.kind == mute && is == broken:
		x.kind = broken
	case x.kind != over && s.Works && now.Sub(s.Since) >= x.hold():
		x.kind, x.last = over, now
	}
	if s.Works || s.Silent || !s.Paths {
		x.works = s.Works // else nothing is known yet: what was published holds
	}
	return x
}

// hold is how long the link has to work until it counts again.
func (x exception) hold() time.Duration {
	hold := provenTime
	for range x.times - 1 {
		if hold *= 2; hold >= longestHold {
			return longestHold
		}
	}
	return hold
}

// Broken are the peers that no path leads to, by id.
func (e Exceptions) Broken() []uuid.UUID {
	return e.list(func(x exception) bool { return x.kind == broken && !x.works })
}

// Shaky are the peers whose link works again, but not for long enough to be
// trusted, by id: it is better than none.
func (e Exceptions) Shaky() []uuid.UUID {
	return e.list(func(x exception) bool { return x.kind == broken && x.works })
}

// Mute are the relays that do not answer, by id.
func (e Exceptions) Mute() []uuid.UUID {
	return e.list(func(x exception) bool { return x.kind == mute })
}

// SameAs tells whether the others would be told the same.
func (e Exceptions) SameAs(o Exceptions) bool {
	return slices.Equal(e.Broken(), o.Broken()) && slices.Equal(e.Shaky(), o.Shaky()) && slices.Equal(e.Mute(), o.Mute())
}

// Is tells whether the link to a peer is broken or shaky.
func (e Exceptions) Is(peer uuid.UUID) bool { return e.of[peer].kind == broken }

// Until is from when on the link to a peer counts again, if it goes on working as
// it does; ok is false for one that counts, or does not work.
func (e Exceptions) Until(s Sight) (at time.Time, ok bool) {
	x := e.of[s.Peer]
	return s.Since.Add(x.hold()), x.kind != over && s.Works
}

func (e Exceptions) list(which func(exception) bool) []uuid.UUID {
	var out []uuid.UUID
	for id, x := range e.of {
		if which(x) {
			out = append(out, id)
		}
	}
	slices.SortFunc(out, func(a, b uuid.UUID) int { return bytes.Compare(a[:], b[:]) })
	return out
}
