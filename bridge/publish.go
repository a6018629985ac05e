package bridge

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/weft-net/weft/internal/nl"
)

// Published is a port of the host that leads to a container on it.
type Published struct {
	Protocol string     // "tcp" or "udp"
	HostIP   netip.Addr // of the host; the zero value for all that it has
	HostPort uint16
	Address  netip.Addr // of the container
	Port     uint16
	IPv6     bool // the container has the IPv6 address that goes with it
}

// Publish makes the ports of the host that lead to one container what the config
// says, and leaves all else to Set: what is wrong with another container is no
// reason to refuse this one a port.
func (b *Bridge) Publish(cfg Config, p Port) error {
	dev, cfg, err := b.present(cfg)
	if err != nil {
		return err
	}
	if cfg.filtersBridged, err = b.filterBridged(cfg, dev); err != nil {
		return err
	}
	if err := errors.Join(b.setSysctls(cfg), b.firewall.follow(cfg)); err != nil {
		return err
	}
	host, err := b.conn.Link(p.HostInterface)
	if errors.Is(err, nl.ErrNotFound) {
		return nil // while it is stopped there is nothing more to do
	}
	if err != nil {
		return err
	}
	return b.setHairpin(host, cfg.hairpins(p))
}

// leads tells whether a family's packets are led to the container.
func (p Published) leads(f family) bool { return f.name == "ip" || p.IPv6 && !p.HostIP.IsValid() }

// publishedMaps lead from the ports of the host to the containers'.
func publishedMaps(cfg Config) []set {
	if len(cfg.Published) == 0 && !cfg.Services {
		return nil
	}
	one := set{name: "published_on", isMap: true, spec: "type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service;"}
	out := []set{}
	for _, f := range cfg.families() {
		all := set{name: "published" + f.set, isMap: true, spec: fmt.Sprintf("type inet_proto . inet_service : %s . inet_service;", f.addrs)}
		local := set{name: "local" + f.set, spec: fmt.Sprintf("type %s;", f.addrs)}
		itself := set{name: "itself" + f.set, spec: fmt.Sprintf("type %[1]s . %[1]s;", f.addrs)}
		for _, p := range cfg.Published {
			key := fmt.Sprintf("%s . %d", p.Protocol, p.HostPort)
			to := fmt.Sprintf("%s . %d", f.addr(p.Address), p.Port)
			switch {
			case !p.leads(f):
			case p.HostIP.IsValid():
				one.put(p.HostIP.String()+" . "+key, to)
			default:
				all.put(key, to)
			}
		}
		for _, p := range cfg.Ports {
			for _, a := range p.Addresses() {
				addr := f.addr(a.Addr())
				local.add(addr.String())
				itself.add(fmt.Sprintf("%[1]s . %[1]s", addr))
			}
		}
		out = append(out, all, local, itself)
	}
	return append(out, one)
}

// Where bridge-nf-call-iptables is on, a packet to a published port of the same
// bridge never leaves the bridge: its destination is changed while it is
// bridged. To the container itself it then goes out where it came in, which a
// port does only in hairpin mode; and what isolates sees it pass.

// hairpins tells whether a port's container may reach itself by the host: by a
// port that is published, or by a service of which it is an end.
func (c Config) hairpins(p Port) bool {
	return c.Services || slices.ContainsFunc(c.Published, func(o Published) bool {
		return slices.ContainsFunc(p.Addresses(), func(a netip.Prefix) bool { return a.Addr() == o.Address })
	})
}

// reflecting are the ports in hairpin mode. Nothing that is for many at once
// may come back to its sender, who would take its own address for a duplicate.
func reflecting(cfg Config) set {
	out := set{name: "reflecting", spec: "type ifname . ifname;"}
	for _, p := range cfg.Ports {
		if cfg.hairpins(p) {
			out.add(fmt.Sprintf("%q . %q", p.HostInterface, p.HostInterface))
		}
	}
	return out
}

// openPorts are the published ports as the containers have them.
func openPorts(cfg Config, f family) set {
	out := set{name: "open" + f.set, spec: fmt.Sprintf("type %s . inet_proto . inet_service;", f.addrs)}
	for _, p := range cfg.Published {
		if !p.leads(f) {
			continue
		}
		out.add(fmt.Sprintf("%s . %s . %d", f.addr(p.Address), p.Protocol, p.Port))
	}
	return out
}

// publishedChains change the destination of what comes in and of what the host
// itself sends. They come before what others do at the same place.
func publishedChains(cfg Config) []chain {
	var guard []chain
	if len(cfg.Published) > 0 || cfg.Services {
		// The bridge takes packets from the host's 127.0.0.1 to a container, for weft
		// or for a runtime's portmap, so it must not take any to there.
		guard = []chain{{name: "loopback", hook: "type filter hook prerouting priority raw;", rules: []string{
			fmt.Sprintf("iifname %q ip daddr 127.0.0.0/8 drop", cfg.Name),
		}}}
	}
	if len(cfg.Published) == 0 {
		return guard
	}
	publish := chain{name: "publish", rules: []string{
		"dnat ip to ip daddr . meta l4proto . th dport map @published_on",
		"fib daddr type local dnat ip to meta l4proto . th dport map @published",
	}}
	if cfg.IPv6.IsValid() {
		// From ::1 there is no way to another device.
		publish.rules = append(publish.rules, "ip6 daddr != ::1 fib daddr type local dnat ip6 to meta l4proto . th dport map @published6")
	}
	return append([]chain{
		publish,
		{name: "prerouting", hook: "type nat hook prerouting priority dstnat - 1;", rules: []string{"jump publish"}},
		{name: "output", hook: "type nat hook output priority -101;", rules: []string{"jump publish"}},
	}, guard...)
}

// loopbackPublished tells whether a published port is reached by 127.0.0.1.
func (c Config) loopbackPublished() bool {
	for _, p := range c.Published {
		if !p.HostIP.IsValid() || p.HostIP.IsLoopback() {
			return true
		}
	}
	return false
}
