package wgproc

import (
	"fmt"
	"slices"
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
	for name, six := range map[string]bool{"IPv4": false, "IPv6": true} {
		t.Run(name, func(t *testing.T) {
			a, b := pair(t, six)
			before, _ := call(a.device, "get=1\n")
			there, back := stream(a, b), stream(b, a)
			for range 5 {
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

// speed is the median of what a few TCP streams get, one after the other, in
// Mbit/s.
func speed(t *testing.T, from, to *side) float64 {
	t.Helper()
	const rounds, long = 5, time.Second
	var all []float64
	for range rounds {
		count, stop := transfer(from, to)
		time.Sleep(long / 2) // until it has its speed
		n, start := count(), time.Now()
		time.Sleep(long)
		all = append(all, float64(count()-n)*8/1e6/time.Since(start).Seconds())
		if err := stop(); err != nil {
			t.Error(err)
		}
	}
	slices.Sort(all)
	return all[rounds/2]
}

func TestHandOverUnderLoadKeepsStreamAndSpeed(t *testing.T) {
	a, b := pair(t, false)
	was := speed(t, a, b)
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
	t.Logf("the stream had %s segments sent again", a.sh("nstat -asz TcpRetransSegs | awk '/Tcp/ {print $2}'"))
	is := speed(t, a, b)
	t.Logf("a TCP stream, median of 5: %.0f Mbit/s before, %.0f after four hand-overs under load: ratio %.2f", was, is, is/was)
	for _, s := range []*side{a, b} {
		if sizes := s.sh("ip -s -s link show %s >/dev/null; ethtool -k %s | grep -E '^(tcp-segmentation-offload|tx-udp-segmentation):'", s.device, s.device); strings.Count(sizes, ": on") != 2 {
			t.Errorf("offloads of %s:\n%s", s.device, sizes)
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
