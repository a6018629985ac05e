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
	if h.take([]heardOf{{Peer: one, Ago: time.Second}}, now) {
		t.Error("nobody asked")
	}
	silent := topology.Sight{Peer: one, Silent: true, Heard: now.Add(-2 * time.Second)}
	if got := h.about([]topology.Sight{silent}, nil, now); len(got) != 0 {
		t.Errorf("before any answer: %v", got)
	}
	if h.take([]heardOf{{Peer: two, Ago: time.Second}, {Peer: one, Ago: -time.Hour}}, now) {
		t.Error("of another, or in the future")
	}
	if !h.take([]heardOf{{Peer: one, Ago: time.Second}}, now) || h.take([]heardOf{{Peer: one, Ago: time.Minute}}, now) {
		t.Error("what is later is news, and what is earlier is not")
	}
	if got := h.about([]topology.Sight{silent}, nil, now); !got[one].Equal(now.Add(-time.Second)) {
		t.Errorf("%v", got)
	}
	if got := h.about(nil, nil, now); len(got) != 0 || h.take([]heardOf{{Peer: one}}, now) {
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
	if asked < 60 || asked > 110 {
		t.Errorf("asked %d times in an hour", asked)
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
