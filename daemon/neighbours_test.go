package daemon

import (
	"os"
	"strings"
	"testing"
	"time"
)

func TestFullTableOfNeighboursIsAWarningForAnHour(t *testing.T) {
	now := time.Unix(1000, 0)
	d := &Daemon{now: func() time.Time { return now }}
	d.health.tallies = map[string]tally{}
	for _, step := range []struct {
		what  string
		after time.Duration
		count uint64
		warns bool
	}{
		{"what was before the daemon", 0, 7, false},
		{"nothing new", time.Second, 7, false},
		{"full once more", time.Second, 8, true},
		{"half an hour later", 30 * time.Minute, 8, true},
		{"an hour later", 31 * time.Minute, 8, false},
	} {
		now = now.Add(step.after)
		d.health.tally("full table of IPv4", step.count, now)
		if got := checkNeighbours(d); strings.Contains(got, "net.ipv4.neigh.default.gc_thresh3") != step.warns || strings.Contains(got, "IPv6") {
			t.Errorf("%s: %q", step.what, got)
		}
	}
}

func TestOverflowsAreTheSumOfAllProcessors(t *testing.T) {
	const names = "entries  allocs   table_fulls\n"
	for stat, want := range map[string]uint64{names + "00000010 000036f2 0000000a\n00000010 00003280 00000001\n": 11, names: 0} {
		if n, err := overflows(stat); n != want || err != nil {
			t.Errorf("%q: %d, %v", stat, n, err)
		}
	}
	for _, stat := range []string{"", "entries allocs\n", names + "1 2\n", names + "1 2 x\n"} {
		if n, err := overflows(stat); err == nil {
			t.Errorf("%q: %d", stat, n)
		}
	}
	for _, table := range neighbourTables {
		stat, err := os.ReadFile(table.stat)
		if err != nil {
			t.Logf("in this namespace the kernel says nothing of it: %v", err)
			continue
		}
		if _, err := overflows(string(stat)); err != nil {
			t.Error(err)
		}
	}
}
