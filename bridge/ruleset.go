package bridge

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// ruleset is what weft has to know of all that nftables holds.
type ruleset struct {
	chains []nftChain
	rules  []nftRule
}

// nftChain is a chain. Those with a hook see packets by themselves.
type nftChain struct {
	Family, Table, Name, Hook, Policy string
	Prio                              json.RawMessage
}

// nftRule is a rule. Handle is its number in its table, Expr what it does.
type nftRule struct {
	Family, Table, Chain, Comment string
	Handle                        int
	Expr                          json.RawMessage
}

func (c nftChain) place() string { return strings.Join([]string{c.Family, c.Table, c.Name}, " ") }
func (r nftRule) place() string  { return strings.Join([]string{r.Family, r.Table, r.Chain}, " ") }

// parseRuleset reads the answer to `nft -j list ruleset` (libnftables-json(5)).
func parseRuleset(listing []byte) (ruleset, error) {
	var doc struct {
		Nftables []struct {
			Chain *nftChain
			Rule  *nftRule
		}
	}
	if err := json.Unmarshal(listing, &doc); err != nil {
		return ruleset{}, fmt.Errorf("read nft's listing: %w", err)
	}
	var rs ruleset
	for _, o := range doc.Nftables {
		if o.Chain != nil {
			rs.chains = append(rs.chains, *o.Chain)
		}
		if o.Rule != nil {
			rs.rules = append(rs.rules, *o.Rule)
		}
	}
	return rs, nil
}

// drops tells whether a chain drops what none of its rules accepts: by its
// policy, or by a rule for all that comes by, as firewalld does; also if that
// is in a chain where all are sent to.
func (rs ruleset) drops(c nftChain) bool {
	return c.Policy == "drop" || rs.endsInDrop(c.place(), 0)
}

// deepest is how far chains are followed: nft allows 16 jumps.
const deepest = 16

func (rs ruleset) endsInDrop(place string, depth int) bool {
	return depth <= deepest && slices.ContainsFunc(rs.rules, func(r nftRule) bool {
		if r.place() != place {
			return false
		}
		to := r.unconditional()
		return to == "drop" || to != "" && rs.endsInDrop(strings.Join([]string{r.Family, r.Table, to}, " "), depth+1)
	})
}

// unconditional is what a rule does with every packet: "drop", the chain that it
// sends it to, or "" for nothing that matters or not with every one.
func (r nftRule) unconditional() string {
	var does []map[string]json.RawMessage
	if len(r.Expr) > 0 && json.Unmarshal(r.Expr, &does) != nil {
		return ""
	}
	out := ""
	for _, e := range does {
		for what, arg := range e {
			switch what {
			case "counter", "log":
			case "drop", "reject":
				out = "drop"
			case "jump", "goto":
				var to struct{ Target string }
				if json.Unmarshal(arg, &to) != nil {
					return ""
				}
				out = to.Target
			default:
				return ""
			}
		}
	}
	return out
}

// hasIptables tells whether iptables-nft has a chain of ours in a family (ip or
// ip6) and can work with it: next to a chain with a hook that it did not make, it
// does not list rules.
func (rs ruleset) hasIptables(family string) bool {
	found := false
	for _, c := range rs.chains {
		if c.Family != family || c.Table != filterTable || c.Hook == "" {
			continue
		}
		if c.Name != strings.ToUpper(c.Hook) || string(c.Prio) != "0" {
			return false
		}
		found = found || c.Name == forwardChain || c.Name == inputChain
	}
	return found
}

// nativeChanges compares weft's rules in the chains that drop what is forwarded
// or comes in and that they do not know with those wanted: the transaction that
// makes them so, "" if they are, and the places where it deletes. Wanted is by
// family; iptables tells of which the chains of iptables-nft are left to that
// program.
func (rs ruleset) nativeChanges(mark string, want map[string][]accept, iptables map[string]bool) (script string, cleared []string) {
	others := func(place string) bool {
		family, _, _ := strings.Cut(place, " ")
		filter := family + " " + filterTable + " "
		return iptables[family] && (place == filter+forwardChain || place == filter+dockerChain || place == filter+inputChain)
	}
	wanted := map[string][]accept{} // by place
	for _, c := range rs.chains {
		if (c.Hook == string(forward) || c.Hook == string(input)) && want[c.Family] != nil && !others(c.place()) && rs.drops(c) {
			wanted[c.place()] = at(hook(c.Hook), want[c.Family])
		}
	}
	belongs := func(r nftRule) bool {
		return slices.ContainsFunc(wanted[r.place()], func(a accept) bool {
			_, comment := a.nft(mark)
			return comment == r.Comment
		})
	}
	var lines []string
	have := map[string]bool{} // by place and comment
	for _, r := range rs.rules {
		// The bare mark is on the rules that iptables wrote.
		if !strings.HasPrefix(r.Comment, mark+" ") && (r.Comment != mark || others(r.place())) {
			continue
		}
		key := r.place() + r.Comment
		if belongs(r) && !have[key] {
			have[key] = true
			continue
		}
		lines = append(lines, fmt.Sprintf("delete rule %s handle %d", r.place(), r.Handle))
		cleared = append(cleared, r.place())
	}
	for _, c := range rs.chains {
		for _, a := range wanted[c.place()] {
			if rule, comment := a.nft(mark); !have[c.place()+comment] {
				lines = append(lines, fmt.Sprintf("insert rule %s %s", c.place(), rule))
			}
		}
	}
	return strings.Join(lines, "\n"), slices.Compact(cleared)
}
