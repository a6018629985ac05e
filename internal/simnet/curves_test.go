package simnet

import (
	"flag"
	"fmt"
	"math"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write docs/scale.svg and the table in docs/scale.md anew")

const (
	resultsFile = "../../docs/scale.csv"
	drawingFile = "../../docs/scale.svg"
	textFile    = "../../docs/scale.md"
)

var tableInText = regexp.MustCompile(`(?s)(<!-- table -->\n).*(<!-- end -->)`)

// TestCurvesInTheDocsAreThoseOfTheResults holds what the docs show to what was
// measured.
func TestCurvesInTheDocsAreThoseOfTheResults(t *testing.T) {
	results, err := readResults(resultsFile)
	if err != nil || len(results) == 0 {
		t.Fatalf("no results: %v", err)
	}
	text, err := os.ReadFile(textFile)
	if err != nil {
		t.Fatal(err)
	}
	if !tableInText.Match(text) {
		t.Fatalf("%s has no place for the table", textFile)
	}
	wantText := tableInText.ReplaceAllString(string(text), "${1}"+table(results)+"${2}")
	wantDrawing := drawing(results)
	if *update {
		if err := os.WriteFile(textFile, []byte(wantText), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(drawingFile, []byte(wantDrawing), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if got, err := os.ReadFile(drawingFile); err != nil || string(got) != wantDrawing || string(text) != wantText {
		t.Errorf("docs/scale.svg or the table in docs/scale.md is not of docs/scale.csv: go test ./internal/simnet -run Curves -update (%v)", err)
	}
}

func sizes(results []Result) (out []int) {
	for _, r := range results {
		out = append(out, r.Peers)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func find(results []Result, peers int, what string) (Result, bool) {
	i := slices.IndexFunc(results, func(r Result) bool { return r.Peers == peers && r.What == what })
	if i < 0 {
		return Result{}, false
	}
	return results[i], true
}

// table shows each event in a row, and each size in a column.
func table(results []Result) string {
	var out strings.Builder
	all := sizes(results)
	row := func(what string, cell func(peers int) string) {
		fmt.Fprintf(&out, "| %s |", what)
		for _, n := range all {
			fmt.Fprintf(&out, " %s |", cell(n))
		}
		out.WriteByte('\n')
	}
	row("peers", strconv.Itoa)
	out.WriteString("|" + strings.Repeat("---|", len(all)+1) + "\n")
	for _, e := range events {
		row(e.text, func(n int) string {
			r, ok := find(results, n, e.name)
			switch {
			case !ok:
				return "–"
			case r.Seconds == 0: // nothing to wait for
				return fmt.Sprintf("%.1f kbit/s", r.Rate*8/1e3)
			}
			return fmt.Sprintf("%.1f s, %s", r.Seconds, kilobytes(r.Until))
		})
	}
	row("heap of one", func(n int) string {
		if r, ok := find(results, n, memory); ok {
			return fmt.Sprintf("%.1f MB", r.Rate/1e6)
		}
		return "–"
	})
	return out.String()
}

func kilobytes(n float64) string {
	if n < 10e3 {
		return fmt.Sprintf("%.1f kB", n/1e3)
	}
	return fmt.Sprintf("%.0f kB", n/1e3)
}

// A panel of the drawing, in pixels; both axes are logarithmic.
const (
	panelWidth, panelHeight = 330, 300
	left, top               = 60, 40
	legendWidth             = 180
)

var colours = []string{"#777777", "#000000", "#1f77b4", "#2ca02c", "#17becf", "#d62728", "#ff7f0e", "#9467bd"}

// drawing shows convergence and bytes against the number of peers.
func drawing(results []Result) string {
	var out strings.Builder
	fmt.Fprintf(&out, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-family="sans-serif" font-size="12">`+"\n",
		2*(panelWidth+left)+legendWidth, panelHeight+top+50)
	out.WriteString(`<rect width="100%" height="100%" fill="white"/>` + "\n")
	panel(&out, results, 0, "seconds until every peer knows", 0.1, func(r Result) float64 { return r.Seconds })
	panel(&out, results, panelWidth+left, "kilobytes that each peer sends until then", 0.1, func(r Result) float64 { return r.Until / 1e3 })
	for i, e := range events {
		if e.name == "idle" {
			continue
		}
		y := top + 20 + 20*i
		fmt.Fprintf(&out, `<line x1="%d" y1="%d" x2="%d" y2="%d" stroke="%s" stroke-width="2"/><text x="%d" y="%d">%s</text>`+"\n",
			2*(panelWidth+left)+15, y, 2*(panelWidth+left)+35, y, colours[i], 2*(panelWidth+left)+40, y+4, e.text)
	}
	out.WriteString("</svg>\n")
	return out.String()
}

func panel(out *strings.Builder, results []Result, at int, title string, least float64, value func(Result) float64) {
	all := sizes(results)
	most := least * 10
	for _, r := range results {
		for r.What != memory && value(r) > most {
			most *= 10
		}
	}
	fewest, largest := math.Log(float64(all[0])), math.Log(float64(max(all[len(all)-1], all[0]+1)))
	x := func(n int) float64 {
		return float64(at+left) + (math.Log(float64(n))-fewest)/(largest-fewest)*(panelWidth-20)
	}
	y := func(v float64) float64 {
		return float64(top+panelHeight) - math.Log(max(v, least)/least)/math.Log(most/least)*panelHeight
	}
	fmt.Fprintf(out, `<text x="%d" y="%d" font-weight="bold">%s</text>`+"\n", at+left, top-15, title)
	for v := least; v <= most*1.01; v *= 10 {
		fmt.Fprintf(out, `<line x1="%d" y1="%.1f" x2="%d" y2="%.1f" stroke="#dddddd"/><text x="%d" y="%.1f" text-anchor="end">%s</text>`+"\n",
			at+left, y(v), at+left+panelWidth-20, y(v), at+left-5, y(v)+4, strconv.FormatFloat(v, 'g', 3, 64))
	}
	for _, n := range all {
		fmt.Fprintf(out, `<text x="%.1f" y="%d" text-anchor="middle">%d</text>`+"\n", x(n), top+panelHeight+18, n)
	}
	fmt.Fprintf(out, `<text x="%d" y="%d" text-anchor="middle">peers</text>`+"\n", at+left+(panelWidth-20)/2, top+panelHeight+36)
	for i, e := range events {
		var points []string
		for _, n := range all {
			if r, ok := find(results, n, e.name); ok && r.Seconds > 0 {
				points = append(points, fmt.Sprintf("%.1f,%.1f", x(n), y(value(r))))
			}
		}
		if len(points) > 0 {
			fmt.Fprintf(out, `<polyline fill="none" stroke="%s" stroke-width="2" points="%s"/>`+"\n", colours[i], strings.Join(points, " "))
		}
	}
}
