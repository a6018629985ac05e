package cni

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"

	"github.com/weft-net/weft/api"
)

// addAddress gives another plugin addresses. The routes are those that the
// network asks for, after those by which IPv6 needs to get anywhere: an address
// of it has no network around it, as nobody answers for the whole range.
func addAddress(args *skel.CmdArgs) error {
	n, err := readIPAM(args.StdinData)
	if err != nil {
		return err
	}
	req, err := n.attachRequest(args)
	if err != nil {
		return err
	}
	req.AddressOnly, req.MAC = true, ""
	ctx, cancel := n.deadline(addTimeout)
	defer cancel()
	got, err := n.client().Attach(ctx, req)
	if err != nil {
		return explain(err)
	}
	return types.PrintResult(reserved(got, n.IPAM.Routes), n.CNIVersion)
}

// reserved is what the other plugin is to set up. It takes the gateway that
// stands beside an address for one that the address reaches without a route, so
// that an IPv6 one stands in the routes only.
func reserved(a api.Attachment, asked []*types.Route) *current.Result {
	gateway := a.IPv6Gateway
	a.IPv6Gateway = netip.Addr{}
	r := &current.Result{CNIVersion: current.ImplementedSpecVersion, IPs: ips(a, nil)}
	for _, route := range a.Routes {
		r.Routes = append(r.Routes, &types.Route{Dst: ipNet(route.Destination), GW: route.Via.AsSlice()})
	}
	for _, route := range asked {
		if route.Dst.IP.To4() == nil && route.GW == nil {
			if !gateway.IsValid() {
				continue // there is no IPv6
			}
			route.GW = gateway.AsSlice()
		}
		r.Routes = append(r.Routes, route)
	}
	return r
}

func delAddress(args *skel.CmdArgs) error {
	n, err := readIPAM(args.StdinData)
	if err != nil {
		return err
	}
	return n.detach(args)
}

// checkAddress finds out whether the addresses are still the container's.
func checkAddress(args *skel.CmdArgs) error {
	n, err := readIPAM(args.StdinData)
	if err != nil {
		return err
	}
	prev, err := n.previous()
	if err != nil {
		return err
	}
	found, err := n.inspect(args)
	if err != nil || prev == nil {
		return err
	}
	var missing []string
	for _, p := range found.Addresses {
		if !slices.ContainsFunc(prev.IPs, func(ip *current.IPConfig) bool { q, err := prefix(ip.Address); return err == nil && q == p }) {
			missing = append(missing, fmt.Sprintf("address %s is reserved for it, and not in prevResult", p))
		}
	}
	return differs(missing)
}
