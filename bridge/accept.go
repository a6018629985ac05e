package bridge

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"

	"github.com/coreos/go-iptables/iptables"
)

// Other programs drop what they do not know: dockerd sets the policy of
// FORWARD to DROP, and with bridge-nf-call-iptables even frames between two
// ports of a bridge pass there. An accept in weft's own table would not
// override that, so weft adds the rules that it needs where the dropping
// happens, and only there. It never makes a table or a chain.

const (
	filterTable  = "filter"
	inputChain   = "INPUT"
	forwardChain = "FORWARD"
	dockerChain  = "DOCKER-USER" // where Docker lets others speak first
)

// iptablesTimeout bounds the wait for the older iptables' lock, in seconds.
const iptablesTimeout = 5

// syncAccepts makes the rules of a mark be those wanted, wherever something
// drops, and takes them away everywhere else. It goes on past errors, and says
// where it took some away.
func syncAccepts(mark string, want []accept) (cleared []string, err error) {
	listing, err := nft("", "-j", "list", "ruleset")
	if err != nil {
		return nil, err
	}
	rs, err := parseRuleset([]byte(listing))
	if err != nil {
		return nil, err
	}
	newer := newerIptables(rs)
	for _, ipt := range []*iptables.IPTables{newer, olderIptables()} {
		if ipt == nil {
			continue
		}
		chains, e := syncIptables(ipt, mark, want)
		for _, c := range chains {
			cleared = append(cleared, "iptables rules in "+c)
		}
		err = errors.Join(err, e)
	}
	script, places := rs.nativeChanges(mark, want, newer != nil)
	if script == "" {
		return cleared, err
	}
	if _, e := nft(script, "-f", "-"); e != nil {
		return cleared, errors.Join(err, e)
	}
	for _, p := range places {
		cleared = append(cleared, "nft rules in "+p)
	}
	return cleared, err
}

// newerIptables is the iptables that speaks to nftables, and olderIptables the
// one with tables of its own; nil where it is not in use: asking one that is
// not would make its tables.
func newerIptables(rs ruleset) *iptables.IPTables {
	if !rs.hasIptables() {
		return nil
	}
	return findIptables(true, "iptables-nft", "iptables")
}

func olderIptables() *iptables.IPTables {
	// Of the calling thread: it may be in another namespace than the process.
	b, err := os.ReadFile("/proc/thread-self/net/ip_tables_names")
	if err != nil || !slices.Contains(strings.Fields(string(b)), filterTable) {
		return nil
	}
	return findIptables(false, "iptables-legacy", "iptables")
}

// findIptables looks for a program that says of itself that it is the newer,
// or is not: what is called just iptables may be either.
func findIptables(newer bool, names ...string) *iptables.IPTables {
	for _, name := range names {
		path, err := exec.LookPath(name)
		if err != nil {
			continue
		}
		version, err := exec.Command(path, "--version").Output()
		if err != nil || strings.Contains(string(version), "nf_tables") != newer {
			continue
		}
		if ipt, err := iptables.New(iptables.Path(path), iptables.Timeout(iptablesTimeout)); err == nil {
			return ipt
		}
	}
	return nil
}

// syncIptables is syncAccepts in one iptables. It fills the right chain before
// it clears the other, so that nothing is dropped in between.
func syncIptables(ipt *iptables.IPTables, mark string, want []accept) (cleared []string, err error) {
	chains, err := ipt.ListChains(filterTable)
	if err != nil {
		return nil, fmt.Errorf("list chains: %w", err)
	}
	listing := map[string][]string{}
	for _, chain := range []string{inputChain, forwardChain, dockerChain} {
		if !slices.Contains(chains, chain) {
			continue
		}
		if listing[chain], err = ipt.List(filterTable, chain); err != nil {
			return nil, fmt.Errorf("list %s: %w", chain, err)
		}
	}
	target := acceptingChain(listing, mark)
	order := []string{forwardChain, dockerChain, inputChain}
	if target == dockerChain {
		slices.Reverse(order)
	}
	for _, chain := range order {
		var here []accept
		switch {
		case chain == target:
			here = at(forward, want)
		case chain == inputChain && couldDrop(inputChain, listing[inputChain], mark):
			here = at(input, want)
		}
		missing, extra := chainChanges(listing[chain], mark, here)
		for _, rule := range missing {
			if err := ipt.Insert(filterTable, chain, firstPlace(listing[chain]), rule...); err != nil {
				return cleared, fmt.Errorf("insert rule into %s: %w", chain, err)
			}
		}
		for _, rule := range extra {
			if err := ipt.Delete(filterTable, chain, rule...); err != nil {
				return cleared, fmt.Errorf("remove rule from %s: %w", chain, err)
			}
		}
		if len(extra) > 0 {
			cleared = append(cleared, chain)
		}
	}
	return cleared, nil
}
