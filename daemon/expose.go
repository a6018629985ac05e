package daemon

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

	"github.com/weft-net/weft/api"
)

// Owners in the address plan that are not containers.
const (
	ownerGateway = "weft:gateway"
	ownerExpose  = "weft:expose"
)

// Expose gives the host an address on the network, besides the gateway's, and
// lists them all. Without a wish it is content with one that is there already.
func (d *Daemon) Expose(ctx context.Context, req api.ExposeRequest) (api.Exposure, error) {
	if err := d.inPlan(&req.Address); err != nil {
		return api.Exposure{}, err
	}
	unlock, err := d.containers.lock(ctx, ownerExpose) // two at once would give two addresses
	if err != nil {
		return api.Exposure{}, fmt.Errorf("wait for another request: %w", err)
	}
	defer unlock()
	if err := d.settings.checkSubnet(req.Subnet); err != nil {
		return api.Exposure{}, err
	}
	have := d.exposed()
	fits := func(a netip.Addr) bool { return !req.Subnet.IsValid() || req.Subnet.Contains(a) }
	if slices.Contains(have, req.Address) || (!req.Address.IsValid() && slices.ContainsFunc(have, fits)) {
		return d.exposure(have), nil
	}
	addr, err := d.takeAddress(ctx, ownerExpose, req.Address, req.Subnet)
	if err != nil {
		return api.Exposure{}, err
	}
	if err := d.reconcileKernel(); err != nil {
		return api.Exposure{}, fmt.Errorf("put address %s on the bridge: %w", addr, err)
	}
	d.log.Info("exposed", "address", addr)
	return d.exposure(d.exposed()), nil
}

// Hide takes addresses that Expose gave off the host; all where none is named.
func (d *Daemon) Hide(req api.ExposeRequest) (api.Exposure, error) {
	if err := d.inPlan(&req.Address); err != nil {
		return api.Exposure{}, err
	}
	have := d.exposed()
	if req.Address.IsValid() && !slices.Contains(have, req.Address) {
		return api.Exposure{}, &api.Error{Code: api.CodeNotFound, Message: fmt.Sprintf("the host is not exposed by address %s", req.Address),
			Fix: "weft status lists the addresses that it is exposed by"}
	}
	for _, addr := range have {
		if req.Address.IsValid() && addr != req.Address || req.Subnet.IsValid() && !req.Subnet.Contains(addr) {
			continue
		}
		if err := d.plan.Release(ownerExpose, addr); err != nil {
			return api.Exposure{}, d.explain(err)
		}
		d.log.Info("hidden", "address", addr)
	}
	if err := d.reconcileKernel(); err != nil {
		return api.Exposure{}, fmt.Errorf("take addresses off the bridge: %w", err)
	}
	return d.exposure(d.exposed()), nil
}

// exposed lists the addresses by which the host is on the network.
func (d *Daemon) exposed() []netip.Addr { return d.plan.Owned(ownerExpose) }

func (d *Daemon) exposure(addrs []netip.Addr) api.Exposure {
	out := api.Exposure{Addresses: []netip.Prefix{}}
	for _, a := range addrs {
		out.Addresses = append(out.Addresses, netip.PrefixFrom(a, d.settings.Range.Bits()))
		if d.ipv6Off() == "" {
			out.IPv6 = append(out.IPv6, d.ipv6().Addr(a))
		}
	}
	return out
}
