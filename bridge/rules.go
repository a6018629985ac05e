package bridge

import (
	"fmt"
	"net/netip"
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

// hook is where in a packet's way a rule stands, as nftables calls it.
type hook string

const (
	forward hook = "forward" // to another device
	input   hook = "input"   // to this host itself
)

// accept is a rule that lets weft's traffic pass where others drop.
type accept struct {
	device string
	// answers: what belongs to a connection and goes to the device. Otherwise
	// it is whatever comes from the device.
	answers bool
	// within is the range, of traffic on a device that is not weft's alone.
	within netip.Prefix
	// probes is a UDP port of this host: only what comes from the device to it.
	// 0 for what is forwarded.
	probes uint16
}

// wantedAccepts are the accepting rules by the family of nftables' tables that
// they belong to.
func wantedAccepts(cfg Config) map[string][]accept {
	ranges := cfg.IPv6.Both([]netip.Prefix{cfg.Range})
	want := map[string][]accept{"ip": accepts(cfg, cfg.Range), "inet": accepts(cfg, ranges...)}
	if cfg.IPv6.IsValid() {
		want["ip6"] = accepts(cfg, ranges[1:]...)
	}
	return want
}

// accepts let weft's devices forward, answers come back from the outside, and
// peers probe their paths to this host. Ranges are the network's.
func accepts(cfg Config, ranges ...netip.Prefix) []accept {
	var out []accept
	for _, d := range cfg.devices() {
		out = append(out, accept{device: d})
	}
	for _, r := range ranges {
		if cfg.Guard.Underlay != "" {
			out = append(out, accept{device: cfg.Guard.Underlay, within: r})
		}
	}
	out = append(out, accept{device: cfg.Name, answers: true})
	for _, d := range cfg.Probed {
		out = append(out, accept{device: d, probes: cfg.ProbePort})
	}
	return out
}

func (a accept) hook() hook {
	if a.probes != 0 {
		return input
	}
	return forward
}

// at are those that stand at a hook.
func at(h hook, rules []accept) []accept {
	return slices.DeleteFunc(slices.Clone(rules), func(a accept) bool { return a.hook() != h })
}

// iptables is the rule in the words of that program.
func (a accept) iptables(mark string) []string {
	match := []string{"-i", a.device}
	switch {
	case a.within.IsValid():
		match = []string{"-s", a.within.String(), "-d", a.within.String(), "-i", a.device}
	case a.probes != 0:
		match = append(match, "-p", "udp", "-m", "udp", "--dport", strconv.Itoa(int(a.probes)))
	case a.answers:
		match = []string{"-o", a.device, "-m", "conntrack", "--ctstate", "RELATED,ESTABLISHED"}
	}
	return slices.Concat(match, []string{"-m", "comment", "--comment", mark, "-j", "ACCEPT"})
}

// nft is the rule in the words of that program, with a comment that tells a
// bridge's rules apart.
func (a accept) nft(mark string) (rule, comment string) {
	match, comment := "iifname "+strconv.Quote(a.device), mark+" from "+a.device
	switch {
	case a.within.IsValid() && a.within.Addr().Is6():
		match, comment = fmt.Sprintf("%s ip6 saddr %s ip6 daddr %s", match, a.within, a.within), comment+" by IPv6"
	case a.within.IsValid():
		match = fmt.Sprintf("%s ip saddr %s ip daddr %s", match, a.within, a.within)
	case a.probes != 0:
		match, comment = fmt.Sprintf("%s udp dport %d", match, a.probes), mark+" probes from "+a.device
	case a.answers:
		match, comment = "oifname "+strconv.Quote(a.device)+" ct state related,established", mark+" answers"
	}
	return match + " accept comment " + strconv.Quote(comment), comment
}
