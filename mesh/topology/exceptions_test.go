package topology

import (
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
)

var began = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func after(seconds float64) time.Time {
	return began.Add(time.Duration(seconds * float64(time.Second)))
}

const slack = 700 * time.Millisecond

// fellSilent is a peer that was heard last at the beginning.
func fellSilent() Sight {
	return Sight{Peer: id(1), Paths: true, Silent: true, Heard: began, Since: after(2)}
}

func works(since float64) Sight {
	return Sight{Peer: id(1), Paths: true, Works: true, Since: after(since)}
}

func TestLinkIsBrokenOnlyIfOthersStillHearThePeer(t *testing.T) {
	relay := map[uuid.UUID]bool{id(1): true}
	for what, tc := range map[string]struct {
		sight        Sight
		heard        map[uuid.UUID]time.Time
		relays       map[uuid.UUID]bool
		broken, mute bool
	}{
		"it works":                                {sight: works(0), heard: map[uuid.UUID]time.Time{id(1): after(2)}},
		"nobody has heard it since":               {sight: fellSilent()},
		"somebody heard it a moment later":        {sight: fellSilent(), heard: map[uuid.UUID]time.Time{id(1): after(0.6)}},
		"somebody hears it still":                 {sight: fellSilent(), heard: map[uuid.UUID]time.Time{id(1): after(1.9)}, broken: true},
		"not enough was asked":                    {sight: Sight{Peer: id(1), Paths: true, Heard: began}, heard: map[uuid.UUID]time.Time{id(1): after(1.9)}},
		"there is no path":                        {sight: Sight{Peer: id(1)}, broken: true},
		"it relays, and nobody has heard it":      {sight: fellSilent(), relays: relay, mute: true},
		"it relays, and somebody hears it":        {sight: fellSilent(), relays: relay, heard: map[uuid.UUID]time.Time{id(1): after(1.9)}, broken: true},
		"another relays":                          {sight: fellSilent(), relays: map[uuid.UUID]bool{id(2): true}},
		"somebody hears another that fell silent": {sight: fellSilent(), heard: map[uuid.UUID]time.Time{id(2): after(1.9)}},
	} {
		e := Exceptions{}.Next([]Sight{tc.sight}, tc.heard, tc.relays, slack, after(2.1))
		if got := slices.Contains(e.Broken(), id(1)); got != tc.broken || e.Is(id(1)) != tc.broken {
			t.Errorf("%s: broken is %v", what, got)
		}
		if got := slices.Contains(e.Mute(), id(1)); got != tc.mute {
			t.Errorf("%s: mute is %v", what, got)
		}
	}
}

func TestBrokenLinkCountsAgainWhenItHasWorkedForLongEnough(t *testing.T) {
	heard := func(seconds float64) map[uuid.UUID]time.Time {
		return map[uuid.UUID]time.Time{id(1): after(seconds)}
	}
	silentAt := func(seconds float64) Sight {
		return Sight{Peer: id(1), Paths: true, Silent: true, Heard: after(seconds)}
	}
	e := Exceptions{}
	for _, step := range []struct {
		at     float64
		sight  Sight
		broken bool
	}{
		{2.1, silentAt(0), true},
		{60, silentAt(0), true},
		{61, works(60.5), true},
		{70, works(60.5), true},
		{70.5, works(60.5), false},
		// The second time it takes twice as long.
		{80, silentAt(78), true},
		{95, works(84), true},
		{104, works(84), false},
		{110, silentAt(108), true},
		{155, works(116), true},
		{156, works(116), false},
		// What has worked for as long as the longest wait is forgiven.
		{456, works(116), false},
		{500, silentAt(498), true},
		{512, works(502), false},
	} {
		e = e.Next([]Sight{step.sight}, heard(step.at), nil, slack, after(step.at))
		if until, ok := e.Until(step.sight); ok != (step.broken && step.sight.Works) || ok && !until.After(after(step.at)) {
			t.Errorf("after %v s: until %v, %v", step.at, until, ok)
		}
		if e.Is(id(1)) != step.broken {
			t.Errorf("after %v s: broken is %v", step.at, e.Is(id(1)))
		}
		if shaky := step.broken && step.sight.Works; (len(e.Shaky()) > 0) != shaky || (len(e.Broken()) > 0) != (step.broken && !shaky) {
			t.Errorf("after %v s: shaky are %v, broken %v", step.at, e.Shaky(), e.Broken())
		}
	}
}

func TestWhoIsGoneIsNoException(t *testing.T) {
	e := Restore([]uuid.UUID{id(1)}, nil, []uuid.UUID{id(2)}, began)
	if !slices.Equal(e.Broken(), []uuid.UUID{id(1)}) || !slices.Equal(e.Mute(), []uuid.UUID{id(2)}) {
		t.Fatalf("%+v", e)
	}
	still := e.Next([]Sight{{Peer: id(1), Paths: true}}, nil, nil, slack, after(1))
	if !still.Is(id(1)) || len(still.Mute()) != 0 {
		t.Errorf("%+v", still)
	}
}

func TestWhatWasShakyStaysSoUntilProbesSayMore(t *testing.T) {
	e := Restore(nil, []uuid.UUID{id(1)}, nil, began)
	for _, step := range []struct {
		sight Sight
		shaky bool
	}{{Sight{Peer: id(1), Paths: true}, true}, {works(1), true}, {Sight{Peer: id(1), Paths: true, Silent: true, Heard: after(1)}, false}, {Sight{Peer: id(1), Paths: true}, false}} {
		e = e.Next([]Sight{step.sight}, nil, nil, slack, after(2))
		if got := slices.Equal(e.Shaky(), []uuid.UUID{id(1)}); got != step.shaky || !e.Is(id(1)) {
			t.Errorf("after %+v shaky are %v, broken %v", step.sight, e.Shaky(), e.Broken())
		}
	}
}

func TestMuteRelayThatOthersHearIsBrokenFromThenOn(t *testing.T) {
	e := Exceptions{}.Next([]Sight{fellSilent()}, nil, map[uuid.UUID]bool{id(1): true}, slack, after(2.1))
	e = e.Next([]Sight{fellSilent()}, nil, nil, slack, after(3))
	if len(e.Mute()) != 1 {
		t.Fatal("it is mute no more because another relays now")
	}
	if e = e.Next([]Sight{fellSilent()}, map[uuid.UUID]time.Time{id(1): after(3.5)}, nil, slack, after(4)); !e.Is(id(1)) {
		t.Errorf("%+v", e)
	}
}
