package bridge

import (
	"slices"
	"strconv"
)

// mark is the comment of a bridge's rules in others' chains.
func mark(bridge string) string { return "weft " + bridge }

// accept is a rule that lets weft's traffic be forwarded where others drop.
type accept struct {
	device string
	// to is "" for whatever comes from the device, or names what may go to it.
	to string
}

// What may go to a device: what belongs to a connection, and what was sent to a
// published port.
const (
	answers   = "answers"
	published = "published"
)

// accepts let weft's devices forward, answers come back from the outside, and
// published ports be reached.
func accepts(cfg Config) []accept {
	var out []accept
	for _, d := range cfg.devices() {
		out = append(out, accept{device: d})
	}
	return append(out, accept{cfg.Name, answers}, accept{cfg.Name, published})
}

// iptables is the rule in the words of that program.
func (a accept) iptables(mark string) []string {
	match := []string{"-i", a.device}
	switch a.to {
	case answers:
		match = []string{"-o", a.device, "-m", "conntrack", "--ctstate", "RELATED,ESTABLISHED"}
	case published:
		match = []string{"-o", a.device, "-m", "conntrack", "--ctstate", "DNAT"}
	}
	return slices.Concat(match, []string{"-m", "comment", "--comment", mark, "-j", "ACCEPT"})
}

// nft is the rule in the words of that program, with a comment that tells a
// bridge's rules apart.
func (a accept) nft(mark string) (rule, comment string) {
	match, comment := "iifname "+strconv.Quote(a.device), mark+" from "+a.device
	switch a.to {
	case answers:
		match, comment = "oifname "+strconv.Quote(a.device)+" ct state related,established", mark+" answers"
	case published:
		match, comment = "oifname "+strconv.Quote(a.device)+" ct status dnat", mark+" published"
	}
	return match + " accept comment " + strconv.Quote(comment), comment
}
