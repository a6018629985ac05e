package daemon

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/weft-net/weft/api"
	"github.com/weft-net/weft/bridge"
	"github.com/weft-net/weft/ipam"
	"github.com/weft-net/weft/mesh"
)

// A subnet is known to the mesh as long as some host names it in its record:
// one that has a container attached with it, or gives its containers addresses
// from it by default.

// mostSubnets is how many a host can name; its record has to fit a packet.
const mostSubnets = 128

// ownSubnets are those that this host names.
func (d *Daemon) ownSubnets() []netip.Prefix {
	var out []netip.Prefix
	if d.isSubnet(d.opts.Subnet) {
		out = append(out, d.opts.Subnet)
	}
	for _, a := range d.attachedThat(func(a attachment) bool { return len(a.Subnets) > 0 }) {
		out = append(out, a.Subnets...)
	}
	slices.SortFunc(out, netip.Prefix.Compare)
	return slices.Compact(out)
}

// subnets are those that any host of the mesh names.
func (d *Daemon) subnets() []netip.Prefix {
	out := d.ownSubnets()
	for _, p := range d.mesh.Peers() {
		if p.Self || p.IsOut() {
			continue
		}
		for _, s := range p.Record.Subnets {
			if d.isSubnet(s) {
				out = append(out, s)
			}
		}
	}
	slices.SortFunc(out, netip.Prefix.Compare)
	return slices.Compact(out)
}

// isSubnet tells whether a prefix is a proper part of the range.
func (d *Daemon) isSubnet(s netip.Prefix) bool {
	return s.IsValid() && s == s.Masked() && s.Bits() > d.settings.Range.Bits() && d.settings.Range.Contains(s.Addr())
}

// hosts are the gateways of all hosts. A peer that claims one outside of its own
// prefixes would be in every subnet by a container's address of another.
func (d *Daemon) hosts() []netip.Addr {
	var out []netip.Addr
	if d.gateway().IsValid() {
		out = append(out, d.gateway())
	}
	for _, p := range d.mesh.Peers() {
		if !p.Self && p.State != mesh.StateDeparted && inAny(d.plan.Prefixes(p.ID), p.Record.Gateway) {
			out = append(out, p.Record.Gateway)
		}
	}
	return out
}

// name makes an attachment one that names the subnet of a new address, so that
// the subnet lasts as long as somebody is in it.
func (d *Daemon) name(a *attachment, asked netip.Prefix, addr netip.Addr) error {
	if !d.isSubnet(asked) || !asked.Contains(addr) {
		asked = bridge.Network(d.subnets(), addr)
	}
	own := d.ownSubnets()
	if !asked.IsValid() || slices.Contains(a.Subnets, asked) {
		return nil
	}
	if !slices.Contains(own, asked) && len(own) >= mostSubnets {
		return &api.Error{Code: api.CodeExhausted, Message: fmt.Sprintf("the containers of this host are in %d subnets, which is the most", len(own)),
			Fix: "attach the container on another host"}
	}
	a.Subnets = append(slices.Clone(a.Subnets), asked)
	return nil
}

// allocate gives an owner an address that is in a subnet, and in none inside of
// it; the invalid subnet stands for what is in none at all.
func (d *Daemon) allocate(ctx context.Context, owner string, subnet netip.Prefix) (netip.Addr, error) {
	if !subnet.IsValid() {
		subnet = d.settings.Range
	}
	parts := []netip.Prefix{subnet}
	for _, s := range d.subnets() {
		if s.Bits() > subnet.Bits() && subnet.Contains(s.Addr()) {
			parts = bridge.Without(parts, s)
		}
	}
	if owner == ownerGateway || slices.Equal(parts, []netip.Prefix{subnet}) {
		return d.plan.Allocate(ctx, owner, subnet)
	}
	// What this host has itself comes first, since nobody has to be asked for it.
	tries := append(overlaps(parts, d.plan.Prefixes(d.identity.ID)), parts...)
	err := fmt.Errorf("subnet %s: all of it is in others: %w", subnet, ipam.ErrExhausted)
	for _, p := range tries {
		var addr netip.Addr
		if addr, err = d.plan.Allocate(ctx, owner, p); err == nil || !errors.Is(err, ipam.ErrExhausted) {
			return addr, err
		}
	}
	return netip.Addr{}, err
}

// overlaps are what two lists of prefixes have in common.
func overlaps(a, b []netip.Prefix) []netip.Prefix {
	var out []netip.Prefix
	for _, x := range a {
		for _, y := range b {
			switch {
			case x.Overlaps(y) && x.Bits() >= y.Bits():
				out = append(out, x)
			case x.Overlaps(y):
				out = append(out, y)
			}
		}
	}
	return out
}

// isIn tells whether an attachment has an address in a subnet; of the whole
// range, in none.
func (d *Daemon) isIn(a attachment, subnet netip.Prefix) bool {
	if !d.isSubnet(subnet) {
		subnet = netip.Prefix{}
	}
	known := d.subnets()
	if subnet.IsValid() {
		known = append(known, subnet)
	}
	return slices.ContainsFunc(a.addresses(), func(addr netip.Addr) bool { return bridge.Network(known, addr) == subnet })
}

// checkAsked finds out whether the addresses that are asked for are in the
// subnet that is.
func (d *Daemon) checkAsked(req api.AttachRequest) error {
	if err := d.settings.checkSubnet(req.Subnet); err != nil {
		return err
	}
	for _, a := range append([]netip.Addr{req.Address}, req.More...) {
		if a.IsValid() && req.Subnet.IsValid() && !req.Subnet.Contains(a) {
			return &api.Error{Code: api.CodeInvalid, Message: fmt.Sprintf("address %s is not in subnet %s", a, req.Subnet), Fix: "ask for one in it, or for no subnet"}
		}
	}
	return nil
}
