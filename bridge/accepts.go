package bridge

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
)

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
	// to is "" for whatever comes from the device, or names what may go to it.
	to string
	// within is the range, of traffic on a device that is not weft's alone.
	within netip.Prefix
	// service is what of this host is spoken to: only what comes from the device to
	// it. The zero value for what is forwarded.
	service service
}

// service is a port of this host.
type service struct {
	name     string // for people
	protocol string // tcp or udp
	port     uint16
}

// What may go to a device: what belongs to a connection, and what was sent to a
// published port.
const (
	answers   = "answers"
	published = "published"
)

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

// accepts let weft's devices forward, answers come back from the outside,
// published ports be reached, and peers probe their paths to this host and gossip
// with it. Ranges
// are the network's.
func accepts(cfg Config, ranges ...netip.Prefix) []accept {
	var out []accept
	for _, d := range cfg.devices() {
		out = append(out, accept{device: d})
	}
	for _, r := range ranges {
		for _, device := range cfg.Guard.Direct {
			out = append(out, accept{device: device, within: r})
		}
	}
	out = append(out, accept{device: cfg.Name, to: answers}, accept{device: cfg.Name, to: published})
	for _, d := range cfg.Probed {
		out = append(out, accept{device: d, service: service{"probes", "udp", cfg.ProbePort}})
	}
	for _, d := range cfg.Tunnels {
		for _, protocol := range []string{"tcp", "udp"} {
			if cfg.GossipPort != 0 {
				out = append(out, accept{device: d, service: service{"gossip by " + protocol, protocol, cfg.GossipPort}})
			}
		}
	}
	return out
}

func (a accept) hook() hook {
	if a.service.port != 0 {
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
	case a.service.port != 0:
		match = append(match, "-p", a.service.protocol, "-m", a.service.protocol, "--dport", strconv.Itoa(int(a.service.port)))
	case a.to == answers:
		match = []string{"-o", a.device, "-m", "conntrack", "--ctstate", "RELATED,ESTABLISHED"}
	case a.to == published:
		match = []string{"-o", a.device, "-m", "conntrack", "--ctstate", "DNAT"}
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
	case a.service.port != 0:
		match, comment = fmt.Sprintf("%s %s dport %d", match, a.service.protocol, a.service.port), fmt.Sprintf("%s %s from %s", mark, a.service.name, a.device)
	case a.to == answers:
		match, comment = "oifname "+strconv.Quote(a.device)+" ct state related,established", mark+" answers"
	case a.to == published:
		match, comment = "oifname "+strconv.Quote(a.device)+" ct status dnat", mark+" published"
	}
	return match + " accept comment " + strconv.Quote(comment), comment
}
