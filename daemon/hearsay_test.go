package daemon

import (
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/weft-net/weft/mesh/topology"
)

func TestOnlyWhatWasAskedForIsBelieved(t *testing.T) {
	h := newHearsay(nil)
	now := time.Now()
	one, two := uuid.UUID{1}, uuid.UUID{2}
	take := func(list ...heardOf) bool { news, _ := h.take(rumour{Heard: list}, now); return news }
	if take(heardOf{Peer: one, Ago: time.Second}) {
		t.Error("nobody asked")
	}
	silent := topology.Sight{Peer: one, Silent: true, Heard: now.Add(-2 * time.Second)}
	if got := h.about([]topology.Sight{silent}, nil, topology.Words{}, time.Second, now); len(got) != 0 {
		t.Errorf("before any answer: %v", got)
	}
	if take(heardOf{Peer: two, Ago: time.Second}, heardOf{Peer: one, Ago: -time.Hour}) {
		t.Error("of another, or in the future")
	}
	if !take(heardOf{Peer: one, Ago: time.Second}) || take(heardOf{Peer: one, Ago: time.Minute}) {
		t.Error("what is later is news, and what is earlier is not")
	}
	if got := h.about([]topology.Sight{silent}, nil, topology.Words{}, time.Second, now); !got[one].Equal(now.Add(-time.Second)) {
		t.Errorf("%v", got)
	}
	if got := h.about(nil, nil, topology.Words{}, time.Second, now); len(got) != 0 || take(heardOf{Peer: one}) {
		t.Errorf("one that is silent no more is not forgotten: %v", got)
	}
}

func TestPausesBetweenQuestionsGrowWithTheSilence(t *testing.T) {
	h := newHearsay(nil)
	began := time.Now()
	asked := 0
	var last time.Time
	for s := 2 * time.Second; s < time.Hour; s += 200 * time.Millisecond {
		now := began.Add(s)
		h.about([]topology.Sight{{Peer: uuid.UUID{1}, Silent: true, Heard: began}}, nil, topology.Words{}, time.Second, now)
		if at := h.missed[uuid.UUID{1}].asked; at != last {
			if pause := at.Sub(last); !last.IsZero() && (pause < askPause || pause > longestPause+200*time.Millisecond) {
				t.Fatalf("after %s: a pause of %s", s, pause)
			}
			asked, last = asked+1, at
		}
	}
	if asked < 60 || asked > 120 {
		t.Errorf("asked %d times in an hour", asked)
	}
}

func TestWordOfAPeerGoesFromHostToHostAndNeverGetsYounger(t *testing.T) {
	for _, delay := range []time.Duration{time.Millisecond, 100 * time.Millisecond, time.Second} {
		const n = 6 // hosts in a row, of which each hears the next ones
		began := time.Now()
		lost, died := began.Add(30*time.Second), began.Add(time.Minute)
		first := uuid.UUID{1}
		var now time.Time
		hosts := make([]*hearsay, n)
		for i := range hosts {
			hosts[i] = newHearsay(func([]uuid.UUID) map[uuid.UUID]time.Duration {
				if i == 1 && now.Before(died) {
					return map[uuid.UUID]time.Duration{first: 20 * time.Millisecond}
				}
				return nil
			})
			hosts[i].began = began.Add(-time.Duration(i) * time.Hour) // whose clocks differ
		}
		var tell func(question, []heardOf, time.Time)
		tell = func(q question, list []heardOf, at time.Time) {
			_, owed := hosts[q.from[0]-1].take(rumour{Heard: list, Asked: q.asked}, at)
			for q, list := range owed {
				tell(q, list, at.Add(delay))
			}
		}
		for s := 2 * time.Second; s < 10*time.Minute; s += max(250*time.Millisecond, 2*delay) {
			for i := range n {
				asked := began.Add(s)
				var silent []topology.Sight
				if i > 1 {
					silent = []topology.Sight{{Peer: first, Silent: true, Heard: began}}
				}
				if i == n-1 && asked.After(lost) { // it has heard it once more
					silent[0].Heard = lost
				}
				for _, at := range hosts[i].about(silent, nil, topology.Words{}, time.Second, asked) {
					if at.After(died) {
						t.Fatalf("after %s host %d has been told that the peer was heard %s after its end", s, i, at.Sub(died))
					}
				}
				x := hosts[i].missed[first]
				if x == nil || !x.asked.Equal(asked) {
					continue // it has not asked
				}
				need, hops := x.next()
				for _, next := range []int{i - 1, i + 1} {
					if next > 0 && next < n {
						now = asked.Add(delay)
						q := question{from: uuid.UUID{byte(i + 1)}, asked: asked.Sub(hosts[i].began), at: now}
						list, _ := hosts[next].told(q, rumour{Ask: []uuid.UUID{first}, After: []int64{asked.Sub(need).Milliseconds()}, Hops: []byte{hops}})
						tell(q, list, now.Add(delay))
					}
				}
			}
			for i := 2; i < n && s >= 25*time.Second+20*delay; i++ {
				if told := hosts[i].missed[first].heard; told.Before(began.Add(time.Second)) {
					t.Errorf("after %s, with a delay of %s, host %d was told of %s after it lost the peer", s, delay, i, told.Sub(began))
				}
			}
			if told := hosts[n-1].missed[first].heard; s >= 50*time.Second && told.Before(lost.Add(time.Second)) {
				t.Errorf("after %s, with a delay of %s, who lost it later was told of %s after that", s, delay, told.Sub(lost))
			}
		}
	}
}

func TestWhoAskedTooEarlyIsToldWhenThereIsAWordOfUse(t *testing.T) {
	now := time.Now()
	silent, other := uuid.UUID{1}, uuid.UUID{2}
	h := newHearsay(func([]uuid.UUID) map[uuid.UUID]time.Duration { return nil })
	about := rumour{Ask: []uuid.UUID{silent, other}, After: []int64{500, 500}, Hops: []byte{0, mostHops}}
	if list, wanted := h.told(question{from: uuid.UUID{3}, at: now}, about); len(list) != 0 || wanted {
		t.Error("this host does not ask about it itself")
	}
	sights := []topology.Sight{{Peer: silent, Silent: true, Heard: now.Add(-time.Minute)}}
	h.about(sights, nil, topology.Words{}, time.Second, now)
	one := question{from: uuid.UUID{4}, asked: time.Hour, at: now}
	if _, wanted := h.told(one, about); !wanted {
		t.Error("it has to be asked about for who needs a later word")
	}
	one.asked, one.at = one.asked+time.Second, one.at.Add(time.Second) // it asks again
	h.told(one, about)
	h.about(sights, nil, topology.Words{}, time.Second, now.Add(time.Second))
	if x := h.missed[silent]; !x.asked.Equal(now.Add(time.Second)) {
		t.Errorf("it was asked about %s ago", now.Add(time.Second).Sub(x.asked))
	}
	if _, owed := h.take(rumour{Heard: []heardOf{{Peer: silent, Ago: 2 * time.Second}}}, now.Add(2*time.Second)); len(owed) != 0 {
		t.Errorf("that is of no use to who asked: %v", owed)
	}
	_, owed := h.take(rumour{Heard: []heardOf{{Peer: silent, Ago: time.Second}}}, now.Add(2*time.Second))
	if len(owed) != 1 || len(owed[one]) != 1 || owed[one][0].Peer != silent || owed[one][0].Ago != 0 {
		t.Errorf("to whom this host asked about it as well: %v", owed)
	}
	if _, owed := h.take(rumour{Heard: []heardOf{{Peer: silent}}}, now.Add(3*time.Second)); len(owed) != 0 {
		t.Errorf("once is enough: %v", owed)
	}
	if list, _ := h.told(question{from: uuid.UUID{5}, at: now.Add(3 * time.Second)}, about); len(list) != 1 || list[0].Ago != 0 {
		t.Errorf("what was told is passed on: %v", list)
	}
	for i := range 2 * mostOwed {
		h.told(question{from: uuid.UUID{9, byte(i)}, at: now.Add(time.Hour)}, about)
	}
	if n := len(h.missed[silent].owed); n != mostOwed {
		t.Errorf("%d are owed", n)
	}
	if h.about(nil, nil, topology.Words{}, time.Second, now); len(h.missed) != 0 {
		t.Errorf("it is heard again: %v", h.missed)
	}
}

func FuzzRumour(f *testing.F) {
	f.Add(encode(rumour{Ask: []uuid.UUID{{1}}}))
	f.Add(encode(rumour{Heard: []heardOf{{Peer: uuid.UUID{1}, Ago: time.Second}}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := readRumour(b)
		if err == nil && (len(r.Ask) > mostAsked || len(r.Heard) > mostAsked) {
			t.Errorf("%d asked, %d heard", len(r.Ask), len(r.Heard))
		}
	})
}

func TestAllAreAskedInTurn(t *testing.T) {
	for n := range 30 {
		var reached []topology.Peer
		for i := range n {
			reached = append(reached, topology.Peer{ID: uuid.UUID{byte(i)}})
		}
		asked := map[uuid.UUID]int{}
		turns := (n + askedAtOnce - 1) / askedAtOnce
		for turn := 40; turn < 40+turns; turn++ {
			now := inTurn(reached, turn)
			if len(now) != min(n, askedAtOnce) {
				t.Errorf("of %d, %d are asked at once", n, len(now))
			}
			for _, p := range now {
				asked[p.ID]++
			}
		}
		if len(asked) != n {
			t.Errorf("of %d, %d are asked in %d turns", n, len(asked), turns)
		}
	}
}
