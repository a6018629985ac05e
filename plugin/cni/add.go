package cni

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"

	"github.com/weft-net/weft/api"
)

func (n *network) client() *api.Client { return api.NewClient(n.own.Socket) }

// deadline bounds a verb: by what the network says, or by the verb's own.
func (n *network) deadline(verb time.Duration) (context.Context, context.CancelFunc) {
	if n.timeout > 0 {
		verb = n.timeout
	}
	return context.WithTimeout(context.Background(), verb)
}

func (n *network) endpoint(args *skel.CmdArgs) *api.Endpoint {
	return &api.Endpoint{Network: n.Name, Container: args.ContainerID, Interface: args.IfName}
}

// attachRequest is what ADD asks for.
func (n *network) attachRequest(args *skel.CmdArgs) (api.AttachRequest, error) {
	addrs, mac, err := n.wishes(args.Args)
	if err != nil {
		return api.AttachRequest{}, err
	}
	ports, err := n.ports()
	if err != nil {
		return api.AttachRequest{}, err
	}
	req := api.AttachRequest{Endpoint: n.endpoint(args), Container: args.Netns, Subnet: n.subnet, MAC: mac, MTU: n.MTU, Ports: ports}
	if n.IsDefaultGateway != nil {
		req.NoDefaultRoute = !*n.IsDefaultGateway
	}
	if len(addrs) > 0 {
		req.Address, req.More = addrs[0], addrs[1:]
	}
	return req, nil
}

func add(args *skel.CmdArgs) error {
	n, err := readNetwork(args.StdinData)
	if err != nil {
		return err
	}
	prev, err := n.previous()
	if err != nil {
		return err
	}
	req, err := n.attachRequest(args)
	if err != nil {
		return err
	}
	ctx, cancel := n.deadline(addTimeout)
	defer cancel()
	got, err := n.client().Attach(ctx, req)
	if api.CodeOf(err) == api.CodeNotFound {
		return types.NewError(types.ErrInvalidEnvironmentVariables, "CNI_NETNS: "+err.Error(), "")
	}
	if err != nil {
		return explain(err)
	}
	return types.PrintResult(n.result(prev, args, got), n.CNIVersion)
}

// result adds an attachment to what plugins before this one came to.
func (n *network) result(prev *current.Result, args *skel.CmdArgs, a api.Attachment) *current.Result {
	r := prev
	if r == nil {
		r = &current.Result{CNIVersion: current.ImplementedSpecVersion}
	}
	if !n.DNS.IsEmpty() {
		r.DNS = n.DNS
	}
	r.Interfaces = append(r.Interfaces,
		&current.Interface{Name: a.Bridge},
		&current.Interface{Name: a.HostInterface, Mtu: a.MTU},
		&current.Interface{Name: a.Interface, Mac: a.MAC, Mtu: a.MTU, Sandbox: args.Netns})
	r.IPs = append(r.IPs, ips(a, current.Int(len(r.Interfaces)-1))...)
	for _, route := range a.Routes {
		r.Routes = append(r.Routes, &types.Route{Dst: ipNet(route.Destination), GW: route.Via.AsSlice()})
	}
	return r
}

// ips are an attachment's addresses; on is the index of their interface.
func ips(a api.Attachment, on *int) []*current.IPConfig {
	var out []*current.IPConfig
	for _, p := range append([]netip.Prefix{a.Address}, a.More...) {
		out = append(out, &current.IPConfig{Interface: on, Address: ipNet(p), Gateway: a.Gateway.AsSlice()})
	}
	for _, addr := range a.IPv6 {
		out = append(out, &current.IPConfig{Interface: on, Address: ipNet(netip.PrefixFrom(addr, addr.BitLen())), Gateway: a.IPv6Gateway.AsSlice()})
	}
	return out
}

func ipNet(p netip.Prefix) net.IPNet {
	return net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

func prefix(n net.IPNet) (netip.Prefix, error) {
	addr, ok := netip.AddrFromSlice(n.IP)
	ones, bits := n.Mask.Size()
	if !ok || bits == 0 {
		return netip.Prefix{}, fmt.Errorf("%v is no address with a prefix length", n)
	}
	return netip.PrefixFrom(addr.Unmap(), ones), nil
}
