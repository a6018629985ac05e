package encap

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"pgregory.net/rapid"
)

// turner is a host whose keys are changed: what its kernel has, and what it knows
// of the others.
type turner struct {
	id    uuid.UUID
	slots Slots
	down  bool                   // its daemon; its kernel goes on
	live  map[uuid.UUID]bool     // whom it takes to be alive
	views map[uuid.UUID][]uint64 // what it has last heard of each
}

// told is what a host tells the others.
func (h *turner) told() (out []uint64) {
	for _, s := range h.slots.List {
		if s.Listed() {
			out = append(out, s.Epoch)
		}
	}
	return out
}

// receives tells whether a host has a slot of that index, with the other's key
// of that epoch in it.
func (h *turner) receives(from *turner, index int) bool {
	_, has := h.at(index)
	there, hasThere := from.at(index)
	return has && hasThere && slices.Contains(h.views[from.id], there.Epoch)
}

func (h *turner) at(index int) (Slot, bool) {
	for _, s := range h.slots.List {
		if SlotIndex(s.Epoch) == index {
			return s, true
		}
	}
	return Slot{}, false
}

// works is what a probe finds out: each end has the other's key.
func works(a, b *turner, index int) bool { return a.receives(b, index) && b.receives(a, index) }

// peersOfTurner are the others as a host sees them.
func peersOfTurner(h *turner, all []*turner) (out []SlotPeer) {
	newest := SlotIndex(h.slots.Newest().Epoch)
	older := SlotIndex(h.slots.List[0].Epoch)
	for _, o := range all {
		if o != h {
			out = append(out, SlotPeer{ID: o.id, Live: h.live[o.id], Epochs: h.views[o.id], Linked: true,
				Moved: works(h, o, newest) && !o.down, Heard: works(h, o, older)})
		}
	}
	return out
}

func TestEveryPairHasASlotInCommonThroughoutAndOneOfTheNewestEpochInTheEnd(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now := time.Unix(0, 0)
		all := make([]*turner, rapid.IntRange(2, 5).Draw(t, "hosts"))
		for i := range all {
			all[i] = &turner{id: uuid.UUID{byte(i + 1)}, slots: Slots{List: []Slot{{}}}, live: map[uuid.UUID]bool{}, views: map[uuid.UUID][]uint64{}}
		}
		each := func(do func(h, o *turner)) {
			for _, h := range all {
				for _, o := range all {
					if h != o {
						do(h, o)
					}
				}
			}
		}
		hear := func(h, o *turner) {
			if !h.down && !o.down {
				h.views[o.id] = o.told()
			}
		}
		notice := func(h, o *turner) { h.live[o.id] = !o.down }
		each(hear)
		each(notice)
		step := func(h *turner) {
			if !h.down {
				h.slots, _ = h.slots.Next(peersOfTurner(h, all), now)
			}
		}
		check := func(what string) {
			each(func(h, o *turner) {
				if !works(h, o, 0) && !works(h, o, 1) {
					t.Fatalf("after %s: %v and %v have nothing in common: %v (sees %v), %v (sees %v)", what, h.id[0], o.id[0], h.slots.List, h.views[o.id], o.slots.List, o.views[h.id])
				}
			})
		}
		one := rapid.SampledFrom(all)
		for range rapid.IntRange(0, 400).Draw(t, "steps") {
			h, o := one.Draw(t, "host"), one.Draw(t, "other")
			what := rapid.SampledFrom([]string{"step", "step", "step", "hear", "hear", "hear", "wait", "wait", "begin", "down", "up", "notice"}).Draw(t, "what")
			switch {
			case what == "step":
				step(h)
			case what == "hear" && h != o:
				hear(h, o)
			case what == "notice" && h != o:
				notice(h, o)
			case what == "wait":
				now = now.Add(rapid.SampledFrom([]time.Duration{0, time.Second, movedTime, quietTime}).Draw(t, "time"))
			case what == "begin" && !h.down:
				h.slots, _ = h.slots.Begin(peersOfTurner(h, all), now)
			case what == "down":
				h.down = true
			case what == "up":
				h.down = false
			}
			check(fmt.Sprintf("%s of %d (and %d)", what, h.id[0], o.id[0]))
		}
		newest := uint64(0)
		for _, h := range all {
			h.down = false
			newest = max(newest, h.slots.Newest().Epoch)
		}
		for range 100 {
			now = now.Add(time.Second)
			each(notice)
			each(hear)
			for _, h := range all {
				step(h)
				check("settling")
			}
		}
		for _, h := range all {
			if h.slots.Turning() || h.slots.Newest().Epoch != newest {
				t.Fatalf("%d ends with %v, and the newest is %d", h.id[0], h.slots.List, newest)
			}
		}
	})
}

var (
	slotsBegan = time.Unix(1_000_000, 0)
	peerA      = SlotPeer{ID: uuid.UUID{1}, Live: true, Linked: true}
)

func epochs(s Slots) (out []uint64) {
	for _, o := range s.List {
		out = append(out, o.Epoch)
	}
	return out
}

func said(list ...uint64) SlotPeer {
	p := peerA
	p.Epochs = list
	return p
}

func TestWhichEpochsAHostFollows(t *testing.T) {
	for _, c := range []struct {
		name  string
		own   []uint64
		peers []SlotPeer
		want  []uint64
	}{
		{"one that has begun", []uint64{0}, []SlotPeer{said(0, 1)}, []uint64{0, 1}},
		{"one among many", []uint64{4}, []SlotPeer{said(4), said(4), said(4, 5)}, []uint64{4, 5}},
		{"a mesh that is far ahead, into a free place", []uint64{0}, []SlotPeer{said(7), said(7)}, []uint64{0, 7}},
		{"a mesh that is far ahead, in its own place", []uint64{0}, []SlotPeer{said(8), said(8)}, []uint64{8}},
		{"a mesh that went on while it was away in the middle", []uint64{0, 1}, []SlotPeer{said(2), said(2)}, []uint64{1, 2}},
		{"one that skips, which would cost traffic to others", []uint64{0}, []SlotPeer{said(2), said(0)}, []uint64{0}},
		{"nobody while its own change is under way", []uint64{0, 1}, []SlotPeer{said(1, 2)}, []uint64{0, 1}},
		{"nobody who uses the numbers up", []uint64{0}, []SlotPeer{said(1<<63 + 1)}, []uint64{0}},
		{"nobody who is behind", []uint64{5}, []SlotPeer{said(3), said(4)}, []uint64{5}},
		{"no old weft", []uint64{1}, []SlotPeer{{ID: uuid.UUID{1}, Live: true, Old: true, Linked: true, Epochs: []uint64{0}}}, []uint64{1}},
	} {
		var s Slots
		for _, e := range c.own {
			s.List = append(s.List, Slot{Epoch: e, Made: slotsBegan})
		}
		s, _ = s.Next(c.peers, slotsBegan)
		if got := epochs(s); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

func TestHostThatMakesEpochsUpIsFollowedNowAndThenOnly(t *testing.T) {
	s := Slots{List: []Slot{{}}}
	made, now := 0, slotsBegan
	for range 600 {
		now = now.Add(time.Second)
		p := said(s.Newest().Epoch + 1)
		p.Moved = true
		before := s.Newest().Epoch
		if s, _ = s.Next([]SlotPeer{p}, now); s.Newest().Epoch != before {
			made++
		}
	}
	if most := int(600*time.Second/followPause) + 1; made > most || made < 2 {
		t.Errorf("%d slots in ten minutes, want 2 to %d", made, most)
	}
}

func TestWhoHoldsTheOlderSlot(t *testing.T) {
	turning := Slots{List: []Slot{{Epoch: 0}, {Epoch: 1, Made: slotsBegan}}}
	further := Slots{List: []Slot{{Epoch: 1}, {Epoch: 2, Made: slotsBegan}}}
	unlisted := Slots{List: []Slot{{Epoch: 0, Unlisted: slotsBegan}, {Epoch: 1, Made: slotsBegan}}}
	with := func(p SlotPeer, change func(*SlotPeer)) SlotPeer { change(&p); return p }
	for _, c := range []struct {
		name  string
		s     Slots
		peer  SlotPeer
		after time.Duration
		want  bool
	}{
		{"one that has not moved", turning, said(0, 1), 0, true},
		{"one that has", turning, with(said(0, 1), func(p *SlotPeer) { p.Moved = true }), 0, false},
		{"one that has, by a key that it is about to take back", further, with(said(0, 1), func(p *SlotPeer) { p.Moved = true }), 0, true},
		{"one without WireGuard", turning, with(said(0, 1), func(p *SlotPeer) { p.Linked = false }), 0, false},
		{"an old weft, for as long as it is there", turning, with(said(0), func(p *SlotPeer) { p.Old = true }), 100 * heldTime, true},
		{"a stopped daemon", turning, with(said(0), func(p *SlotPeer) { p.Live, p.Heard = false, true }), missedTime / 2, true},
		{"a daemon that is stopped for too long", turning, with(said(0), func(p *SlotPeer) { p.Live, p.Heard = false, true }), missedTime, false},
		{"a host that is off", turning, with(said(0), func(p *SlotPeer) { p.Live = false }), 0, false},
		{"one that tells of its own still", unlisted, with(said(0, 1), func(p *SlotPeer) { p.Moved = true }), 0, true},
		{"one that does not any more", unlisted, said(1), 0, false},
		{"one that is a change ahead", unlisted, said(1, 2), 0, false},
		{"a stopped daemon whose kernel may send by it", unlisted, with(said(0, 1), func(p *SlotPeer) { p.Live, p.Heard = false, true }), 0, true},
	} {
		if got := c.s.holds(c.peer, slotsBegan.Add(c.after)); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}

func TestKeysAreDueByTheirAge(t *testing.T) {
	s := Slots{List: []Slot{{Made: slotsBegan}}}
	for _, c := range []struct {
		every, age time.Duration
		want       bool
	}{{0, 1000 * time.Hour, false}, {-1, 1000 * time.Hour, false}, {time.Hour, 59 * time.Minute, false}, {time.Hour, 66 * time.Minute, true}} {
		if got := s.Due(c.every, uuid.UUID{15: 200}, slotsBegan.Add(c.age)); got != c.want {
			t.Errorf("every %s, after %s: %v", c.every, c.age, got)
		}
	}
}
