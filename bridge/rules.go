package bridge

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// defaultName is the bridge's name where there is one weft on a host.
const defaultName = "weft"

// tableName is the nftables table of a bridge: two wefts on one host do not
// meet, and a bridge that is called filter does not replace somebody's filter.
func tableName(bridge string) string {
	if bridge == defaultName {
		return defaultName
	}
	return defaultName + "_" + bridge
}

// masquerade is what the postrouting chain holds. Traffic inside of the range
// keeps its addresses, whatever way it takes; so does multicast, which has no
// way back.
func masquerade(cfg Config) []string {
	if !cfg.Masquerade {
		return nil
	}
	var quoted []string
	for _, d := range cfg.devices() {
		quoted = append(quoted, strconv.Quote(d))
	}
	outside := fmt.Sprintf("oifname != { %s } masquerade", strings.Join(quoted, ", "))
	rules := []string{fmt.Sprintf("ip saddr %s ip daddr != { %s, 224.0.0.0/4, 255.255.255.255 } %s", cfg.Range, cfg.Range, outside)}
	if cfg.IPv6.IsValid() {
		rng := cfg.IPv6.Prefix(cfg.Range)
		rules = append(rules, fmt.Sprintf("ip6 saddr %s ip6 daddr != { %s, ff00::/8 } %s", rng, rng, outside))
	}
	return rules
}

// mark is the comment of a bridge's rules in others' chains.
func mark(bridge string) string { return "weft " + bridge }

// accept is a rule that lets weft's traffic be forwarded where others drop.
type accept struct {
	device string
	// answers: what belongs to a connection and goes to the device. Otherwise
	// it is whatever comes from the device.
	answers bool
}

// wantedAccepts are the accepting rules by the family of nftables' tables that
// they belong to.
func wantedAccepts(cfg Config) map[string][]accept {
	all := accepts(cfg)
	want := map[string][]accept{"ip": all, "inet": all}
	if cfg.IPv6.IsValid() {
		want["ip6"] = all
	}
	return want
}

// accepts let weft's devices forward, and answers come back from the outside.
func accepts(cfg Config) []accept {
	var out []accept
	for _, d := range cfg.devices() {
		out = append(out, accept{device: d})
	}
	return append(out, accept{device: cfg.Name, answers: true})
}

// iptables is the rule in the words of that program.
func (a accept) iptables(mark string) []string {
	match := []string{"-i", a.device}
	if a.answers {
		match = []string{"-o", a.device, "-m", "conntrack", "--ctstate", "RELATED,ESTABLISHED"}
	}
	return slices.Concat(match, []string{"-m", "comment", "--comment", mark, "-j", "ACCEPT"})
}

// nft is the rule in the words of that program, with a comment that tells a
// bridge's rules apart.
func (a accept) nft(mark string) (rule, comment string) {
	match, comment := "iifname "+strconv.Quote(a.device), mark+" from "+a.device
	if a.answers {
		match, comment = "oifname "+strconv.Quote(a.device)+" ct state related,established", mark+" answers"
	}
	return match + " accept comment " + strconv.Quote(comment), comment
}
