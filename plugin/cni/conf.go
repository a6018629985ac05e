package cni

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/version"

	"github.com/weft-net/weft/api"
)

// defaultStateDir is the daemon's, where it is told no other.
const defaultStateDir = "/var/lib/weft"

// How long a verb may take, unless the network says otherwise.
const (
	addTimeout = 30 * time.Second
	timeout    = 10 * time.Second
)

// settings are those of a network's "weft-cni", and of an "ipam" of weft's.
type settings struct {
	Socket   string `json:"socket"`
	StateDir string `json:"stateDir"`
	Subnet   string `json:"subnet"`
	Timeout  string `json:"timeout"`
}

// wishes are what a runtime asks for one container.
type wishes struct {
	IPs []string `json:"ips"`
	MAC string   `json:"mac"`
}

// portMapping is one of the capability portMappings.
type portMapping struct {
	HostPort      uint16 `json:"hostPort"`
	ContainerPort uint16 `json:"containerPort"`
	Protocol      string `json:"protocol"`
	HostIP        string `json:"hostIP"`
}

// network is a network's configuration as runtimes hand it over. Fields that
// are not weft's are left alone.
type network struct {
	types.PluginConf
	settings
	MTU              int   `json:"mtu"`
	IsDefaultGateway *bool `json:"isDefaultGateway"`
	IPAM             struct {
		Type string `json:"type"`
		settings
		Routes []*types.Route `json:"routes"`
	} `json:"ipam"`
	Args struct {
		CNI wishes `json:"cni"`
	} `json:"args"`
	RuntimeConfig struct {
		wishes
		PortMappings []portMapping `json:"portMappings"`
	} `json:"runtimeConfig"`

	own     settings // those of the two that count
	subnet  netip.Prefix
	timeout time.Duration // 0 for the verb's own
}

// arguments are what CNI_ARGS may say. What else it says is left alone.
type arguments struct {
	types.CommonArgs
	IP, MAC types.UnmarshallableString
}

func invalidConfig(format string, args ...any) error {
	return types.NewError(types.ErrInvalidNetworkConfig, fmt.Sprintf(format, args...), "")
}

func decode(stdin []byte) (*network, error) {
	n := &network{}
	if err := json.Unmarshal(stdin, n); err != nil {
		return nil, types.NewError(types.ErrDecodingFailure, "the network's configuration cannot be read: "+err.Error(), "")
	}
	return n, nil
}

// readNetwork reads the configuration of a network whose plugin weft is.
func readNetwork(stdin []byte) (*network, error) {
	n, err := decode(stdin)
	if err != nil {
		return nil, err
	}
	if n.IPAM.Type != "" && n.IPAM.Type != IPAM {
		return nil, invalidConfig("ipam type %q: weft gives the addresses itself; leave ipam out, or name it %s", n.IPAM.Type, IPAM)
	}
	if n.MTU != 0 && (n.MTU < 576 || n.MTU > 65535) {
		return nil, invalidConfig("mtu %d is not between 576 and 65535", n.MTU)
	}
	n.own = n.settings
	if n.own.Subnet == "" {
		n.own.Subnet = n.IPAM.Subnet
	}
	return n, n.complete()
}

// readIPAM reads the configuration of a network whose plugin asks weft for
// addresses.
func readIPAM(stdin []byte) (*network, error) {
	n, err := decode(stdin)
	if err != nil {
		return nil, err
	}
	n.own = n.IPAM.settings
	return n, n.complete()
}

func (n *network) complete() (err error) {
	if n.own.Socket == "" {
		n.own.Socket = api.DefaultSocket
	}
	if n.own.StateDir == "" {
		n.own.StateDir = defaultStateDir
	}
	if s := n.own.Subnet; s != "" {
		if n.subnet, err = netip.ParsePrefix(s); err != nil || n.subnet != n.subnet.Masked() {
			return invalidConfig("subnet %q is not a network such as 10.40.0.0/16", s)
		}
	}
	if s := n.own.Timeout; s != "" {
		if n.timeout, err = time.ParseDuration(s); err != nil || n.timeout <= 0 {
			return invalidConfig("timeout %q is not a positive duration such as 30s", s)
		}
	}
	return nil
}

// wishes are what is asked for a container, whichever way. The capability
// counts before args, and args before CNI_ARGS; addresses add up.
func (n *network) wishes(cniArgs string) (addrs []netip.Addr, mac string, err error) {
	var args arguments
	if cniArgs != "" {
		// Runtimes add what they like, and say IgnoreUnknown only now and then.
		if err := types.LoadArgs(strings.TrimSuffix(cniArgs, ";")+";IgnoreUnknown=1", &args); err != nil {
			return nil, "", types.NewError(types.ErrInvalidEnvironmentVariables, "CNI_ARGS cannot be read: "+err.Error(), "")
		}
	}
	all := append(append([]string{}, n.RuntimeConfig.IPs...), n.Args.CNI.IPs...)
	if args.IP != "" {
		all = append(all, string(args.IP))
	}
	seen := map[netip.Addr]bool{}
	for _, s := range all {
		addr, err := netip.ParseAddr(s)
		if p, e := netip.ParsePrefix(s); e == nil {
			addr, err = p.Addr(), nil // how long the prefix is, the mesh says
		}
		if err != nil || addr.Zone() != "" {
			return nil, "", invalidConfig("%q is not an IP address", s)
		}
		if addr = addr.Unmap(); !seen[addr] {
			addrs = append(addrs, addr)
		}
		seen[addr] = true
	}
	for _, m := range []string{n.RuntimeConfig.MAC, n.Args.CNI.MAC, string(args.MAC)} {
		if mac == "" {
			mac = m
		}
	}
	return addrs, mac, nil
}

// ports are those of the host that are to lead to the container.
func (n *network) ports() (out []api.PortMapping, err error) {
	for _, m := range n.RuntimeConfig.PortMappings {
		var addr netip.Addr
		if m.HostIP != "" {
			if addr, err = netip.ParseAddr(m.HostIP); err != nil {
				return nil, invalidConfig("portMappings: %q is not an address", m.HostIP)
			}
		}
		if m.HostPort != 0 { // else there is nothing to be mapped
			out = append(out, api.PortMapping{Protocol: strings.ToLower(m.Protocol), HostIP: addr, HostPort: m.HostPort, Port: m.ContainerPort})
		}
	}
	return out, nil
}

// previous is what an ADD of this network came to; nil where the runtime does
// not say.
func (n *network) previous() (*current.Result, error) {
	if n.RawPrevResult == nil {
		return nil, nil
	}
	if err := version.ParsePrevResult(&n.PluginConf); err != nil {
		return nil, types.NewError(types.ErrDecodingFailure, "prevResult cannot be read: "+err.Error(), "")
	}
	r, err := current.NewResultFromResult(n.PrevResult)
	if err != nil {
		return nil, types.NewError(types.ErrDecodingFailure, "prevResult cannot be read: "+err.Error(), "")
	}
	return r, nil
}
