package bridge

import (
	"errors"
	"net/netip"

	"github.com/weft-net/weft/internal/nl"
	"github.com/weft-net/weft/internal/ula"
)

// Containers do not have the range on-link in IPv6: the kernel answers neighbour
// discovery for others only address by address. Each has one route for it, by
// way of the bridge, also to the containers beside it. And nobody on the bridge
// asks for neighbours: both sides are told, since both hardware addresses are
// known. So there is no cache to become wrong when an address moves, nothing to
// be forged, and nothing that a firewall of the host's could be in the way of.

// NextHop is a name for the bridge in the containers' routes, the same on every
// host. Nobody has this address: without a link-local one the kernel cannot
// send redirects, by which containers would remember where others are.
var NextHop = netip.MustParseAddr("fe80::1")

// withoutIPv6 is the config for a host or a container that has IPv6 off.
func (c Config) withoutIPv6(off string) Config {
	if off != "" {
		c.IPv6 = ula.Net{}
	}
	return c
}

// both are IPv4 addresses, each with its counterpart as a single address.
func (c Config) both(v4 []netip.Prefix) []netip.Prefix {
	out := append([]netip.Prefix(nil), v4...)
	for _, p := range v4 {
		if a := c.IPv6.Addr(p.Addr()); a.IsValid() {
			out = append(out, netip.PrefixFrom(a, a.BitLen()))
		}
	}
	return out
}

// ours tells an address of the network from others that a device has.
func (c Config) ours(p netip.Prefix) bool {
	return c.Range.Contains(p.Addr()) || c.IPv6.Contains(p.Addr())
}

// neighbours are the IPv6 ones of the bridge that a port stands for.
func (c Config) neighbours(p Port) (out []nl.Neighbour) {
	for _, a := range p.Addresses() {
		if six := c.IPv6.Addr(a.Addr()); six.IsValid() {
			out = append(out, nl.Neighbour{Addr: six, MAC: nl.MAC(p.mac())})
		}
	}
	return out
}

func (b *Bridge) setNeighbours(cfg Config, dev nl.Link) error {
	var want []nl.Neighbour
	for _, p := range cfg.Ports {
		want = append(want, cfg.neighbours(p)...)
	}
	return b.conn.SyncNeighbours(dev, want, cfg.IPv6.Contains)
}

// settle gives a device that is still down what IPv6 has to find when it comes up.
func settle(device string, values map[string]string) error {
	var errs []error
	for key, value := range values {
		if err := nl.SetSysctl("ipv6/conf/"+device+"/"+key, value); !errors.Is(err, nl.ErrNotFound) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

var (
	bridgeIPv6 = map[string]string{
		"addr_gen_mode": "1", // no link-local address, see NextHop
		"accept_ra":     "0", // no container tells the host its routes
	}
	containerIPv6 = map[string]string{
		"addr_gen_mode":    "0", // by its hardware address, see linkLocal
		"accept_dad":       "0", // its addresses are its own, and cost no second
		"accept_ra":        "0", // nor does another tell it where the network is
		"accept_redirects": "0",
	}
)

// routes6 are those that a container has by the bridge: to the range, and to the
// networks that it is in by its address in there.
func (c Config) routes6(p Port) []nl.Route {
	if !c.IPv6.IsValid() {
		return nil
	}
	out := []nl.Route{{Dst: c.IPv6.Prefix(c.Range), Via: NextHop}}
	for _, r := range sources(c, p) {
		out = append(out, nl.Route{Dst: c.IPv6.Prefix(r.Dst), Via: NextHop, Src: c.IPv6.Addr(r.Src)})
	}
	return out
}

// tellNextHop lets a container know the bridge.
func tellNextHop(cfg Config, inside *nl.Conn, l nl.Link) error {
	if !cfg.IPv6.IsValid() {
		return nil
	}
	want := []nl.Neighbour{{Addr: NextHop, MAC: nl.MAC(cfg.MAC)}}
	return inside.SyncNeighbours(l, want, func(a netip.Addr) bool { return a == NextHop })
}
