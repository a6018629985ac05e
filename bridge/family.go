package bridge

import (
	"net/netip"

	"github.com/weft-net/weft/internal/ula"
)

// family is IPv4 or IPv6 in nft's words. What the rules say of an IPv4 address
// they say of the IPv6 one that goes with it.
type family struct {
	name      string // of the header
	addrs     string // the type of its addresses
	multicast string // and broadcast, as elements of a set
	set       string // what the names of its sets end in
	net       ula.Net
}

// underlayFamilies are those of the hosts' own addresses.
var underlayFamilies = []family{{name: "ip", addrs: "ipv4_addr"}, {name: "ip6", addrs: "ipv6_addr", set: "6"}}

// families are those that the network has.
func (c Config) families() []family {
	out := []family{{name: "ip", addrs: "ipv4_addr", multicast: "224.0.0.0/4, 255.255.255.255"}}
	if c.IPv6.IsValid() {
		out = append(out, family{name: "ip6", addrs: "ipv6_addr", multicast: "ff00::/8", set: "6", net: c.IPv6})
	}
	return out
}

// addr is the family's counterpart of an IPv4 address.
func (f family) addr(v4 netip.Addr) netip.Addr {
	if f.name == "ip" {
		return v4
	}
	return f.net.Addr(v4)
}

// prefix is the family's counterpart of an IPv4 prefix.
func (f family) prefix(v4 netip.Prefix) netip.Prefix {
	if f.name == "ip" {
		return v4
	}
	return f.net.Prefix(v4)
}
