package encap

import (
	"testing"
	"time"
)

func TestWayIsNarrowForATimeAfterItWasFoundSo(t *testing.T) {
	start := time.Unix(1_000_000, 0)
	n := Narrow{}
	for _, step := range []struct {
		what            string
		found, overhead int
		after           time.Duration
		want            int
	}{
		{"nothing is known", 0, 60, 0, 0},
		{"it is wide enough", 1300, 60, time.Second, 0},
		{"a tunnel takes less than IPv6 needs", 1200, 60, 2 * time.Second, 0},
		{"another knows nothing", 0, 50, 3 * time.Second, 0},
		{"what fits is found", 1216, 60, 4 * time.Second, 1276},
		{"what is cut outside passes", 0, 60, 5 * time.Second, 1276},
		{"another tunnel finds out more exactly", 1230, 50, 6 * time.Second, 1276},
		{"it shrinks", 1200, 60, 7 * time.Second, 1260},
		{"it is measured anew", 0, 60, 7*time.Second + narrowTime, 0},
		{"and is still narrow", 1210, 60, 10*time.Second + narrowTime, 0},
		{"as it was", 1216, 60, 12*time.Second + narrowTime, 1276},
		{"after the time is over it is what was found last", 1220, 60, 13*time.Second + 3*narrowTime, 1280},
	} {
		if n = n.Next(step.found, step.overhead, 1500, start.Add(step.after)); n.MTU != step.want {
			t.Errorf("%s: %d, want %d", step.what, n.MTU, step.want)
		}
	}
	if n = n.Next(0, 60, 1300, start.Add(14*time.Second+3*narrowTime)); n.MTU != 0 {
		t.Errorf("this host's device has another MTU: %d", n.MTU)
	}
}

func TestWayThatAnEarlierProcessFoundNarrowStaysSo(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	n := AdoptNarrow(1276, 1500, now)
	if n = n.Next(0, 60, 1500, now); n.MTU != 1276 {
		t.Errorf("before anything is measured: %d", n.MTU)
	}
	if n = n.Next(1200, 60, 1500, now.Add(time.Second)); n.MTU != 1260 {
		t.Errorf("it is narrower by now: %d", n.MTU)
	}
	if n = n.Next(0, 60, 1500, now.Add(time.Second+narrowTime)); n.MTU != 0 {
		t.Errorf("it is measured anew: %d", n.MTU)
	}
	if n := AdoptNarrow(1276, 1276, now); n != (Narrow{}) {
		t.Errorf("this host's device says it by now: %v", n)
	}
}
