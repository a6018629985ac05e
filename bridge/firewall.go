package bridge

import (
	"errors"
	"fmt"
	"maps"
	"os/exec"
	"slices"
	"strings"

	"github.com/weft-net/weft/internal/nl"
)

// errRulesDiffer says that it takes more than elements of sets.
var errRulesDiffer = errors.New("the rules differ")

// firewall keeps weft's own tables and its accepting rules in place. It looks
// at the kernel's rules only when something changed in them.
type firewall struct {
	wrote   tables
	accepts map[string][]accept // by family
	listed  []string            // the kernel's own words for what was written; nil if unknown
	// seen is the state in which all of it was right; nil if it was not.
	seen *nl.Rulesets
	sets *nl.Sets // nil until it is needed
}

func (f *firewall) set(cfg Config) error {
	want, accepting := tablesOf(cfg), wantedAccepts(cfg)
	now, err := nl.ReadRulesets()
	if err != nil {
		return fmt.Errorf("set up the firewall: %w", err)
	}
	undisturbed := f.seen != nil && *f.seen == now && maps.EqualFunc(accepting, f.accepts, slices.Equal[[]accept])
	if undisturbed && f.update(want) == nil {
		return nil
	}
	f.seen, f.accepts = nil, nil
	var places []string
	next := now
	if undisturbed { // only our own rules differ
		f.listed, next.NFT = nil, now.NFT+1
	} else {
		places, err = syncAccepts(mark(cfg.Name), accepting)
	}
	if err := errors.Join(f.setTables(want), err); err != nil {
		return fmt.Errorf("set up the firewall: %w", err)
	}
	f.accepts = accepting
	if after, err := nl.ReadRulesets(); err == nil && len(places) == 0 && after == next {
		f.seen = &after
	}
	return nil
}

// update changes elements of sets where nothing else differs.
func (f *firewall) update(want tables) error {
	if want.frame(nil) != f.wrote.frame(nil) {
		return errRulesDiffer
	}
	if err := f.changed(want.changes(f.wrote)); err != nil {
		return err
	}
	f.wrote = want
	return nil
}

// changed makes changes that are all there is to do.
func (f *firewall) changed(changes []change) error {
	if len(changes) == 0 {
		return nil
	}
	if err := f.change(changes); err != nil {
		return err
	}
	f.listed = nil
	if f.seen != nil {
		// If others wrote at the same time, the next look finds another.
		f.seen = &nl.Rulesets{NFT: f.seen.NFT + 1, Legacy: f.seen.Legacy}
	}
	return nil
}

// setTables compares the tables with those wanted, and makes them anew where
// they differ.
func (f *firewall) setTables(want tables) error {
	if f.listed != nil && want.frame(nil) == f.wrote.frame(nil) && len(want.changes(f.wrote)) == 0 {
		if now, err := list(want); err == nil && slices.Equal(now, f.listed) {
			return nil
		}
	}
	f.listed = nil
	if _, err := nft(want.whole(counts(want)), "-f", "-"); err != nil {
		return err
	}
	f.wrote = want
	var err error
	f.listed, err = list(want)
	return err
}

// list is how the kernel shows the tables, without what changes by itself.
func list(ts tables) ([]string, error) {
	var out []string
	for _, t := range ts {
		text, err := nft("", "-s", "list", "table", t.family, t.name)
		if err != nil {
			return nil, err
		}
		out = append(out, text)
	}
	return out, nil
}

// removeTables removes weft's tables, and says which there were.
func removeTables(bridge string) (removed []string, err error) {
	for _, family := range []string{"inet", "bridge"} {
		if _, e := nft("", "list", "table", family, tableName(bridge)); e != nil {
			continue
		}
		if _, e := nft("", "delete", "table", family, tableName(bridge)); e != nil {
			err = errors.Join(err, e)
			continue
		}
		removed = append(removed, "nft table "+family+" "+tableName(bridge))
	}
	return removed, err
}

// nft runs the program in the caller's network namespace.
func nft(stdin string, args ...string) (string, error) {
	cmd := exec.Command("nft", args...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.Output()
	var failed *exec.ExitError
	if errors.As(err, &failed) {
		line, _, _ := strings.Cut(strings.TrimSpace(string(failed.Stderr)), "\n")
		err = errors.New(line)
	}
	if err != nil {
		return "", fmt.Errorf("nft %s: %w", strings.Join(args, " "), err)
	}
	return string(out), nil
}
