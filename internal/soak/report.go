package soak

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Within is how soon after a change everything that is connected has to work.
const Within = 5 * time.Second

// Violation is a pair of hosts that the network connects and that did not reach
// each other in time, or did not any more.
type Violation struct {
	Step   int
	Change Change
	A, B   string
	Took   time.Duration // until it worked; 0 if it never did before the next change
	Later  bool          // it had worked
	Ends   [2]string     // what both ends say of it
}

func (v Violation) String() string {
	how := "never before the next change"
	switch {
	case v.Later:
		how = "worked, and then did not"
	case v.Took > 0:
		how = fmt.Sprintf("after %.1f s", v.Took.Seconds())
	}
	return fmt.Sprintf("step %d (%s): %s and %s: %s\n    %s\n    %s", v.Step, v.Change, v.A, v.B, how, v.Ends[0], v.Ends[1])
}

// Report is what came of a run.
type Report struct {
	Seed       uint64
	Hosts      int
	Flags      string // of weft launch
	Lasted     time.Duration
	Steps      map[string]int  // by kind of change
	Took       []time.Duration // of each pair at each change, until it worked
	Last       []time.Duration // of each change, until all pairs worked
	Violations []Violation
	Broken     string // why the run itself ended early; "" if it did not
}

// NewReport is an empty one.
func NewReport(seed uint64, hosts int, flags string) *Report {
	return &Report{Seed: seed, Hosts: hosts, Flags: flags, Steps: map[string]int{}}
}

// shown bounds the violations that the text lists.
const shown = 100

// Text is the report in Markdown.
func (r *Report) Text() string {
	var out strings.Builder
	total := 0
	var kinds []string
	for _, k := range kindNames() {
		if n := r.Steps[k]; n > 0 {
			total += n
			kinds = append(kinds, fmt.Sprintf("%s %d", k, n))
		}
	}
	fmt.Fprintf(&out, "%d hosts, `weft launch%s`, seed %d, %s: %d changes (%s).\n\n", r.Hosts, r.Flags, r.Seed, r.Lasted.Round(time.Second), total, strings.Join(kinds, ", "))
	fmt.Fprintf(&out, "| seconds after a change | median | 90 %% | 99 %% | slowest |\n|---|---|---|---|---|\n")
	fmt.Fprintf(&out, "| until a pair of containers pings | %s |\n", quantiles(r.Took))
	fmt.Fprintf(&out, "| until all connected pairs do | %s |\n\n", quantiles(r.Last))
	fmt.Fprintf(&out, "%d pairs looked at, %d violations of the %.0f s.\n", len(r.Took)+r.never(), len(r.Violations), Within.Seconds())
	if r.Broken != "" {
		fmt.Fprintf(&out, "The run ended early: %s\n", r.Broken)
	}
	out.WriteString(r.changes())
	for i, v := range r.Violations {
		if i == shown {
			fmt.Fprintf(&out, "- and %d more\n", len(r.Violations)-shown)
			break
		}
		fmt.Fprintf(&out, "- %s\n", v)
	}
	return out.String()
}

// changes is a table of those that had violations, in their order.
func (r *Report) changes() string {
	if len(r.Violations) == 0 {
		return ""
	}
	var out strings.Builder
	out.WriteString("\n| step | change | pairs | of these never, or no more | slowest other |\n|---|---|---|---|---|\n")
	for rest := r.Violations; len(rest) > 0; {
		first := rest[0]
		n, never, slowest := 0, 0, time.Duration(0)
		for ; n < len(rest) && rest[n].Step == first.Step; n++ {
			if slowest = max(slowest, rest[n].Took); rest[n].Took == 0 {
				never++
			}
		}
		rest = rest[n:]
		fmt.Fprintf(&out, "| %d | %s | %d | %d | %.1f s |\n", first.Step, first.Change, n, never, slowest.Seconds())
	}
	return out.String() + "\n"
}

// never counts the pairs that did not come to work.
func (r *Report) never() (n int) {
	for _, v := range r.Violations {
		if v.Took == 0 && !v.Later {
			n++
		}
	}
	return n
}

func kindNames() (out []string) {
	for _, k := range kinds {
		out = append(out, k.name)
	}
	return out
}

func quantiles(d []time.Duration) string {
	if len(d) == 0 {
		return "– | – | – | –"
	}
	d = slices.Sorted(slices.Values(d))
	var out []string
	for _, q := range []int{50, 90, 99, 100} {
		out = append(out, fmt.Sprintf("%.2f", d[min(len(d)-1, len(d)*q/100)].Seconds()))
	}
	return strings.Join(out, " | ")
}
