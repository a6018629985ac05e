// Package bridge is the host's side of the containers' network: the Linux
// bridge, the veth pairs, the gateway's address, the routes to this host's own
// prefixes, the firewall and the sysctls that these need.
//
// Set takes the whole desired state and repairs whatever differs. Which
// addresses and prefixes there are is left to ipam, and what carries traffic
// to other hosts to encap.
package bridge

import (
	"encoding/hex"
	"fmt"
	"hash/fnv"
	"net"
	"net/netip"

	"github.com/weft-net/weft/internal/ula"
)

// Config is all that the bridge should be.
type Config struct {
	Name       string           // of the device
	MAC        net.HardwareAddr // of the device
	Alias      string           // marks all devices; begins with nl.AliasPrefix
	MTU        int              // bytes, of the bridge and of the containers
	Range      netip.Prefix     // of the whole mesh
	Own        ula.Ranges       // in which unreachable routes are this mesh's; the zero value for all of weft's
	Gateway    netip.Addr       // the bridge's own address
	Exposed    []netip.Addr     // further addresses of the host
	Links      netip.Prefix     // that the hosts' addresses like Link are in
	Link       netip.Addr       // by which the links to this host are probed while others relay; the zero value for none
	Prefixes   []netip.Prefix   // that this host holds
	Tunnels    []string         // devices that lead to other hosts
	Probed     []string         // devices by which peers' probes of paths arrive
	ProbePort  uint16           // UDP, of these probes
	GossipPort uint16           // TCP and UDP, for the other hosts' gateways alone; 0 for none
	Masquerade bool             // hide containers behind the host towards the outside
	Ports      []Port           // containers that are on the bridge
	// Others are all of Ports, where one of them comes or goes by itself, which
	// seldom takes a look at them; nil where they are in Ports.
	Others    func() []Port
	Guard     Guard          // of traffic in the clear
	Published []Published    // ports of this host that lead to containers of it
	Subnets   []netip.Prefix // that do not reach each other, on any host
	Hosts     []netip.Addr   // gateways of all hosts, which reach every subnet
	// IPv6 is where each IPv4 address and prefix above has its counterpart; the
	// zero value for none. Where the host has IPv6 off there is none, either.
	IPv6 ula.Net
	// Services tells that somebody else on this host (Kubernetes' kube-proxy)
	// changes where containers' packets go, and changes the answers back.
	Services bool

	filtersBridged bool // what passes the bridge passes the rules for what is routed, too; Set finds out
}

// Port is one container interface.
type Port struct {
	NetNS string // path of the network namespace
	// Cookie is the namespace's number; 0 for whatever is at the path.
	Cookie        uint64
	Interface     string         // name inside
	HostInterface string         // name on the host
	Address       netip.Prefix   // with the prefix length of the range: all of it is on-link
	More          []netip.Prefix // further ones, likewise; the hardware address follows from the first
	DefaultRoute  bool           // through the gateway, where there is no other
	// MAC is the hardware address inside; nil for the one of Address.
	MAC net.HardwareAddr
	// MTU in bytes; 0, and what is more than the bridge's, for the bridge's.
	MTU int
}

// mac is the hardware address inside.
func (p Port) mac() net.HardwareAddr {
	if p.MAC != nil {
		return p.MAC
	}
	return MACOf(p.Address.Addr())
}

// mtu is that of both ends of the port's veth pair.
func (p Port) mtu(cfg Config) int {
	if p.MTU > 0 {
		return min(p.MTU, cfg.MTU)
	}
	return cfg.MTU
}

// HostInterfaceName names the host's end of a container's interface: the same
// after a restart, and different for every namespace and interface.
func HostInterfaceName(cookie uint64, ifname string) string {
	h := fnv.New64a()
	fmt.Fprintf(h, "%d/%s", cookie, ifname)
	return "weft" + hex.EncodeToString(h.Sum(nil)[:5])
}

// MACOf is the hardware address of a container with an address: locally
// administered, and the same wherever the address is. So an address that moves
// from one container to another makes no neighbour's ARP cache wrong.
func MACOf(addr netip.Addr) net.HardwareAddr {
	a := addr.As4()
	return net.HardwareAddr{0x0a, 0x57, a[0], a[1], a[2], a[3]}
}

// whole is the config with all ports.
func (c Config) whole() Config {
	if c.Others != nil {
		c.Ports, c.Others = c.Others(), nil
	}
	return c
}

// devices are the names of those whose traffic this host forwards.
func (c Config) devices() []string { return append([]string{c.Name}, c.Tunnels...) }
