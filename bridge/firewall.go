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

// firewall keeps weft's own tables and its accepting rules in place. It looks
// at the kernel's rules only when something changed in them.
type firewall struct {
	wrote   tables
	accepts map[string][]accept // by family
	shown   []string            // how the kernel shows what was written; nil if unknown
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
	if f.seen != nil && *f.seen == now && maps.EqualFunc(accepting, f.accepts, slices.Equal[[]accept]) && f.update(want) == nil {
		return nil
	}
	f.seen, f.accepts = &now, nil // and one more for each transaction of our own
	places, err := syncAccepts(mark(cfg.Name), accepting)
	if err := errors.Join(f.setTables(want), err); err != nil {
		f.seen = nil
		return fmt.Errorf("set up the firewall: %w", err)
	}
	f.accepts = accepting
	if after, err := nl.ReadRulesets(); err != nil || len(places) > 0 || after != *f.seen {
		f.seen = nil
	}
	return nil
}

// errUnknown says that only a look at what is there helps.
var errUnknown = errors.New("it is not known what is there")

// update leads from what was written to what is wanted, if nobody else wrote.
func (f *firewall) update(want tables) error {
	script, ok := want.changes(f.wrote)
	switch {
	case !ok:
		return errUnknown
	case script == "":
		return nil
	case want.hasRulesOf(f.wrote) && want.hasCountersOf(f.wrote):
		if err := f.change(want.elementChanges(f.wrote)); err != nil {
			return err
		}
	default:
		if _, err := nft(script, "-f", "-"); err != nil {
			return err
		}
	}
	f.wrote = want
	f.changed()
	return nil
}

// changed notes one transaction of our own.
func (f *firewall) changed() {
	f.shown = nil
	if f.seen != nil {
		// If others wrote at the same time, the next look finds another.
		f.seen = &nl.Rulesets{NFT: f.seen.NFT + 1, Legacy: f.seen.Legacy}
	}
}

// setTables compares the tables with what was written, or with those wanted where
// nothing was, as a daemon that begins finds those of the one before. Only where
// somebody else changed them, or that one wanted others, they are made anew, since that
// drops a packet that is just being judged by the old ones.
func (f *firewall) setTables(want tables) error {
	if now, err := want.list(); err == nil {
		known := f.wrote
		if known == nil {
			known = want
		}
		if f.shown == nil {
			f.shown, _ = known.elsewhere() // where that cannot be they are made anew
		}
		if slices.Equal(now, f.shown) {
			f.wrote = known
			if f.update(want) == nil {
				return nil
			}
		}
	}
	f.wrote, f.shown = nil, nil
	if _, err := nft(want.whole(counts(want)), "-f", "-"); err != nil {
		return err
	}
	f.wrote = want
	f.changed()
	return nil
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
