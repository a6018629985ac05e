package cni

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"

	"github.com/weft-net/weft/api"
)

func check(args *skel.CmdArgs) error {
	n, err := readNetwork(args.StdinData)
	if err != nil {
		return err
	}
	prev, err := n.previous()
	if err != nil {
		return err
	}
	if prev == nil {
		return invalidConfig("CHECK needs the prevResult of ADD")
	}
	found, err := n.inspect(args)
	if err != nil {
		return err
	}
	return differs(compare(prev, args.IfName, found))
}

func (n *network) inspect(args *skel.CmdArgs) (api.Inspection, error) {
	ctx, cancel := n.deadline(timeout)
	defer cancel()
	found, err := n.client().Inspect(ctx, api.InspectRequest{Endpoint: *n.endpoint(args), Container: args.Netns})
	return found, explain(err)
}

func differs(what []string) error {
	if len(what) == 0 {
		return nil
	}
	return types.NewError(errDiffers, "the container's network is not as it was made: "+strings.Join(what, "; "),
		"weft repairs what it notices within seconds; else delete the container and make it again")
}

// compare finds what of an ADD's result the kernel does not have.
func compare(prev *current.Result, ifname string, found api.Inspection) (out []string) {
	if found.Missing != "" {
		return []string{"missing: " + found.Missing}
	}
	index := slices.IndexFunc(prev.Interfaces, func(i *current.Interface) bool { return i != nil && i.Sandbox != "" && i.Name == ifname })
	if index < 0 {
		return []string{"prevResult has no interface " + ifname}
	}
	add := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	own := prev.Interfaces[index]
	if own.Mac != "" && !strings.EqualFold(own.Mac, found.MAC) {
		add("the hardware address is %s, not %s", found.MAC, own.Mac)
	}
	if own.Mtu != 0 && own.Mtu != found.MTU {
		add("the MTU is %d, not %d", found.MTU, own.Mtu)
	}
	for _, ip := range prev.IPs {
		if ip.Interface == nil || *ip.Interface != index {
			continue
		}
		if p, err := prefix(ip.Address); err != nil || !slices.Contains(found.Addresses, p) {
			add("address %s is missing", ip.Address.String())
		}
	}
	for _, r := range prev.Routes {
		via, ok := netip.AddrFromSlice(r.GW)
		if a := found.Attachment; !ok || via.Unmap() != a.Gateway && via.Unmap() != a.IPv6Gateway {
			continue // of another interface
		}
		dst, err := prefix(r.Dst)
		if err != nil || !slices.Contains(found.Routes, api.Route{Destination: dst, Via: via.Unmap()}) {
			add("the route to %s by %s is missing", r.Dst.String(), r.GW)
		}
	}
	return out
}
