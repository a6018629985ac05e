package bridge

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestAcceptingChainIsWhereSomethingDrops(t *testing.T) {
	const ours = `-A FORWARD -i weft -m comment --comment "weft weft" -j ACCEPT`
	user := []string{"-N DOCKER-USER"}
	for _, tc := range []struct {
		want            string
		forward, docker []string
	}{
		{"", []string{"-P FORWARD ACCEPT"}, nil},
		{"", []string{"-P FORWARD ACCEPT", ours}, nil},
		{"FORWARD", []string{"-P FORWARD DROP"}, nil},
		{"FORWARD", []string{"-P FORWARD ACCEPT", ours, "-A FORWARD -s 192.0.2.1/32 -j DROP"}, nil},
		{"FORWARD", []string{"-P FORWARD ACCEPT", strings.ReplaceAll(ours, "weft weft", "weft weft2")}, nil},
		{"DOCKER-USER", []string{"-P FORWARD DROP", "-A FORWARD -j DOCKER-USER"}, user},
		{"FORWARD", []string{"-P FORWARD DROP"}, user},
	} {
		if got := acceptingChain(map[string][]string{forwardChain: tc.forward, dockerChain: tc.docker}, mark("weft")); got != tc.want {
			t.Errorf("%q: rules go to %q, want %q", tc.forward, got, tc.want)
		}
	}
}

func TestRulesThatAcceptComeBehindThoseOfKubeProxy(t *testing.T) {
	for want, lines := range map[int][]string{
		1: {"-P FORWARD DROP", "-A FORWARD -j ufw-before-forward"},
		3: {"-P FORWARD DROP", `-A FORWARD -m conntrack --ctstate NEW -m comment --comment "kubernetes load balancer firewall" -j KUBE-PROXY-FIREWALL`, "-A FORWARD -j KUBE-FORWARD", "-A FORWARD -j DROP"},
	} {
		if got := firstPlace(lines); got != want {
			t.Errorf("%q: place %d, want %d", lines, got, want)
		}
	}
}

// printed is how iptables -S shows a rule.
func printed(a accept, mark string) string {
	return "-A FORWARD " + strings.Replace(strings.Join(a.iptables(mark), " "), mark, `"`+mark+`"`, 1)
}

func TestChainChangesLeadToExactlyTheRulesWanted(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := mark("weft")
		some := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) accept {
			return accept{device: fmt.Sprint("d", rapid.IntRange(0, 3).Draw(t, "device")), to: rapid.SampledFrom([]string{"", answers, published}).Draw(t, "to")}
		}), 0, 6)
		want := some.Draw(t, "want")
		slices.SortFunc(want, func(a, b accept) int { return strings.Compare(printed(a, m), printed(b, m)) })
		want = slices.Compact(want)
		foreign := []string{"-P FORWARD DROP", `-A FORWARD -i weft -m comment --comment "weft weft2" -j ACCEPT`, "-A FORWARD -i d0 -j ACCEPT"}
		lines := slices.Clone(foreign)
		for _, a := range some.Draw(t, "have") {
			lines = append(lines, printed(a, m))
		}

		missing, extra := chainChanges(lines, m, want)
		for _, rule := range extra {
			line := "-A FORWARD " + strings.Replace(strings.Join(rule, " "), m, `"`+m+`"`, 1)
			i := slices.Index(lines, line)
			if i < 0 {
				t.Fatalf("removes %q, which is not there", line)
			}
			lines = slices.Delete(lines, i, i+1)
		}
		for _, rule := range missing {
			lines = append(lines, "-A FORWARD "+strings.Replace(strings.Join(rule, " "), m, `"`+m+`"`, 1))
		}
		expect := slices.Clone(foreign)
		for _, a := range want {
			expect = append(expect, printed(a, m))
		}
		slices.Sort(lines)
		slices.Sort(expect)
		if !slices.Equal(lines, expect) {
			t.Fatalf("leads to\n%s\nwant\n%s", strings.Join(lines, "\n"), strings.Join(expect, "\n"))
		}
	})
}
