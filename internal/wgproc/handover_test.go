package wgproc

import (
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// wantNoLoss ends streams and counts.
func wantNoLoss(t *testing.T, what string, stop func() (int, []int)) {
	t.Helper()
	sent, lost := stop()
	t.Logf("%s: %d sent, %d lost", what, sent, len(lost))
	if sent < 100 || len(lost) > 0 {
		t.Errorf("%s: %d sent, lost: %v", what, sent, lost[:min(20, len(lost))])
	}
}

func TestHandOverLosesNoPacket(t *testing.T) {
	for name, times := range map[string]int{"IPv4": 5, "IPv6": 2} {
		t.Run(name, func(t *testing.T) {
			a, b := pair(t, name == "IPv6")
			before, _ := call(a.device, "get=1\n")
			there, back := stream(a, b), stream(b, a)
			for range times {
				if err := a.renew(); err != nil {
					t.Fatal(err)
				}
			}
			wantNoLoss(t, "to the other", there)
			wantNoLoss(t, "from it", back)
			after, err := call(a.device, "get=1\n")
			if err != nil || lasting(after) != lasting(before) {
				t.Errorf("configuration, %v:\n%s\nwas\n%s", err, lasting(after), lasting(before))
			}
		})
	}
}

// lasting is what of a configuration stays as it is.
func lasting(config string) string {
	var b strings.Builder
	for line := range strings.Lines(config) {
		if !strings.HasPrefix(line, "last_") && !strings.Contains(line, "x_bytes") {
			b.WriteString(line)
		}
	}
	return b.String()
}

func TestBothEndsHandOverAtOnceAndLoseNoPacket(t *testing.T) {
	a, b := pair(t, false)
	there, back := stream(a, b), stream(b, a)
	for range 3 {
		done := make(chan error)
		go func() { done <- a.renew() }()
		go func() { done <- b.renew() }()
		if err := errorOf(<-done, <-done); err != nil {
			t.Fatal(err)
		}
	}
	wantNoLoss(t, "to the other", there)
	wantNoLoss(t, "from it", back)
}

// speed is what a TCP stream gets for a while, in Mbit/s, and what it costs the
// processes of both ends, in milliseconds of the processor for each MB.
func speed(t *testing.T, from, to *side) (got, cost float64) {
	t.Helper()
	count, stop := transfer(from, to)
	time.Sleep(300 * time.Millisecond) // until it has its speed
	n, start, used := count(), time.Now(), from.processor()+to.processor()
	time.Sleep(time.Second)
	mb := float64(count()-n) / 1e6
	got, cost = mb*8/time.Since(start).Seconds(), (from.processor()+to.processor()-used)/mb
	if err := stop(); err != nil {
		t.Error(err)
	}
	return got, cost
}

// processor is the time that a process has used, in milliseconds.
func (s *side) processor() float64 {
	s.t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.pid()))
	if err != nil {
		s.t.Fatal(err)
	}
	f := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	user, _ := strconv.Atoi(f[11])
	system, _ := strconv.Atoi(f[12])
	const tick = 10 // milliseconds; USER_HZ is 100 everywhere
	return float64(user+system) * tick
}

func median(list []float64) float64 {
	slices.Sort(list)
	return list[len(list)/2]
}

func TestHandOverUnderLoadKeepsStreamAndSpeed(t *testing.T) {
	a, b := pair(t, false)
	count, stop := transfer(a, b)
	for range 2 {
		if err := errorOf(a.renew(), b.renew()); err != nil {
			t.Fatal(err)
		}
	}
	n := count()
	time.Sleep(time.Second)
	if count() == n {
		t.Error("nothing arrives any more")
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
	t.Logf("%d MB arrived; %s segments were sent again", n>>20, a.sh("nstat -asz TcpRetransSegs | awk '/^TcpRetransSegs/ {printf $2}'"))
	// In turn with processes that are as they were started, since the machine may
	// have other work at any time.
	c, d := pair(t, false)
	var got, costs [2][]float64
	for range 7 {
		for i, ends := range [][2]*side{{a, b}, {c, d}} {
			g, c := speed(t, ends[0], ends[1])
			got[i], costs[i] = append(got[i], g), append(costs[i], c)
		}
	}
	handed, fresh := median(got[0]), median(got[1])
	t.Logf("a TCP stream, median of 7: %.0f Mbit/s after two hand-overs of each end, %.0f between fresh processes: ratio %.2f", handed, fresh, handed/fresh)
	handed, fresh = median(costs[0]), median(costs[1])
	t.Logf("it costs %.2f ms of the processor for each MB, and %.2f: ratio %.2f", handed, fresh, handed/fresh)
	for _, s := range []*side{a, b} {
		if has := s.sh("ethtool -k %s | grep -E '^(tcp-segmentation-offload|tx-udp-segmentation):'", s.device); strings.Count(has, ": on") != 2 {
			t.Errorf("offloads of %s:\n%s", s.device, has)
		}
	}
}

func TestSameProgramIsNotReplaced(t *testing.T) {
	a, _ := pair(t, false)
	pid := a.pid()
	a.do(func() error {
		renewed, err := a.p.Renew(a.device)
		if renewed || a.pid() != pid {
			return fmt.Errorf("renewed %v: process %d, was %d", renewed, a.pid(), pid)
		}
		return err
	})
}

func TestHandOverWithHundredsOfPeersLosesNoPacket(t *testing.T) {
	a, b := pair(t, false)
	var config strings.Builder
	const n = 199
	for i := range n {
		fmt.Fprintf(&config, "public_key=%064x\nendpoint=192.0.2.9:%d\nallowed_ip=10.10.%d.%d/32\npersistent_keepalive_interval=25\n", i+9, i+1, i>>8, i&255)
	}
	start := time.Now()
	a.configure(config.String())
	t.Logf("%d peers more configured in %s", n, time.Since(start).Round(time.Millisecond))
	there, back := stream(a, b), stream(b, a)
	if err := a.renew(); err != nil {
		t.Fatal(err)
	}
	wantNoLoss(t, "to the other", there)
	wantNoLoss(t, "from it", back)
	if answer, err := call(a.device, "get=1\n"); err != nil || strings.Count(answer, "public_key=") != n+1 {
		t.Errorf("it has %d peers, %v", strings.Count(answer, "public_key="), err)
	}
}

func TestCallerThatAsksNothingDoesNotHoldUpAHandOver(t *testing.T) {
	a, b := pair(t, false)
	idle, err := net.Dial("unix", socketPath(a.device))
	if err != nil {
		t.Fatal(err)
	}
	defer idle.Close()
	half, err := net.Dial("unix", socketPath(a.device))
	if err != nil {
		t.Fatal(err)
	}
	defer half.Close()
	if _, err := half.Write([]byte("set=1\n")); err != nil { // and no end
		t.Fatal(err)
	}
	there := stream(a, b)
	if err := a.renew(); err != nil {
		t.Fatal(err)
	}
	wantNoLoss(t, "to the other", there)
	if _, err := call(a.device, "get=1\n"); err != nil {
		t.Errorf("the successor does not answer: %v", err)
	}
}
