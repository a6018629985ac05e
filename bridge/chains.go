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

// kubeProxy begins the names of the chains by which kube-proxy refuses what is
// not for a service's clients, or leads to a service without an end.
const kubeProxy = "KUBE-"

// firstPlace is where a rule that accepts goes into a chain that was listed: to
// the front, but behind what kube-proxy refuses.
func firstPlace(lines []string) int {
	place, n := 1, 0
	for _, line := range lines {
		if !strings.HasPrefix(line, "-A ") {
			continue
		}
		n++
		if strings.Contains(line, " -j "+kubeProxy) {
			place = n + 1
		}
	}
	return place
}

func isMarked(line, mark string) bool { return strings.Contains(line, ` --comment "`+mark+`" `) }

// chainChanges compares a chain with the rules wanted in it. Rules are told
// apart by what they match, since versions of iptables differ in how they print
// the rest.
func chainChanges(lines []string, mark string, want []accept) (missing, extra [][]string) {
	have := map[string]bool{}
	for _, a := range want {
		have[matched(a.iptables(mark))] = false
	}
	for _, line := range lines {
		if !isMarked(line, mark) {
			continue
		}
		rule := ruleArgs(line, mark)
		seen, wanted := have[matched(rule)]
		if !wanted || seen {
			extra = append(extra, rule)
			continue
		}
		have[matched(rule)] = true
	}
	for _, a := range want {
		if rule := a.iptables(mark); !have[matched(rule)] {
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

// matched is the part of a rule that says what it is about: where a packet comes
// from or goes to, and whether it was sent to a published port.
func matched(rule []string) string {
	out := ""
	for _, word := range []string{"-i", "-o", "--ctstate", "--dport"} {
		if i := slices.Index(rule, word); i >= 0 && i+1 < len(rule) && (word != "--ctstate" || rule[i+1] == "DNAT") {
			out += word + " " + rule[i+1] + " "
		}
	}
	return out
}
