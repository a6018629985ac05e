package probe

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

func (w *world) until1(limit time.Duration, what string, so func(p *path) bool) time.Duration {
	w.t.Helper()
	return w.until(limit, what, func() bool { return so(w.only()) })
}

func TestMTUThatShrinksIsFoundToTheByteWithinSeconds(t *testing.T) {
	var usable, exact time.Duration
	for _, c := range []struct{ target, now int }{
		{1450, 1449}, {1450, 1442}, {1450, 1400}, {1450, 1350}, {1450, 1280}, {1450, 1201}, {1450, 1200}, {1450, 1199}, {1450, 1152},
		{8950, 8900}, {8950, 4352}, {8950, 1500}, {8950, 1450}, {8950, 1280}, {1350, 1290},
	} {
		for seed := range uint64(20) {
			w := newWorld(t, seed, 1)
			w.fits = c.target
			w.fleet.set(0, targetsOf(1, c.target))
			w.run(5*time.Second + time.Duration(seed)*113*time.Millisecond)
			if w.only().mtu != c.target {
				t.Fatalf("MTU is %d; want %d", w.only().mtu, c.target)
			}
			w.fits = c.now
			begin := w.now
			usable = max(usable, w.until1(5*time.Second, "packets fit again", func(p *path) bool { return p.mtu <= c.now }))
			w.until1(6*time.Second, "the largest is found", func(p *path) bool { return p.mtu == c.now })
			exact = max(exact, w.now-begin)
			w.run(20 * time.Second)
			if w.only().mtu != c.now || w.dies > 0 {
				t.Fatalf("it does not stay: %d", w.only().mtu)
			}
		}
	}
	t.Logf("packets fit after at most %s, exact after at most %s", usable, exact)
}

func TestMTUIsFoundInALossyPath(t *testing.T) {
	var usable time.Duration
	for seed := range uint64(50) {
		w := newWorld(t, seed, 1)
		w.loss = 0.2
		w.run(30 * time.Second)
		w.fits = 1380
		usable = max(usable, w.until1(12*time.Second, "packets fit again", func(p *path) bool { return p.mtu <= 1380 }))
		w.run(70 * time.Second)
		if got := w.only().mtu; got > 1380 || got < 1350 {
			t.Errorf("MTU is %d", got)
		}
	}
	t.Logf("packets fit after at most %s", usable)
}

func TestLossAloneSeldomShrinksTheMTU(t *testing.T) {
	for _, c := range []struct {
		oneWay float64
		most   int
	}{{0.1056, 1}, {0.2, 4}} {
		w := newWorld(t, 11, 20)
		w.run(5 * time.Second)
		w.loss = c.oneWay
		shrunk := 0
		was := map[*path]int{}
		for _, p := range w.fleet.order {
			was[p] = p.mtu
		}
		for end := w.now + time.Hour; w.now < end; {
			w.run(100 * time.Millisecond)
			for _, p := range w.fleet.order {
				if p.mtu < was[p] {
					shrunk++
				}
				was[p] = p.mtu
			}
		}
		t.Logf("%.0f %% of packets lost each way: shrunk %d times in 20 hours", c.oneWay*100, shrunk)
		if shrunk > c.most {
			t.Errorf("shrunk %d times", shrunk)
		}
	}
}

func TestMTUThatGrowsIsFoundWithinHalfAMinute(t *testing.T) {
	w := newWorld(t, 1, 1)
	w.fits = 1300
	w.until1(10*time.Second, "1300", func(p *path) bool { return p.mtu == 1300 })
	w.fits = 1422 // between two rungs
	w.until1(40*time.Second, "1422", func(p *path) bool { return p.mtu == 1422 })
	w.fits = 1500
	w.until1(40*time.Second, "1450", func(p *path) bool { return p.mtu == 1450 })
}

func TestAnotherTargetIsTriedAtOnce(t *testing.T) {
	w := newWorld(t, 1, 1)
	w.fits = 9000
	w.run(5 * time.Second)
	w.fleet.set(w.now, targetsOf(1, 8950))
	w.until1(time.Second, "more", func(p *path) bool { return p.mtu == 8950 })
	w.fleet.set(w.now, targetsOf(1, 1400))
	if got := w.only().mtu; got != 1400 {
		t.Errorf("MTU is %d; no more than 1400 is worth anything", got)
	}
	w.run(5 * time.Second)
	if got := w.only().mtu; got != 1400 {
		t.Errorf("MTU is %d", got)
	}
}

func TestPathThatCarriesOnlySmallPacketsHasNoMTU(t *testing.T) {
	w := newWorld(t, 1, 1)
	w.fits = 1000
	w.run(20 * time.Second)
	if !w.only().works || w.only().mtu != 0 {
		t.Errorf("works=%v MTU=%d", w.only().works, w.only().mtu)
	}
	w.fits = 1500
	w.until1(10*time.Second, "1450", func(p *path) bool { return p.mtu == 1450 })
}

func TestSearchEndsAtTheSizeThatPassesWhateverItIs(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(nil, rapid.Uint64().Draw(t, "seed"), 1)
		target := rapid.IntRange(1152, 9000).Draw(t, "target")
		w.fits = rapid.IntRange(1152, 9100).Draw(t, "fits")
		w.fleet.set(0, targetsOf(1, target))
		w.run(15 * time.Second)
		if got, want := w.only().mtu, min(target, w.fits); got != want {
			t.Fatalf("MTU is %d; want %d", got, want)
		}
	})
}

func TestMoreIsAskedTheMoreIsLost(t *testing.T) {
	if n := repeats(0, doubtRisk); n < 3 || n > 6 {
		t.Errorf("%d repeats without loss", n)
	}
	if n := repeats(1, doubtRisk); n != 30 {
		t.Errorf("%d repeats where all is lost", n)
	}
}

func TestOldAnswersOfFullSizeDoNotHideThatThePathShrank(t *testing.T) {
	w := newWorld(t, 1, 1)
	w.run(20 * time.Second)
	p := w.only()
	old := p.asked
	w.fits = 1300
	w.until1(6*time.Second, "1300, although old answers come again", func(p *path) bool {
		for n := range old {
			w.fleet.answer(w.now, p.target.Path, p.first+n, 1450)
		}
		return p.mtu == 1300
	})
}

func TestPathThatWasMeasuredBeforeIsNotWiderUntilItIsMeasured(t *testing.T) {
	for _, c := range []struct{ known, fits int }{{1400, 1400}, {1400, 1422}, {1400, 1500}, {1400, 1333}, {1450, 1450}, {1500, 1500}} {
		w := newWorld(t, 7, 1)
		target := targetsOf(1, 1450)
		target[0].Known = c.known
		w.fits = c.fits
		w.fleet.set(0, nil)
		w.fleet.set(0, target)
		if got := w.only().mtu; got != min(c.known, 1450) {
			t.Fatalf("%v: MTU is %d before anything was measured", c, got)
		}
		measured := min(c.fits, 1450)
		if least := min(c.known, measured); c.fits >= c.known {
			for w.only().mtu != measured {
				if w.now > 5*time.Second {
					t.Fatalf("%v: MTU is %d after 5 s", c, w.only().mtu)
				}
				if got := w.only().mtu; got < least || got > measured {
					t.Fatalf("%v: MTU is %d in between", c, got)
				}
				w.run(10 * time.Millisecond)
			}
		} else {
			w.until1(5*time.Second, "the largest is found", func(p *path) bool { return p.mtu == measured })
		}
		// What is known is of the path before it was measured, and not news.
		target[0].Known = 1200
		w.fleet.set(w.now, target)
		if got := w.only().mtu; got != measured {
			t.Errorf("%v: MTU is %d after it was measured as %d", c, got, measured)
		}
	}
}
