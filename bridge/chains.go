package bridge

import (
	"slices"
	"strings"
)

// acceptingChain is where weft's rules for what is forwarded belong: Docker's chain for others where
// FORWARD leads to it, or FORWARD where that does anything but accept; "" for
// nowhere. The chains are listed as `iptables -S` does.
func acceptingChain(listing map[string][]string, mark string) string {
	rules := listing[forwardChain]
	leads := func(line string) bool { return line == "-A "+forwardChain+" -j "+dockerChain }
	switch {
	case listing[dockerChain] != nil && slices.ContainsFunc(rules, leads):
		return dockerChain
	case couldDrop(forwardChain, rules, mark):
		return forwardChain
	}
	return ""
}

// couldDrop tells whether a chain does anything but accept, our own rules apart.
func couldDrop(chain string, rules []string, mark string) bool {
	return slices.ContainsFunc(rules, func(line string) bool {
		return line != "-P "+chain+" ACCEPT" && !isMarked(line, mark)
	})
}

func isMarked(line, mark string) bool { return strings.Contains(line, ` --comment "`+mark+`" `) }

// chainChanges compares a chain with the rules wanted in it. Rules are told
// apart by their device, since versions of iptables differ in how they print
// the rest.
func chainChanges(lines []string, mark string, want []accept) (missing, extra [][]string) {
	have := map[string]bool{}
	for _, a := range want {
		have[device(a.iptables(mark))] = false
	}
	for _, line := range lines {
		if !isMarked(line, mark) {
			continue
		}
		rule := ruleArgs(line, mark)
		seen, wanted := have[device(rule)]
		if !wanted || seen {
			extra = append(extra, rule)
			continue
		}
		have[device(rule)] = true
	}
	for _, a := range want {
		if rule := a.iptables(mark); !have[device(rule)] {
			missing = append(missing, rule)
		}
	}
	return missing, extra
}

// ruleArgs takes a listed rule apart: what follows "-A chain". The mark is all
// that can have a space in a rule of ours.
func ruleArgs(line, mark string) []string {
	const placeholder = "\x00"
	args := strings.Fields(strings.Replace(line, `"`+mark+`"`, placeholder, 1))
	if i := slices.Index(args, placeholder); i >= 0 {
		args[i] = mark
	}
	return args[min(2, len(args)):]
}

// device is the part of a rule that says where a packet comes from or goes to.
func device(rule []string) string {
	for _, direction := range []string{"-i", "-o"} {
		if i := slices.Index(rule, direction); i >= 0 && i+1 < len(rule) {
			return direction + " " + rule[i+1]
		}
	}
	return ""
}
