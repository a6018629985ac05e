package cni

import (
	"fmt"
	"slices"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"
)

// addAddress gives another plugin an address. The routes are those that the
// network asks for.
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
	return types.PrintResult(&current.Result{CNIVersion: current.ImplementedSpecVersion, IPs: ips(got, nil), Routes: n.IPAM.Routes}, n.CNIVersion)
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
