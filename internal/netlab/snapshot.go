package netlab

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Snapshot is everything on a host that a program could leave behind, by what
// it was asked with.
type Snapshot map[string][]string

// volatile parts of listings, which change by themselves.
var volatile = regexp.MustCompile(`valid_lft \S+|preferred_lft \S+|expires \S+|\w+_timer\s+\S+|(counter )?packets \d+ bytes \d+|\[\d+:\d+\]|# .* on .*`)

var questions = map[string]string{
	"addresses":  "ip -o address",
	"links":      "ip -o -d link",
	"routes":     "ip -4 route show table all",
	"routes6":    "ip -6 route show table all",
	"rules":      "ip rule",
	"neighbours": "ip neigh show nud permanent; ip neigh show proxy",
	"fdb":        "bridge fdb",
	"nft":        "nft list ruleset",
	"iptables":   "iptables-save; grep -q filter /proc/net/ip_tables_names && iptables-legacy-save; true",
	"sysctls":    "sysctl -a -r '^net[.](ipv4|ipv6|bridge)[.]' 2>/dev/null",
	"files":      "find /run /var/lib -not -path '/run/netns*'",
	"namespaces": "ip netns list",
}

// Snapshot looks at the whole host.
func (h *Host) Snapshot() Snapshot {
	h.lab.t.Helper()
	s := Snapshot{"processes": h.Processes()}
	for name, q := range questions {
		for line := range strings.SplitSeq(h.Run("bash", "-c", q), "\n") {
			if line = strings.TrimSpace(volatile.ReplaceAllString(line, "")); line != "" {
				s[name] = append(s[name], line)
			}
		}
	}
	for _, lines := range s {
		slices.Sort(lines)
	}
	return s
}

// Diff says what differs between two looks at a host; "" for nothing.
func Diff(before, after Snapshot) string {
	var out []string
	names := []string{"processes"}
	for n := range questions {
		names = append(names, n)
	}
	slices.Sort(names)
	for _, n := range names {
		for _, line := range before[n] {
			if !slices.Contains(after[n], line) {
				out = append(out, fmt.Sprintf("%s: gone: %s", n, line))
			}
		}
		for _, line := range after[n] {
			if !slices.Contains(before[n], line) {
				out = append(out, fmt.Sprintf("%s: new: %s", n, line))
			}
		}
	}
	return strings.Join(out, "\n")
}
