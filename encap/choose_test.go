package encap

import (
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/weft-net/weft/encap/probe"
)

var (
	viaDirect    = Path{"eth0", TransportDirect}
	viaVXLAN     = Path{"weft-vx", TransportVXLAN}
	viaWireGuard = Path{"weft-wg", TransportWireGuard}
	allPaths     = []Path{viaDirect, viaVXLAN, viaWireGuard}
	epoch        = time.Unix(1_000_000, 0)
	apart        = together(probe.Quality{Every: 500 * time.Millisecond})
)

func working(since time.Time) probe.Quality { return heard(since, epoch.Add(24*time.Hour)) }

func heard(since, last time.Time) probe.Quality {
	return probe.Quality{Works: true, Since: since, Heard: last, Sent: 5, RTT: time.Millisecond}
}

func dead(since time.Time) probe.Quality {
	return probe.Quality{Since: since, Sent: 5, RTT: time.Millisecond}
}

// seldom is a path of so many that each is probed every two seconds only.
func seldom(q probe.Quality) probe.Quality {
	q.Every = 2 * time.Second
	return q
}

func unanswered() probe.Quality { return probe.Quality{Since: epoch, Sent: 5} }

func TestChoice(t *testing.T) {
	now := epoch.Add(time.Hour)
	long, short := now.Add(-time.Minute), now.Add(-9*time.Second)
	was := func(p Path) Choice { return Choice{Path: p, At: epoch} }
	for name, tc := range map[string]struct {
		paths   []Path
		quality map[string]probe.Quality
		before  Choice
		want    Path
		why     string
	}{
		"nothing is allowed":                         {nil, nil, was(viaVXLAN), Path{}, "no transport"},
		"nothing is known":                           {allPaths, nil, Choice{}, viaDirect, "fastest that is allowed"},
		"only the slowest works at first":            {allPaths, map[string]probe.Quality{"weft-wg": working(short)}, Choice{}, viaWireGuard, "fastest that works"},
		"the chosen one is not allowed any more":     {[]Path{viaWireGuard}, map[string]probe.Quality{"weft-vx": working(long)}, was(viaVXLAN), viaWireGuard, "fastest that is allowed"},
		"the chosen one died":                        {allPaths, map[string]probe.Quality{"eth0": dead(now), "weft-wg": working(short)}, was(viaDirect), viaWireGuard, "direct does not work"},
		"all fell silent together":                   {allPaths, map[string]probe.Quality{"eth0": dead(now), "weft-wg": heard(long, now.Add(-apart))}, was(viaDirect), viaDirect, "no probe is answered"},
		"another was heard since":                    {allPaths, map[string]probe.Quality{"eth0": dead(now), "weft-wg": heard(long, now.Add(-apart/2))}, was(viaDirect), viaWireGuard, "direct does not work"},
		"all come back together":                     {allPaths, map[string]probe.Quality{"eth0": dead(long), "weft-wg": working(now.Add(-apart / 2))}, was(viaDirect), viaDirect, "no probe is answered"},
		"only another came back":                     {allPaths, map[string]probe.Quality{"eth0": dead(long), "weft-wg": working(now.Add(-apart))}, was(viaDirect), viaWireGuard, "direct does not work"},
		"a seldom probed one was heard since":        {allPaths, map[string]probe.Quality{"eth0": seldom(dead(now)), "weft-wg": seldom(heard(long, now.Add(-2*apart)))}, was(viaDirect), viaWireGuard, "direct does not work"},
		"seldom probed ones come back together":      {allPaths, map[string]probe.Quality{"eth0": seldom(dead(long)), "weft-wg": seldom(working(now.Add(-2 * apart)))}, was(viaDirect), viaDirect, "no probe is answered"},
		"all died":                                   {allPaths, map[string]probe.Quality{"eth0": dead(now), "weft-vx": dead(now), "weft-wg": dead(now)}, was(viaVXLAN), viaVXLAN, "no probe is answered on any"},
		"none was ever answered":                     {allPaths, map[string]probe.Quality{"eth0": unanswered(), "weft-vx": unanswered(), "weft-wg": unanswered()}, was(viaWireGuard), viaWireGuard, "no probe is answered on any"},
		"the chosen one was never answered":          {allPaths, map[string]probe.Quality{"eth0": unanswered(), "weft-vx": working(short)}, was(viaDirect), viaVXLAN, "direct does not work"},
		"it has had no time to be answered yet":      {allPaths, map[string]probe.Quality{"eth0": unanswered(), "weft-vx": working(now)}, Choice{Path: viaDirect, At: now.Add(-time.Second)}, viaDirect, ""},
		"a faster one works for too short":           {allPaths, map[string]probe.Quality{"eth0": working(short), "weft-wg": working(long)}, was(viaWireGuard), viaWireGuard, "direct works since"},
		"a faster one works for long enough":         {allPaths, map[string]probe.Quality{"eth0": working(long), "weft-wg": working(long)}, was(viaWireGuard), viaDirect, "fastest that is allowed"},
		"a faster one, but not the fastest":          {allPaths, map[string]probe.Quality{"weft-vx": working(long), "weft-wg": working(long)}, was(viaWireGuard), viaVXLAN, "fastest that works"},
		"a faster one works, and the chosen is dead": {allPaths, map[string]probe.Quality{"eth0": working(short), "weft-wg": dead(now)}, was(viaWireGuard), viaDirect, "wireguard does not work"},
	} {
		got := Choose(tc.paths, tc.quality, tc.before, now)
		if got.Path != tc.want || !strings.Contains(got.Why, tc.why) || (got.Path != tc.before.Path) != (got.At.Equal(now)) {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

func TestHoldDownGrowsAndIsForgiven(t *testing.T) {
	now, c := epoch, Choice{Path: viaDirect, At: epoch}
	wg := working(epoch)
	var holds []time.Duration
	for range 8 {
		now = now.Add(time.Second)
		c = Choose(allPaths, map[string]probe.Quality{"eth0": dead(now), "weft-wg": wg}, c, now)
		if c.Path != viaWireGuard {
			t.Fatalf("a dead path is kept: %+v", c)
		}
		back := now
		for c.Path != viaDirect {
			now = now.Add(time.Second)
			c = Choose(allPaths, map[string]probe.Quality{"eth0": working(back), "weft-wg": wg}, c, now)
		}
		holds = append(holds, now.Sub(back))
	}
	for i, want := range []time.Duration{10, 20, 40, 80, 160, 300, 300, 300} {
		if holds[i] != want*time.Second {
			t.Errorf("failure %d: taken back after %s; want %s", i+1, holds[i], want*time.Second)
		}
	}
	now = now.Add(longestHold)
	c = Choose(allPaths, map[string]probe.Quality{"eth0": working(epoch), "weft-wg": wg}, c, now)
	if len(c.failures) != 0 {
		t.Errorf("what held for %s is not forgiven: %+v", longestHold, c)
	}
}

func TestNewerPathOfOneTransportIsTakenAtOnceAndLeftWhenItFails(t *testing.T) {
	newer, older := Path{"weft-w1", TransportWireGuard}, Path{"weft-wg", TransportWireGuard}
	paths, now := []Path{newer, older}, epoch
	c := Choice{Path: older, At: now}
	if c = Choose(paths, map[string]probe.Quality{"weft-wg": working(epoch), "weft-w1": unanswered()}, c, now); c.Path != older {
		t.Fatalf("it moves to what is not proven: %+v", c)
	}
	both := map[string]probe.Quality{"weft-wg": working(epoch), "weft-w1": working(now)}
	if c = Choose(paths, both, c, now); c.Path != newer {
		t.Fatalf("it waits for what works: %+v", c)
	}
	broken := map[string]probe.Quality{"weft-wg": working(epoch), "weft-w1": {Since: now, Sent: 9, RTT: time.Millisecond}}
	now = now.Add(apart)
	if c = Choose(paths, broken, c, now); c.Path != older {
		t.Fatalf("it stays by what does not work: %+v", c)
	}
	both["weft-w1"] = working(now)
	if c = Choose(paths, both, c, now); c.Path != older {
		t.Fatalf("it is back at once by what has failed: %+v", c)
	}
	if c = Choose(paths, both, c, now.Add(provenTime)); c.Path != newer {
		t.Fatalf("it is not back by what works again: %+v", c)
	}
}

// world is what the probes say of the paths over time.
type world struct {
	allowed []Path
	quality map[string]probe.Quality
}

// step draws what happens in a second.
func (w *world) step(t *rapid.T, now time.Time) {
	for _, p := range allPaths {
		q := w.quality[p.Device]
		if rapid.IntRange(0, 9).Draw(t, "changes") == 0 {
			q.Works, q.Since, q.RTT = !q.Works, now, time.Millisecond
		}
		if q.Works {
			q.Heard = now
		}
		w.quality[p.Device] = q
	}
	if rapid.IntRange(0, 49).Draw(t, "policy changes") == 0 {
		w.allowed = nil
		for _, p := range allPaths {
			if rapid.Bool().Draw(t, "allowed") {
				w.allowed = append(w.allowed, p)
			}
		}
	}
}

func TestChoiceIsAllowedAndFlapsNoMoreThanItMayAndConverges(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := world{allowed: allPaths, quality: map[string]probe.Quality{}}
		for _, p := range allPaths {
			w.quality[p.Device] = unanswered()
		}
		now, c := epoch, Choice{}
		for range rapid.IntRange(1, 200).Draw(t, "seconds") {
			now = now.Add(time.Second)
			w.step(t, now)
			before := c
			c = Choose(w.allowed, w.quality, before, now)
			rank := func(p Path) int {
				for i, q := range w.allowed {
					if p == q {
						return i
					}
				}
				return -1
			}
			if len(w.allowed) > 0 && rank(c.Path) < 0 || len(w.allowed) == 0 && c.Path != (Path{}) {
				t.Fatalf("%v of %v is not allowed", c.Path, w.allowed)
			}
			if again := Choose(w.allowed, w.quality, c, now); again.Path != c.Path {
				t.Fatalf("undecided: %v, then %v", c.Path, again.Path)
			}
			from, to := rank(before.Path), rank(c.Path)
			if from < 0 || to < 0 || from == to {
				continue
			}
			q := w.quality[c.Device]
			if !q.Works {
				t.Fatalf("moved to %v, which does not work", c.Path)
			}
			if w.quality[before.Device].Works && (to > from || now.Sub(q.Since) < before.failures[c.Device].hold()) {
				t.Fatalf("left %v, which works, for %v after %s; %+v", before.Path, c.Path, now.Sub(q.Since), before.failures)
			}
		}
		// Nothing changes any more: the fastest that works is found.
		for range 2 {
			now = now.Add(longestHold)
			for d, q := range w.quality {
				q.Heard = now
				w.quality[d] = q
			}
			c = Choose(w.allowed, w.quality, c, now)
		}
		if want, ok := firstOf(w.allowed, func(p Path) bool { return w.quality[p.Device].Works }); ok && c.Path != want {
			t.Fatalf("ends with %v instead of %v", c.Path, want)
		}
	})
}
