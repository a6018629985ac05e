package soak

import (
	"strings"
	"testing"
	"time"
)

func TestReportSaysWhatCameOfIt(t *testing.T) {
	r := NewReport(7, 3, " --encap vxlan")
	r.Lasted, r.Steps["heal"], r.Steps["split"] = time.Minute, 2, 1
	for i := range 100 {
		r.Took = append(r.Took, time.Duration(i)*10*time.Millisecond)
	}
	r.Last = []time.Duration{time.Second}
	for i := range shown + 1 {
		r.Violations = append(r.Violations, Violation{Step: 3, Change: Change{Kind: "split", Detail: "[0] [1]"}, A: "h1", B: "h2", Took: time.Duration(i%2*6) * time.Second, Ends: [2]string{"here", "there"}})
	}
	for _, want := range []string{
		"3 hosts, `weft launch --encap vxlan`, seed 7, 1m0s: 3 changes (heal 2, split 1).",
		"| until a pair of containers pings | 0.50 | 0.90 | 0.99 | 0.99 |", "| until all connected pairs do | 1.00 | 1.00 | 1.00 | 1.00 |",
		"151 pairs looked at, 101 violations of the 5 s.", "- step 3 (split [0] [1]): h1 and h2: never before the next change\n    here\n    there\n",
		"|\n| 3 | split [0] [1] | 101 | 51 | 6.0 s |\n\n- step 3", "- and 1 more\n",
	} {
		if got := r.Text(); !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
}
