package encap

import (
	"slices"
	"time"

	"github.com/google/uuid"
)

const (
	// movedTime is how long nothing has to hold an older slot before the others
	// are not told of it any more: what was sent by it has arrived.
	movedTime = 2 * time.Second
	// quietTime is how long nobody has to know of a slot before it is removed.
	quietTime = 5 * time.Second
	// heldTime bounds how long hosts hold an older slot that this one needs no more.
	heldTime = time.Hour
	// missedTime bounds how long a host holds an older slot whose daemon does not
	// answer, and whose kernel still sends to it: to let go cuts its containers off.
	// By then its addresses are given to others, unless an operator has said that
	// it may stay away for longer.
	missedTime = 25 * time.Hour
	// followPause is the least time between two slots that are made because others
	// have: a host that makes epochs up costs no more than that.
	followPause = 30 * time.Second
	// maxLead is how far an epoch may be ahead to be believed, so that nobody can
	// use up the numbers.
	maxLead = 1 << 20
)

// Slot is one end of this host's WireGuard, with a key that never changes. Two
// of one host have epochs of which one is even and one is odd.
type Slot struct {
	Epoch uint64 // how often the keys of the mesh have been changed
	Key   PrivateKey
	Made  time.Time
	// Unlisted is since when the others are not told of it; the zero value while
	// they are.
	Unlisted time.Time
}

// SlotIndex is which of the two devices a slot of an epoch has.
func SlotIndex(epoch uint64) int { return int(epoch % 2) }

// Listed tells whether the others are told of the slot.
func (s Slot) Listed() bool { return s.Unlisted.IsZero() }

// SlotPeer is another host, as far as a change of keys depends on it.
type SlotPeer struct {
	ID     uuid.UUID
	Live   bool     // its daemon answers
	Old    bool     // its weft knows of one slot only
	Epochs []uint64 // of the slots that it tells of; 0 of an old weft
	Linked bool     // traffic to it may go by WireGuard
	Moved  bool     // traffic to it does not need an older slot: the newest works
	// Heard tells that its kernel holds a session with the older slot, whether
	// or not its daemon answers.
	Heard bool
}

func (p SlotPeer) lists(index int) bool {
	return slices.ContainsFunc(p.Epochs, func(e uint64) bool { return SlotIndex(e) == index })
}

// speaks tells whether what the peer says of its epochs counts.
func (p SlotPeer) speaks() bool { return p.Live && !p.Old && len(p.Epochs) > 0 }

// Slots are this host's. The methods are the rules by which keys are changed
// while traffic runs, without clock or network: a slot is added, links move to it
// one by one, and the older one goes when nobody needs it. Two ends of a link use
// the slots of one index, so that at every moment they have one in common.
type Slots struct {
	List []Slot // one or two, the older first
	// Waiting are the peers that hold the older one.
	Waiting []uuid.UUID
	begun   time.Time // when the last one was made because others had one
	free    time.Time // since when nothing holds the older one
}

// Newest is the slot that traffic moves to.
func (s Slots) Newest() Slot { return s.List[len(s.List)-1] }

// Turning tells whether keys are being changed.
func (s Slots) Turning() bool { return len(s.List) > 1 }

// Next is one step by what the others say; a slot that is to be made has no key
// yet. It tells whether the list is another.
func (s Slots) Next(peers []SlotPeer, now time.Time) (next Slots, changed bool) {
	if epoch, ok := s.follow(peers, now); ok {
		next = s.with(epoch, now)
		next.begun = now
		return next, true
	}
	return s.finish(peers, now)
}

// follow says which epoch this host has to have because others do. Where it has
// none in common with most of them, since it was away, it takes theirs, even if
// its own key in that place is lost by that. Otherwise nothing is: it follows
// who is first, but only into a place that is free.
func (s Slots) follow(peers []SlotPeer, now time.Time) (epoch uint64, ok bool) {
	mine := s.Newest().Epoch
	var theirs []uint64
	ahead, apart := mine, 0
	for _, p := range peers {
		if !p.speaks() {
			continue
		}
		newest := slices.Max(p.Epochs)
		if newest > mine && newest-mine > maxLead {
			continue
		}
		theirs = append(theirs, newest)
		ahead = max(ahead, newest)
		if !slices.ContainsFunc(s.List, func(o Slot) bool { return slices.Contains(p.Epochs, o.Epoch) }) {
			apart++
		}
	}
	if ahead == mine || !s.begun.IsZero() && now.Sub(s.begun) < followPause {
		return 0, false
	}
	if 2*apart > len(theirs) {
		slices.Sort(theirs)
		most := theirs[(len(theirs)-1)/2] // more than half have this one or a later one
		return most, most > mine
	}
	return ahead, !s.Turning() && SlotIndex(ahead) != SlotIndex(mine)
}

// with is the slots with another one, in the place that its epoch has.
func (s Slots) with(epoch uint64, now time.Time) Slots {
	out := Slots{begun: s.begun}
	for _, o := range s.List {
		if SlotIndex(o.Epoch) != SlotIndex(epoch) {
			out.List = append(out.List, o)
		}
	}
	out.List = append(out.List, Slot{Epoch: epoch, Made: now})
	return out
}

// finish takes the older slot back, first from what is told to the others, and
// then altogether.
func (s Slots) finish(peers []SlotPeer, now time.Time) (next Slots, changed bool) {
	next = s
	next.Waiting = nil
	if !s.Turning() {
		next.free = time.Time{}
		return next, false
	}
	older, pause := s.List[0], movedTime
	if !older.Listed() {
		pause = quietTime
	}
	for _, p := range peers {
		if s.holds(p, now) {
			next.Waiting = append(next.Waiting, p.ID)
		}
	}
	switch {
	case len(next.Waiting) > 0:
		next.free = time.Time{}
		return next, false
	case s.free.IsZero():
		next.free = now
	}
	if now.Sub(next.free) < pause {
		return next, false
	}
	next.free = time.Time{}
	next.List = slices.Clone(s.List)
	if older.Listed() {
		next.List[0].Unlisted = now
	} else {
		next.List = next.List[1:]
	}
	return next, true
}

// holds tells whether a peer needs the older slot still.
func (s Slots) holds(p SlotPeer, now time.Time) bool {
	older, newest := s.List[0], s.Newest()
	switch {
	case !p.Linked || !p.lists(SlotIndex(older.Epoch)):
		return false
	case !p.Live:
		return p.Heard && now.Sub(newest.Made) < missedTime
	case older.Listed():
		// Who is in the newest's place with an earlier key is about to take that back.
		earlier := func(e uint64) bool { return e < newest.Epoch && SlotIndex(e) == SlotIndex(newest.Epoch) }
		return !p.Moved || slices.ContainsFunc(p.Epochs, earlier)
	}
	// Who is in that place with a later key is one change ahead, and waits for this.
	behind := func(e uint64) bool { return e <= older.Epoch && SlotIndex(e) == SlotIndex(older.Epoch) }
	return slices.ContainsFunc(p.Epochs, behind) && now.Sub(older.Unlisted) < heldTime
}

// Begin is a change of keys that this host begins. It is refused while one is
// under way, here or, as far as is known, elsewhere.
func (s Slots) Begin(peers []SlotPeer, now time.Time) (next Slots, ok bool) {
	epoch := s.Newest().Epoch
	for _, p := range peers {
		if !p.speaks() {
			continue
		}
		theirs := slices.Max(p.Epochs)
		if len(p.Epochs) > 1 || theirs > epoch && SlotIndex(theirs) != SlotIndex(s.Newest().Epoch) {
			return s, false
		}
		if theirs > epoch && theirs-s.Newest().Epoch <= maxLead {
			epoch = theirs
		}
	}
	if s.Turning() {
		return s, false
	}
	return s.with(epoch+1, now), true
}

// Due tells whether keys are old enough to be changed. Hosts are spread over a
// tenth of the time by their ids: the first one begins, and the others follow.
func (s Slots) Due(every time.Duration, id uuid.UUID, now time.Time) bool {
	later := every / 10 * time.Duration(id[15]) / 256
	return every > 0 && !s.Turning() && now.Sub(s.Newest().Made) >= every+later
}
