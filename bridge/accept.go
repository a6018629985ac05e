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

// families are those that iptables has a program for each: what it is called,
// nftables' name of the family, and where the older one names its tables. Of the
// calling thread: it may be in another namespace than the process.
var families = []struct {
	program, nft, tables string
	protocol             iptables.Protocol
}{
	{"iptables", "ip", "/proc/thread-self/net/ip_tables_names", iptables.ProtocolIPv4},
	{"ip6tables", "ip6", "/proc/thread-self/net/ip6_tables_names", iptables.ProtocolIPv6},
}

// iptablesTimeout bounds the wait for the older iptables' lock, in seconds.
const iptablesTimeout = 5

// syncAccepts makes the rules of a mark be those wanted, wherever something
// drops, and takes them away everywhere else. It goes on past errors, and says
// where it took some away.
func syncAccepts(mark string, want map[string][]accept) (cleared []string, err error) {
	listing, err := nft("", "-j", "list", "ruleset")
	if err != nil {
		return nil, err
	}
	rs, err := parseRuleset([]byte(listing))
	if err != nil {
		return nil, err
	}
	left := map[string]bool{} // to iptables-nft, by family
	for _, f := range families {
		for _, newer := range []bool{true, false} {
			if newer && !rs.hasIptables(f.nft) || !newer && !hasOlderIptables(f.tables) {
				continue // asking one that is not in use would make its tables
			}
			ipt := findIptables(f.program, f.protocol, newer)
			if ipt == nil {
				continue
			}
			left[f.nft] = left[f.nft] || newer
			chains, e := syncIptables(ipt, mark, want[f.nft])
			for _, c := range chains {
				cleared = append(cleared, f.program+" rules in "+c)
			}
			err = errors.Join(err, e)
		}
	}
	script, places := rs.nativeChanges(mark, want, left)
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

// hasOlderIptables tells whether the iptables with tables of its own has some.
func hasOlderIptables(tables string) bool {
	b, err := os.ReadFile(tables)
	return err == nil && slices.Contains(strings.Fields(string(b)), filterTable)
}

// findIptables looks for a program that says of itself that it is the newer,
// which speaks to nftables, or is not: what is called just iptables may be either.
func findIptables(program string, protocol iptables.Protocol, newer bool) *iptables.IPTables {
	own := program + "-legacy"
	if newer {
		own = program + "-nft"
	}
	for _, name := range []string{own, program} {
		path, err := exec.LookPath(name)
		if err != nil {
			continue
		}
		version, err := exec.Command(path, "--version").Output()
		if err != nil || strings.Contains(string(version), "nf_tables") != newer {
			continue
		}
		ipt, err := iptables.New(iptables.IPFamily(protocol), iptables.Path(path), iptables.Timeout(iptablesTimeout))
		if err == nil {
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
