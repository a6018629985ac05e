package ipam

import (
	"flag"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

var (
	simSeconds = flag.Int("sim.seconds", 0, "run random schedules for so long")
	simSeed    = flag.Uint64("sim.seed", 0, "tell the story of one schedule")
	simMode    = flag.String("sim.mode", "", "of one kind of faults only")
	simFirst   = flag.Uint64("sim.first", 1, "the first seed of -sim.seconds")
	simCount   = flag.Uint64("sim.count", 0, "run so many schedules of each kind")
)

var modes = []faults{
	{name: "calm", hosts: 4, steps: 300, leaves: true},
	{name: "loss", hosts: 4, steps: 400, loss: true},
	{name: "plain", hosts: 5, steps: 500, loss: true, partitions: true, crashes: true, suspicion: true, seals: true, leaves: true},
	{name: "wire", hosts: 4, steps: 200, loss: true, partitions: true, crashes: true, seals: true, wire: true},
	{name: "disk", hosts: 5, steps: 400, loss: true, partitions: true, crashes: true, suspicion: true, seals: true, diskLoss: true},
	{name: "force", hosts: 5, steps: 400, loss: true, partitions: true, crashes: true, seals: true, forces: true},
	{name: "rollback", hosts: 5, steps: 400, loss: true, partitions: true, crashes: true, seals: true, rollback: true},
	{name: "clones", hosts: 4, steps: 300, loss: true, partitions: true, crashes: true, seals: true, clones: true},
	{name: "voters", hosts: 7, steps: 900, loss: true, partitions: true, crashes: true, suspicion: true, seals: true, leaves: true},
}

// run plays a schedule to its end and returns what was wrong; "" for nothing.
func run(f faults, seed uint64, story *strings.Builder) (w *world) {
	w = newWorld(f, seed)
	w.story = story
	for _, h := range w.hosts {
		if !h.left {
			h.start()
		}
	}
	w.nonce++
	e, err := w.hosts[0].core.Found(w.nonce)
	w.hosts[0].do(e, err)
	for range f.steps {
		if w.step(); w.fail != "" {
			return w
		}
		if w.check(); w.fail != "" {
			return w
		}
	}
	w.heal()
	return w
}

func chosen() []faults {
	if *simMode == "" {
		return modes
	}
	var out []faults
	for _, m := range modes {
		if m.name == *simMode {
			out = append(out, m)
		}
	}
	return out
}

func TestSimulation(t *testing.T) {
	if *simSeed != 0 {
		for _, m := range chosen() {
			tell(t, m, *simSeed)
		}
		return
	}
	count := *simCount
	if count == 0 {
		count = 300
	}
	for _, m := range chosen() {
		simulate(t, m, func(i uint64) bool { return i < count })
	}
}

// regressions are schedules in which something was wrong once.
var regressions = []struct {
	mode string
	seed uint64
}{
	{"rollback", 99}, {"rollback", 323}, {"rollback", 1411}, {"rollback", 3281}, {"clones", 95}, {"clones", 248}, {"clones", 1017},
	{"voters", 389}, {"voters", 1959}, {"disk", 1815}, {"force", 271}, {"force", 2316}, {"force", 3215},
}

func TestSchedulesThatFailedOnceDoNotAgain(t *testing.T) {
	for _, r := range regressions {
		for _, m := range modes {
			if m.name == r.mode && run(m, r.seed, nil).fail != "" {
				tell(t, m, r.seed)
			}
		}
	}
}

func TestSimulationForATime(t *testing.T) {
	if *simSeconds == 0 {
		t.Log("not asked for by -sim.seconds")
		return
	}
	list := chosen()
	for _, m := range list {
		end := time.Now().Add(time.Duration(*simSeconds) * time.Second / time.Duration(len(list)))
		simulate(t, m, func(uint64) bool { return time.Now().Before(end) })
	}
}

// simulate runs schedules on all processors and prints how many.
func simulate(t *testing.T, m faults, more func(uint64) bool) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	var schedules, events uint64
	var tainted, windows, detected int
	next := *simFirst - 1
	var failed []uint64
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for {
				mu.Lock()
				if len(failed) > 0 || !more(next+1-*simFirst) {
					mu.Unlock()
					return
				}
				next++
				seed := next
				mu.Unlock()
				w := run(m, seed, nil)
				mu.Lock()
				schedules++
				events += uint64(w.events)
				windows += w.windows
				detected += w.detected
				if w.taint {
					tainted++
				}
				if w.fail != "" {
					failed = append(failed, seed)
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	fmt.Printf("sim %-9s %8d schedules %10d events %d violations\n", m.name, schedules, events, len(failed))
	if tainted > 0 {
		fmt.Printf("sim %-9s %8d set back or copied, %d addresses twice for a while, %d times told\n", m.name, tainted, windows, detected)
	}
	if len(failed) > 0 {
		tell(t, m, failed[0])
	}
}
