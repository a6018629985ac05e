package bridge

import (
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"strconv"
)

// nftChain is a base chain of nftables that drops what it does not know.
type nftChain struct {
	Family, Table, Name, Hook, Policy string
}

// nftRule is a rule of ours in somebody else's chain.
type nftRule struct {
	Family, Table, Chain, Comment string
	Handle                        int
}

func (c nftChain) args() []string { return []string{c.Family, c.Table, c.Name} }

// nativeRuleset lists the forwarding chains that drop by policy, and the rules
// that weft has in any of them. The table of iptables-nft is left to iptables,
// which would not understand a rule that it did not write.
func nativeRuleset(bridge string) (chains []nftChain, rules []nftRule, err error) {
	out, err := nft("-j", "list", "ruleset")
	if err != nil {
		return nil, nil, err
	}
	var doc struct {
		Nftables []struct {
			Chain *nftChain
			Rule  *nftRule
		}
	}
	if err := json.Unmarshal([]byte(out), &doc); err != nil {
		return nil, nil, fmt.Errorf("read nft's listing: %w", err)
	}
	_, err = exec.LookPath(iptablesNFT)
	others := func(family, table string) bool { return err == nil && family == "ip" && table == filterTable }
	for _, o := range doc.Nftables {
		if c := o.Chain; c != nil && c.Hook == "forward" && c.Policy == "drop" &&
			(c.Family == "inet" || c.Family == "ip") && !others(c.Family, c.Table) {
			chains = append(chains, *c)
		}
		if r := o.Rule; r != nil && r.Comment == "weft "+bridge && !others(r.Family, r.Table) {
			rules = append(rules, *r)
		}
	}
	return chains, rules, nil
}

func setNativeAccepts(bridge string, devices []string) error {
	chains, rules, err := nativeRuleset(bridge)
	if err != nil {
		return err
	}
	have := map[nftChain]bool{}
	for _, r := range rules {
		have[nftChain{Family: r.Family, Table: r.Table, Name: r.Chain}] = true
	}
	comment := strconv.Quote("weft " + bridge)
	for _, c := range chains {
		if have[nftChain{Family: c.Family, Table: c.Table, Name: c.Name}] {
			continue
		}
		insert := func(match ...string) error {
			args := append([]string{"insert", "rule"}, c.args()...)
			_, err := nft(append(append(args, match...), "accept", "comment", comment)...)
			return err
		}
		errs := []error{insert("oifname", bridge, "ct", "state", "related,established")}
		for _, d := range devices {
			errs = append(errs, insert("iifname", d))
		}
		if err := errors.Join(errs...); err != nil {
			return err
		}
	}
	return nil
}

func removeNativeAccepts(bridge string) (removed []string, err error) {
	_, rules, err := nativeRuleset(bridge)
	for _, r := range rules {
		if _, e := nft("delete", "rule", r.Family, r.Table, r.Chain, "handle", strconv.Itoa(r.Handle)); e != nil {
			err = errors.Join(err, e)
			continue
		}
		removed = append(removed, fmt.Sprintf("nft rules in %s %s %s", r.Family, r.Table, r.Chain))
	}
	return removed, err
}
