package ipam

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Flags of TestEveryMutantIsCaught.
var (
	simMutants    = flag.Bool("sim.mutants", false, "show that the simulator catches what it must")
	simMutant     = flag.String("sim.mutant", "", "of one mutant only: a part of its name")
	mutantsMaxima = flag.Int("sim.most", 8000, "schedules of each kind until a mutant has survived")
)

// mutant is a mistake that the simulator or a directed test must catch.
type mutant struct {
	name  string
	modes string // of schedules in which it could show, the likeliest first
	test  string // the directed test that catches it, if schedules do not
	edits []edit
}

// edit replaces a text that occurs exactly once in a file.
type edit struct{ file, old, new string }

// TestEveryMutantIsCaught builds this package's tests with one mistake at a time,
// through an overlay, so that nothing of it is in the product, and runs them
// until something is violated.
func TestEveryMutantIsCaught(t *testing.T) {
	if !*simMutants {
		for _, m := range mutants {
			if _, err := m.overlay(t.TempDir()); err != nil {
				t.Errorf("%s: %v", m.name, err)
			}
		}
		return
	}
	fmt.Printf("%-58s %-12s %9s %6s %7s  %s\n", "mutant", "caught by", "schedules", "seed", "time", "by what")
	base := filepath.Join(t.TempDir(), "base.test")
	if out, err := exec.Command("go", "test", "-c", "-o", base, ".").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	for _, m := range mutants {
		if !strings.Contains(m.name, *simMutant) {
			continue
		}
		if err := m.hunt(t.TempDir(), base); err != nil {
			t.Errorf("%s: %v", m.name, err)
		}
	}
}

// overlay writes the changed files and returns the file that tells go of them.
func (m mutant) overlay(dir string) (string, error) {
	changed := map[string]string{}
	replace := map[string]string{}
	for _, e := range m.edits {
		path, err := filepath.Abs(e.file)
		if err != nil {
			return "", err
		}
		text, ok := changed[path]
		if !ok {
			b, err := os.ReadFile(path)
			if err != nil {
				return "", err
			}
			text = string(b)
		}
		if n := strings.Count(text, e.old); n != 1 {
			return "", fmt.Errorf("%q occurs %d times in %s", e.old, n, e.file)
		}
		changed[path] = strings.Replace(text, e.old, e.new, 1)
	}
	for path, text := range changed {
		to := filepath.Join(dir, strconv.Itoa(len(replace))+filepath.Base(path))
		if err := os.WriteFile(to, []byte(text), 0o600); err != nil {
			return "", err
		}
		replace[path] = to
	}
	b, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	list := filepath.Join(dir, "overlay.json")
	return list, os.WriteFile(list, b, 0o600)
}

var (
	simLine  = regexp.MustCompile(`(?m)^sim \S+ +(\d+) schedules .* 1 violations|^sim \S+ +(\d+) schedules .* [2-9] violations`)
	seedLine = regexp.MustCompile(`seed (\d+): (.*)`)
)

// hunt runs the mutant until it is caught, and prints how. What catches it must
// find nothing without it.
func (m mutant) hunt(dir, base string) error {
	began := time.Now()
	overlay, err := m.overlay(dir)
	if err != nil {
		return err
	}
	binary := filepath.Join(dir, "mutant.test")
	if out, err := exec.Command("go", "test", "-c", "-overlay", overlay, "-o", binary, ".").CombinedOutput(); err != nil {
		return fmt.Errorf("build: %w\n%s", err, out)
	}
	row := func(by, schedules, seed, what string) {
		fmt.Printf("%-58s %-12s %9s %6s %7s  %.110s\n", m.name, by, schedules, seed, time.Since(began).Round(100*time.Millisecond), what)
	}
	if m.test != "" {
		if out, err := exec.Command(base, "-test.run", "^"+m.test+"$").CombinedOutput(); err != nil || strings.Contains(string(out), "no tests to run") {
			return fmt.Errorf("%s fails without the mutant, or does not exist", m.test)
		}
		out, err := exec.Command(binary, "-test.run", "^"+m.test+"$", "-test.timeout", "60s").CombinedOutput()
		if err != nil && strings.Contains(string(out), "--- FAIL") {
			row("directed", "1", "", m.test)
			return nil
		} else if m.modes == "" {
			row("NOTHING", "1", "", m.test)
			return fmt.Errorf("survives %s", m.test)
		}
	}
	for count := 125; count <= *mutantsMaxima; count *= 8 {
		for mode := range strings.FieldsSeq(m.modes) {
			out, err := exec.Command(binary, "-test.run", "^TestSimulation$", "-sim.mode", mode, "-sim.count", strconv.Itoa(count)).CombinedOutput()
			if err == nil {
				continue
			}
			n, seed, what := "", "", "a panic"
			if found := simLine.FindSubmatch(out); found != nil {
				n = string(found[1]) + string(found[2])
			}
			if found := seedLine.FindSubmatch(out); found != nil {
				seed, what = string(found[1]), string(found[2])
			}
			if err := exec.Command(base, "-test.run", "^TestSimulation$", "-sim.mode", mode, "-sim.first", seed, "-sim.count", "1").Run(); seed != "" && err != nil {
				return fmt.Errorf("%s, seed %s fails without the mutant, too", mode, seed)
			}
			row(mode, n, seed, what)
			return nil
		}
	}
	row("NOTHING", strconv.Itoa(*mutantsMaxima), "", "")
	return fmt.Errorf("survives %d schedules of each of: %s", *mutantsMaxima, m.modes)
}
