package simnet

import (
	"cmp"
	"encoding/csv"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"testing"
)

// Result is what was measured of one event in a mesh of so many peers.
type Result struct {
	Peers   int
	What    string
	Seconds float64 // until every peer knew
	Until   float64 // bytes that each peer sent until then
	Rate    float64 // bytes that each peer sent in a second of the whole window
}

// Events in the order in which they are shown.
var events = []struct{ name, text string }{
	{"found", "all join, ten at a time"}, {"idle", "idle"}, {"prefix", "one prefix changes"}, {"join", "one joins"},
	{"leave", "one leaves"}, {"crash", "a tenth crashes"}, {"return", "the tenth returns"}, {"restart", "all restart at once"},
}

// memory is the name under which Rate is the bytes of heap of one peer.
const memory = "memory"

func (r Result) row() []string {
	f := func(v float64, digits int) string { return strconv.FormatFloat(v, 'f', digits, 64) }
	return []string{strconv.Itoa(r.Peers), r.What, f(r.Seconds, 2), f(r.Until, 0), f(r.Rate, 1)}
}

// readResults reads what writeResults wrote; a file that is not there has none.
func readResults(path string) (out []Result, err error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	defer f.Close()
	rows, err := csv.NewReader(f).ReadAll()
	if err != nil {
		return nil, err
	}
	for _, row := range rows[1:] {
		var r Result
		var errs [4]error
		r.What = row[1]
		r.Peers, errs[0] = strconv.Atoi(row[0])
		r.Seconds, errs[1] = strconv.ParseFloat(row[2], 64)
		r.Until, errs[2] = strconv.ParseFloat(row[3], 64)
		r.Rate, errs[3] = strconv.ParseFloat(row[4], 64)
		if err := errors.Join(errs[:]...); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		out = append(out, r)
	}
	return out, nil
}

// keepResults puts each result in the place of that of the same event among as many
// peers.
func keepResults(path string, results ...Result) error {
	all, err := readResults(path)
	if err != nil {
		return err
	}
	for _, r := range results {
		same := func(o Result) bool { return o.Peers == r.Peers && o.What == r.What }
		all = append(slices.DeleteFunc(all, same), r)
	}
	slices.SortStableFunc(all, func(a, b Result) int { return cmp.Compare(a.Peers, b.Peers) })
	rows := [][]string{{"peers", "event", "seconds", "bytes_until", "bytes_per_second"}}
	for _, r := range all {
		rows = append(rows, r.row())
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	return errors.Join(csv.NewWriter(f).WriteAll(rows), f.Close())
}

func TestResultsReplaceEarlierOnesOfTheSameEvent(t *testing.T) {
	path := t.TempDir() + "/r.csv"
	a, b, c := Result{100, "idle", 1.25, 1000, 3.5}, Result{10, "join", 2, 7, 1}, Result{100, "idle", 9, 8, 7}
	d := Result{100, "join", 1, 2, 3}
	for _, r := range []Result{a, d, b, c} {
		if err := keepResults(path, r); err != nil {
			t.Fatal(err)
		}
	}
	got, err := readResults(path)
	if want := []Result{b, d, c}; err != nil || !slices.Equal(got, want) {
		t.Errorf("kept %v, %v; want %v", got, err, want)
	}
}
