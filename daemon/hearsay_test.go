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
	if got := h.about([]topology.Sight{silent}, nil, now); len(got) != 0 {
		t.Errorf("before any answer: %v", got)
	}
	if take(heardOf{Peer: two, Ago: time.Second}, heardOf{Peer: one, Ago: -time.Hour}) {
		t.Error("of another, or in the future")
	}
	if !take(heardOf{Peer: one, Ago: time.Second}) || take(heardOf{Peer: one, Ago: time.Minute}) {
		t.Error("what is later is news, and what is earlier is not")
	}
	if got := h.about([]topology.Sight{silent}, nil, now); !got[one].Equal(now.Add(-time.Second)) {
		t.Errorf("%v", got)
	}
	if got := h.about(nil, nil, now); len(got) != 0 || take(heardOf{Peer: one}) {
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
		h.about([]topology.Sight{{Peer: uuid.UUID{1}, Silent: true, Heard: began}}, nil, now)
		if next := h.next[uuid.UUID{1}]; next != last {
			if pause := next.Sub(now); pause < askPause || pause > longestPause {
				t.Fatalf("after %s: a pause of %s", s, pause)
			}
			asked, last = asked+1, next
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
		died := began.Add(20 * time.Second)
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
		for s := 2 * time.Second; s < 10*time.Minute; s += max(250*time.Millisecond, 2*delay) {
			for i := range n {
				asked := began.Add(s)
				var silent []topology.Sight
				if i > 1 {
					silent = []topology.Sight{{Peer: first, Silent: true, Heard: began}}
				}
				for _, at := range hosts[i].about(silent, nil, asked) {
					if at.After(died) {
						t.Fatalf("after %s host %d has been told that the peer was heard %s after its end", s, i, at.Sub(died))
					}
				}
				for _, next := range []int{i - 1, i + 1} {
					if next > 0 && next < n {
						now = asked.Add(delay)
						q := question{uuid.UUID{byte(i + 1)}, asked.Sub(hosts[i].began), now}
						answer := rumour{Heard: hosts[next].told(q, []uuid.UUID{first}), Asked: q.asked}
						hosts[i].take(answer, now.Add(delay))
					}
				}
			}
			if at := began.Add(s); s >= 17*time.Second && at.Before(died) {
				for i := 2; i < n; i++ {
					if told := hosts[i].heard[first]; at.Sub(told) > 10*time.Second {
						t.Errorf("host %d was told of %s ago, with a delay of %s", i, at.Sub(told), delay)
					}
				}
			}
		}
	}
}

func TestWhoAskedTooEarlyIsToldLater(t *testing.T) {
	now := time.Now()
	silent, other := uuid.UUID{1}, uuid.UUID{2}
	h := newHearsay(func([]uuid.UUID) map[uuid.UUID]time.Duration { return nil })
	one := question{uuid.UUID{3}, time.Minute, now}
	h.told(one, []uuid.UUID{silent})
	h.about([]topology.Sight{{Peer: silent, Silent: true, Heard: now.Add(-2 * time.Second)}}, nil, now)
	two := question{uuid.UUID{4}, time.Hour, now}
	h.told(two, []uuid.UUID{silent, other})
	two.asked, two.at = two.asked+time.Second, two.at.Add(time.Second) // it asks again
	h.told(two, []uuid.UUID{silent, other})
	_, owed := h.take(rumour{Heard: []heardOf{{Peer: silent, Ago: time.Second}}}, now.Add(2*time.Second))
	if len(owed) != 1 || len(owed[two]) != 1 || owed[two][0].Peer != silent || owed[two][0].Ago != 0 {
		t.Errorf("to whom this host asked about it as well: %v", owed)
	}
	if _, owed := h.take(rumour{Heard: []heardOf{{Peer: silent}}}, now.Add(3*time.Second)); len(owed) != 0 {
		t.Errorf("once is enough: %v", owed)
	}
	delete(h.heard, silent)
	for i := range 2 * mostOwed {
		h.told(question{from: uuid.UUID{9, byte(i)}, at: now}, []uuid.UUID{silent})
	}
	if len(h.owed[silent]) != mostOwed {
		t.Errorf("%d are owed", len(h.owed[silent]))
	}
	if h.about(nil, nil, now); len(h.owed) != 0 {
		t.Errorf("it is heard again: %v", h.owed)
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
