package bench

import (
	"fmt"
	"io"
)

// quantity is something that is measured.
type quantity struct {
	name, unit string
	decimals   int
}

var (
	oneStream   = quantity{"1 TCP stream", "Mbit/s", 0}
	fourStreams = quantity{"4 TCP streams", "Mbit/s", 0}
	packets     = quantity{"UDP, 64 bytes", "1000/s", 0}
	sending     = quantity{"to send one", "µs", 2}
	typical     = quantity{"round trip, p50", "µs", 1}
	slow        = quantity{"round trip, p99", "µs", 1}
)

var quantities = []quantity{oneStream, fourStreams, packets, sending, typical, slow}

// results are the rounds of each quantity, by the name of the way.
type results map[quantity]map[string][]float64

func (r results) add(q quantity, way string, value float64) {
	if r[q] == nil {
		r[q] = map[string][]float64{}
	}
	r[q][way] = append(r[q][way], value)
}

const (
	nameWidth = 39
	cellWidth = 27
)

// print writes the medians of each way, each with its ratio to the base and the
// least and the greatest ratio of a round.
func (r results) print(w io.Writer, ways []string, base string) {
	fmt.Fprintf(w, "%-*s", nameWidth, "")
	for _, q := range quantities {
		fmt.Fprintf(w, "%-*s", cellWidth, q.name+", "+q.unit)
	}
	fmt.Fprintln(w)
	for _, way := range ways {
		if r[oneStream][way] == nil {
			continue // it was not asked for
		}
		fmt.Fprintf(w, "%-*s", nameWidth, way)
		for _, q := range quantities {
			of := ratios(r[q][way], r[q][base])
			fmt.Fprintf(w, "%-*s", cellWidth, fmt.Sprintf("%.*f ×%.2f (%.2f–%.2f)", q.decimals, median(r[q][way]), of.median, of.least, of.most))
		}
		fmt.Fprintln(w)
	}
}
