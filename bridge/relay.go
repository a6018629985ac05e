package bridge

import (
	"fmt"
	"slices"

	"github.com/weft-net/weft/internal/nl"
)

// A host passes on what is between two others whose direct link does not work. It
// does so only if the packet came from the peer by which the host itself sends to
// the packet's source: so no packet passes the same host twice, whatever each
// believes of the links. WireGuard has that from its allowed IPs; for what comes
// in the clear it takes these rules, which what comes from the bridge does not meet.

// senders are the ways by which a peer's packets come in the clear: devices with
// hardware addresses.
func (g Guard) senders(p GuardedPeer) (out []string) {
	add := func(devices []string, macs ...nl.MAC) {
		for _, device := range devices {
			for _, mac := range macs {
				out = append(out, fmt.Sprintf("%q . %#x", device, mac[:]))
			}
		}
	}
	if p.VXLAN {
		add(g.VXLAN, p.VTEP)
	}
	if p.Direct {
		add(g.Direct, p.NICs...)
	}
	return out
}

// clear are the devices by which packets come in the clear.
func (g Guard) clear() []string { return slices.Concat(g.VXLAN, g.Direct) }

// cameFrom is the hardware address that a packet came from. By that name nft would first
// ask whether the device has such addresses, which where packets leave is asked of the
// one by which they do.
const cameFrom = "@ll,48,48"

// relaySets say by which hardware address what may come.
func relaySets(cfg Config) (out []set) {
	if len(cfg.Guard.clear()) == 0 {
		return nil
	}
	parts := spans(cfg.Guard.Peers)
	for _, f := range cfg.families() {
		relayed := set{name: "relayed" + f.set, spec: fmt.Sprintf("typeof iifname . %s . %s saddr; flags interval;", cameFrom, f.name)}
		for _, s := range parts {
			for _, from := range cfg.Guard.senders(s.peer) {
				relayed.add(from + " . " + s.of(f))
			}
		}
		out = append(out, relayed)
	}
	return out
}

const othersChain = "others"

// otherChains judge what leaves for other hosts and is not of the containers here. What
// is passed on and came by another way is dropped. The host tells nobody of a better
// way: it is one because the direct one does not work.
func otherChains(cfg Config) []chain {
	ways := cfg.ways()
	if len(ways) == 0 {
		return nil
	}
	others := chain{name: othersChain, rules: []string{
		fmt.Sprintf("oifname != { %s } return", quoted(ways)),
		fmt.Sprintf("ip daddr %s icmp type redirect drop", cfg.Range),
	}}
	if in := cfg.Guard.clear(); len(in) > 0 {
		others.rules = append(others.rules, fmt.Sprintf("iifname != { %s } return", quoted(in)))
		for _, f := range cfg.families() {
			others.rules = append(others.rules, fmt.Sprintf("iifname . %s . %s saddr @relayed%s return", cameFrom, f.name, f.set))
		}
		for _, f := range cfg.families() {
			others.rules = append(others.rules, fmt.Sprintf("%s saddr %s counter drop", f.name, f.prefix(cfg.Range)))
		}
	}
	return []chain{others}
}

// ways are the devices that lead to other hosts.
func (c Config) ways() []string {
	return slices.Concat(c.Tunnels, c.Guard.Direct)
}
