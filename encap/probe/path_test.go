package probe

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

func works(p *path) bool { return p.works }
func dead(p *path) bool  { return !p.works }

func TestHealthyPathWorksWithinASecondAndConfirmsItsMTUWithOneProbe(t *testing.T) {
	w := newWorld(t, 1, 1)
	took := w.until(time.Second, "works at its full MTU", func() bool { return w.only().works && w.only().mtu == 1450 })
	if w.only().asked != 1 {
		t.Errorf("%d probes of sizes; want 1", w.only().asked)
	}
	t.Logf("after %s", took)
}

func TestPathIsDeadWithinTwoAndAHalfSecondsWhateverTheMoment(t *testing.T) {
	var longest time.Duration
	for seed := range uint64(200) {
		w := newWorld(t, seed, 1)
		w.run(5*time.Second + time.Duration(seed)*7*time.Millisecond)
		w.cut = true
		longest = max(longest, w.until(2500*time.Millisecond, "is dead", func() bool { return dead(w.only()) }))
		w.cut = false
		w.until(time.Second, "is back", func() bool { return works(w.only()) })
	}
	t.Logf("at most %s", longest)
}

func TestPathThatLosesThirtyPercentOfPacketsForAnHourNeverDies(t *testing.T) {
	// Of a round trip as a whole, and of each direction: then half of the probes
	// bring no answer.
	for _, c := range []struct {
		name   string
		oneWay float64
		most   int // false deaths in 20 hours
	}{{"30 % of round trips", 0.1633, 0}, {"30 % of packets each way", 0.3, 8}} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, 7, 20)
			w.until(30*time.Second, "all work", func() bool { return w.all(works) })
			w.loss, w.dies, w.sent = c.oneWay, 0, 0
			w.run(time.Hour)
			t.Logf("%d deaths in 20 hours, %.2f probes a second and path", w.dies, float64(w.sent)/20/3600)
			if w.dies > c.most {
				t.Errorf("%d false deaths in 20 hours", w.dies)
			}
			loss := 0.0
			for _, p := range w.fleet.order {
				loss += p.loss(w.now) / 20
			}
			if want := 1 - (1-c.oneWay)*(1-c.oneWay); loss < want-.1 || loss > want+.1 {
				t.Errorf("loss said to be %.2f; it is %.2f", loss, want)
			}
		})
	}
}

func TestLossyPathStillDiesInTime(t *testing.T) {
	for seed := range uint64(50) {
		w := newWorld(t, seed, 1)
		w.until(30*time.Second, "works", func() bool { return works(w.only()) })
		w.loss = 0.1633
		w.run(time.Minute)
		w.cut = true
		w.until(2500*time.Millisecond, "is dead", func() bool { return dead(w.only()) })
	}
}

func TestPathIsInDoubtWellBeforeItIsDead(t *testing.T) {
	for seed := range uint64(20) {
		w := newWorld(t, seed, 1)
		w.until(30*time.Second, "works", func() bool { return works(w.only()) })
		for range 600 {
			if w.run(100 * time.Millisecond); w.only().doubt {
				t.Fatal("a path that loses nothing is in doubt")
			}
		}
		w.cut = true
		w.until(1700*time.Millisecond, "is in doubt", func() bool { return w.only().doubt })
		began := w.now
		w.until(2*time.Second, "is dead", func() bool { return dead(w.only()) })
		if ahead := w.now - began; ahead < 500*time.Millisecond || w.only().doubt {
			t.Errorf("in doubt %s before, and now %t", ahead, w.only().doubt)
		}
		w.cut = false
		w.until(3*time.Second, "works again", func() bool { return works(w.only()) && !w.only().doubt })
	}
}

func TestPathThatNeverAnswersIsTriedButDoesNotWork(t *testing.T) {
	w := newWorld(t, 1, 1)
	w.cut = true
	w.run(10 * time.Second)
	q := w.fleet.qualities(w.now, time.Time{})[w.only().target.Path]
	if q.Works || q.Sent < 15 || q.Sent > 40 || q.RTT != 0 || q.MTU != 0 || q.Loss != 1 {
		t.Errorf("%+v", q)
	}
}

func TestProcessThatStoodStillDoesNotTakeItsPathsForDead(t *testing.T) {
	w := newWorld(t, 1, 20)
	w.run(5 * time.Second)
	for range 20 {
		w.now += 10 * time.Second // nothing is sent and nothing is read
		w.run(3 * time.Second)
	}
	if w.dies > 0 {
		t.Errorf("%d deaths", w.dies)
	}
}

func TestSlowAndUnevenPathsWork(t *testing.T) {
	for _, rtt := range []time.Duration{time.Millisecond, 80 * time.Millisecond, 600 * time.Millisecond, 1500 * time.Millisecond} {
		w := newWorld(t, 3, 1)
		w.latency = func(int) time.Duration { return rtt + time.Duration(w.rng.Int64N(int64(rtt/2))) }
		w.until(5*time.Second, "works", func() bool { return works(w.only()) })
		w.run(time.Hour)
		if w.dies > 0 {
			t.Errorf("%d deaths at %s", w.dies, rtt)
		}
		if got := w.only().rtt; got < rtt || got > rtt*3/2 {
			t.Errorf("round trip said to be %s; it is %s and up to half more", got, rtt)
		}
		if w.only().mtu != 1450 {
			t.Errorf("MTU is %d at %s", w.only().mtu, rtt)
		}
	}
}

func TestManyPathsAreProbedLessOftenEach(t *testing.T) {
	for n, want := range map[int]float64{1: 2, 24: 48, 50: 50, 250: 250, 1000: 500} {
		w := newWorld(t, 1, n)
		w.run(10 * time.Second)
		if !w.all(works) {
			t.Errorf("not all of %d work", n)
		}
		w.sent, w.bytes = 0, 0
		w.run(time.Minute)
		rate := float64(w.sent) / 60
		t.Logf("%d paths: %.0f probes and %.0f kB a second", n, rate, float64(w.bytes)/60000)
		if rate > want+min(float64(n), 12) || rate < 0.9*want { // with those of sizes
			t.Errorf("%d paths: %.0f probes a second", n, rate)
		}
		if kB := float64(w.bytes) / 60000; kB > 100 {
			t.Errorf("%d paths: %.0f kB a second", n, kB)
		}
	}
}

func TestManyPathsThatDieAtOnceAreDeadInTime(t *testing.T) {
	for n, most := range map[int]time.Duration{24: 2500, 50: 3000, 250: 3000, 500: 3000, 1000: 4500} {
		w := newWorld(t, 1, n)
		w.until(30*time.Second, "all work", func() bool { return w.all(works) })
		w.run(5 * time.Second)
		w.cut = true
		t.Logf("%d paths: dead after %s", n, w.until(most*time.Millisecond, "all are dead", func() bool { return w.all(dead) }))
	}
}

func TestNoPathThatWorksIsLeftUnaskedForLongerThanItIsSaid(t *testing.T) {
	for _, n := range []int{1, 30, 250, 1000} {
		w := newWorld(t, uint64(n), n)
		w.until(30*time.Second, "all work", func() bool { return w.all(works) })
		w.run(5 * time.Second)
		check := func(d time.Duration) {
			t.Helper()
			for end := w.now + d; w.now < end; w.run(50 * time.Millisecond) {
				for _, p := range w.fleet.order {
					if pause := w.now - p.last; pause > w.fleet.interval {
						t.Fatalf("%d paths, woken %s late: one was not asked for %s, and %s are said", n, w.late, pause, w.fleet.interval)
					}
				}
			}
		}
		check(20 * time.Second)
		w.late = 100 * time.Millisecond
		w.run(10 * time.Second) // it takes a few to notice
		check(20 * time.Second)
		w.late = 0
		check(20 * time.Second)
	}
}

func TestHostThatHasTooMuchToDoHardlyAsksMoreForAnswersThatComeLate(t *testing.T) {
	w := newWorld(t, 1, 49)
	w.until(30*time.Second, "all work", func() bool { return w.all(works) })
	rate := func(d time.Duration) float64 {
		w.sent = 0
		w.run(d)
		return float64(w.sent) / d.Seconds()
	}
	calm := rate(time.Minute)
	// It wakes late, and so do all others on the same machine, so that answers come late,
	// or are lost in full buffers.
	w.late, w.loss = 300*time.Millisecond, 0.4
	w.latency = func(int) time.Duration { return time.Duration(w.rng.Int64N(int64(1500 * time.Millisecond))) }
	rate(10 * time.Second)
	busy := rate(time.Minute)
	w.late, w.loss, w.latency = 0, 0, func(int) time.Duration { return 5 * time.Millisecond }
	rate(10 * time.Second)
	again := rate(time.Minute)
	t.Logf("%.0f probes a second while there is time, %.0f while there is none, %.0f after that", calm, busy, again)
	if busy > 1.6*calm || again > calm+2 || again < calm-2 {
		t.Error("the probes keep the host busy")
	}
}

func TestHostThatWasSuspendedProbesOnAsBefore(t *testing.T) {
	w := newWorld(t, 1, 20)
	w.run(5 * time.Second)
	w.now += time.Hour
	w.fleet.woke(time.Hour)
	w.sent = 0
	if w.run(10 * time.Second); w.sent < 350 || !w.all(works) {
		t.Errorf("%d probes in ten seconds", w.sent)
	}
}

func TestAnswersCountOnceAndOnlyWhenTheyAreWaitedFor(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(nil, rapid.Uint64().Draw(t, "seed"), 1)
		p := w.only()
		p.first = rapid.Uint64().Draw(t, "first")
		w.run(time.Duration(rapid.IntRange(0, 8000).Draw(t, "age")) * time.Millisecond)
		w.cut = true
		w.run(time.Duration(rapid.IntRange(300, 5000).Draw(t, "silence")) * time.Millisecond)
		before := *p
		// All answers that were given so far come again, and those to nobody.
		for n := uint64(0); n < p.sent; n++ {
			if p.sent-n <= remembered && p.answered&(1<<(n%remembered)) == 0 {
				continue
			}
			w.fleet.answer(w.now, p.target.Path, p.first+n, smallSize)
		}
		for _, seq := range []uint64{p.first + p.sent, p.first - 1, rapid.Uint64().Draw(t, "seq")} {
			if n := seq - p.first; n >= p.sent {
				w.fleet.answer(w.now, p.target.Path, seq, smallSize)
			}
		}
		if p.answered != before.answered || p.heard != before.heard || p.works != before.works || p.unheard != before.unheard {
			t.Fatalf("an old or foreign answer counted: %+v, was %+v", p, before)
		}
	})
}

func TestNoAnswerWhateverItsNumberAndSizeBreaksAPath(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(nil, rapid.Uint64().Draw(t, "seed"), 1)
		p := w.only()
		for range rapid.IntRange(1, 200).Draw(t, "steps") {
			switch rapid.IntRange(0, 4).Draw(t, "what") {
			case 0:
				w.run(time.Duration(rapid.IntRange(1, 3000).Draw(t, "ms")) * time.Millisecond)
			case 1:
				w.cut = !w.cut
			case 2:
				w.fits = rapid.IntRange(200, 9000).Draw(t, "fits")
			case 3:
				w.fleet.set(w.now, targetsOf(1, rapid.IntRange(leastMTU, 9000).Draw(t, "mtu")))
			case 4:
				seq := p.first + uint64(rapid.IntRange(-5, 300).Draw(t, "number"))
				w.fleet.answer(w.now, p.target.Path, seq, rapid.IntRange(leastSize, 65535).Draw(t, "size"))
			}
			if p.mtu > p.target.MTU || p.lo > p.target.MTU || p.lo != 0 && p.lo >= p.hi {
				t.Fatalf("mtu %d, lo %d, hi %d, target %d", p.mtu, p.lo, p.hi, p.target.MTU)
			}
			if p.works && p.unheard > 60 {
				t.Fatalf("works, and %d probes were lost", p.unheard)
			}
		}
		// Whatever was: it heals.
		w.cut, w.fits = false, 9000
		w.run(100 * time.Second)
		if !p.works || p.mtu != p.target.MTU {
			t.Fatalf("after healing works=%v mtu=%d of %d", p.works, p.mtu, p.target.MTU)
		}
	})
}
