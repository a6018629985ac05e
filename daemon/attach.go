package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/weft-net/weft/api"
	"github.com/weft-net/weft/bridge"
	"github.com/weft-net/weft/internal/nl"
)

// Attach puts a container on the network: allocate, make durable, plumb. What
// fails undoes what came before it, in reverse. Asking again for what is there
// already answers the same.
func (d *Daemon) Attach(ctx context.Context, req api.AttachRequest) (api.Attachment, error) {
	wanted := []*netip.Addr{&req.Address}
	for i := range req.More {
		wanted = append(wanted, &req.More[i])
	}
	if err := d.inPlan(wanted...); err != nil {
		return api.Attachment{}, err
	}
	c, err := d.resolve(req.Container)
	if err != nil {
		return api.Attachment{}, err
	}
	defer c.close()
	unlock, err := d.containers.lock(ctx, c.cookie)
	if err != nil {
		return api.Attachment{}, fmt.Errorf("wait for another request for container %s: %w", req.Container, err)
	}
	defer unlock()

	if a, ok := d.findAttached(c.cookie, req.Interface); ok {
		if req.Address.IsValid() {
			req.More = append([]netip.Addr{req.Address}, req.More...)
		}
		return d.addAddresses(ctx, a, req.More)
	}

	a := attachment{Reference: req.Container, NetNS: c.path, Cookie: c.cookie, Interface: req.Interface,
		Default: !req.NoDefaultRoute, Since: d.now()}
	if a.Interface == "" {
		if a.Interface, err = freeInterface(c.ns); err != nil {
			return api.Attachment{}, err
		}
	}
	if a.Address, err = d.takeAddress(ctx, a.key(), req.Address, req.Subnet); err != nil {
		return api.Attachment{}, err
	}
	undo := func(cause error) error {
		return errors.Join(cause, d.forget(a))
	}
	if err := d.keep.saveAttachment(a); err != nil {
		return api.Attachment{}, undo(err)
	}
	d.setAttached(a)
	if err := d.plumb(a); err != nil {
		return api.Attachment{}, undo(err)
	}
	if len(req.More) > 0 {
		if _, err := d.addAddresses(ctx, a, req.More); err != nil {
			return api.Attachment{}, errors.Join(err, d.unplumb(a), d.forget(a))
		}
		a, _ = d.findAttached(c.cookie, a.Interface)
	}
	d.log.Info("attached", "container", a.Reference, "address", a.Address, "interface", a.Interface)
	return d.describe(a), nil
}

// addAddresses gives an interface those of some addresses that it does not have.
// If one cannot be had none is added.
func (d *Daemon) addAddresses(ctx context.Context, a attachment, more []netip.Addr) (api.Attachment, error) {
	before := a
	a.More = slices.Clone(a.More)
	undo := func(cause error) error {
		var errs []error
		for _, addr := range a.More[len(before.More):] {
			errs = append(errs, d.plan.Release(a.key(), addr))
		}
		return errors.Join(append([]error{cause}, errs...)...)
	}
	for _, addr := range more {
		if slices.Contains(a.addresses(), addr) {
			continue
		}
		if _, err := d.takeAddress(ctx, a.key(), addr, netip.Prefix{}); err != nil {
			return api.Attachment{}, undo(err)
		}
		a.More = append(a.More, addr)
	}
	if len(a.More) > len(before.More) {
		if err := d.keep.saveAttachment(a); err != nil {
			return api.Attachment{}, undo(err)
		}
		d.setAttached(a)
	}
	if err := d.plumb(a); err != nil {
		if len(a.More) == len(before.More) {
			return api.Attachment{}, err
		}
		d.setAttached(before)
		return api.Attachment{}, undo(errors.Join(err, d.keep.saveAttachment(before), d.plumb(before)))
	}
	return d.describe(a), nil
}

// takeAddress allocates an address for an owner in a subnet (the host's default
// if it is invalid), or claims the one wanted. An observer becomes a holder of
// address space by it.
func (d *Daemon) takeAddress(ctx context.Context, owner string, want netip.Addr, subnet netip.Prefix) (netip.Addr, error) {
	if d.leaving.Load() {
		return netip.Addr{}, &api.Error{Code: api.CodeConflict, Message: "this host is leaving the mesh", Fix: "`weft launch` once the reset is done"}
	}
	if owner != ownerGateway && !d.gateway().IsValid() {
		if err := d.takeGateway(ctx); err != nil {
			return netip.Addr{}, err
		}
		if err := d.reconcileKernel(); err != nil {
			return netip.Addr{}, err
		}
	}
	if want.IsValid() {
		return want, d.explain(d.plan.Claim(ctx, owner, want))
	}
	if !subnet.IsValid() && owner != ownerGateway {
		subnet = d.opts.Subnet
	}
	if !subnet.IsValid() {
		subnet = d.settings.Range
	}
	addr, err := d.plan.Allocate(ctx, owner, subnet)
	return addr, d.explain(err)
}

// forget undoes an attachment: record and address.
func (d *Daemon) forget(a attachment) error {
	d.clearAttached(a)
	if err := d.keep.dropAttachment(a.key()); err != nil {
		return err
	}
	var errs []error
	for _, addr := range a.addresses() {
		errs = append(errs, d.plan.Release(a.key(), addr))
	}
	return errors.Join(errs...)
}

// freeInterface chooses the name inside: eth0 where there is none yet, else eth1.
func freeInterface(ns *nl.Namespace) (string, error) {
	conn, err := nl.OpenIn(ns)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if _, err := conn.Link("eth0"); errors.Is(err, nl.ErrNotFound) {
		return "eth0", nil
	} else if err != nil {
		return "", err
	}
	return "eth1", nil
}

// Detach takes a container off the network and frees its addresses.
func (d *Daemon) Detach(ctx context.Context, req api.DetachRequest) ([]api.Attachment, error) {
	if err := d.inPlan(&req.Address); err != nil {
		return nil, err
	}
	path, err := namespacePath(req.Container)
	if err != nil {
		return nil, err
	}
	c, err := d.resolve(req.Container)
	if err == nil {
		defer c.close()
	} else if api.CodeOf(err) != api.CodeNotFound {
		return nil, err
	}
	match := func(a attachment) bool {
		if c != nil {
			return a.Cookie == c.cookie
		}
		// The namespace is gone: what it was attached by has to do.
		return a.NetNS == path || a.Reference == req.Container
	}
	var found []attachment
	for _, a := range d.listAttached() {
		if match(a) && (!req.Address.IsValid() || slices.Contains(a.addresses(), req.Address)) {
			found = append(found, a)
		}
	}
	if len(found) == 0 {
		what := "container " + req.Container + " is not attached"
		if req.Address.IsValid() {
			what += " by address " + req.Address.String()
		}
		return nil, &api.Error{Code: api.CodeNotFound, Message: what, Fix: "weft ps lists the containers that are"}
	}
	out := []api.Attachment{}
	for _, a := range found {
		described := d.describe(a)
		if req.Address.IsValid() && len(a.More) > 0 {
			gone, err := d.dropAddress(ctx, a, req.Address)
			if err != nil {
				return out, err
			}
			out = append(out, gone)
			continue
		}
		if err := d.detach(ctx, a); err != nil {
			return out, err
		}
		out = append(out, described)
	}
	return out, nil
}

func (d *Daemon) detach(ctx context.Context, a attachment) error {
	unlock, err := d.containers.lock(ctx, a.Cookie)
	if err != nil {
		return fmt.Errorf("wait for another request for container %s: %w", a.Reference, err)
	}
	defer unlock()
	a, ok := d.findAttached(a.Cookie, a.Interface) // another request may have changed it
	if !ok {
		return nil
	}
	if err := d.unplumb(a); err != nil {
		return err
	}
	if err := d.forget(a); err != nil {
		return err
	}
	d.log.Info("detached", "container", a.Reference, "address", a.Address)
	return nil
}

// dropAddress takes one of several addresses off an interface.
func (d *Daemon) dropAddress(ctx context.Context, a attachment, addr netip.Addr) (api.Attachment, error) {
	unlock, err := d.containers.lock(ctx, a.Cookie)
	if err != nil {
		return api.Attachment{}, fmt.Errorf("wait for another request for container %s: %w", a.Reference, err)
	}
	defer unlock()
	before, ok := d.findAttached(a.Cookie, a.Interface) // another request may have changed it
	rest := slices.DeleteFunc(before.addresses(), func(x netip.Addr) bool { return x == addr })
	gone := a
	gone.Address, gone.More = addr, nil
	out := d.describe(gone)
	switch {
	case !ok || len(rest) == len(before.addresses()):
		return out, nil // it is gone already
	case len(rest) == 0:
		return out, errors.Join(d.unplumb(before), d.forget(before))
	}
	a = before
	usable := func(addr netip.Addr) bool { ok, _ := d.plan.Held(a.key(), addr); return ok }
	if i := slices.IndexFunc(rest, usable); i > 0 {
		rest[0], rest[i] = rest[i], rest[0]
	}
	a.Address, a.More = rest[0], rest[1:]
	if err := d.keep.saveAttachment(a); err != nil {
		return api.Attachment{}, err
	}
	d.setAttached(a)
	follow := d.plumb
	if !usable(a.Address) {
		follow = d.unplumb // what is left is cut off
	}
	if err := follow(a); err != nil {
		// It is on the interface still, so it must not be given to another.
		d.setAttached(before)
		return api.Attachment{}, errors.Join(err, d.keep.saveAttachment(before))
	}
	return out, d.plan.Release(a.key(), addr)
}

// unplumb removes the kernel's side of one attachment.
func (d *Daemon) unplumb(a attachment) error {
	d.kernel.Lock()
	defer d.kernel.Unlock()
	if err := d.bridge.Unplumb(d.bridgeConfig(), d.port(a)); err != nil && !errors.Is(err, nl.ErrNotFound) {
		return err
	}
	return nil
}

// plumb makes the kernel's side of one attachment right. An address that may
// not be used for now is not put back by it.
func (d *Daemon) plumb(a attachment) error {
	d.kernel.Lock()
	defer d.kernel.Unlock()
	if active, refused := d.plan.Held(a.key(), a.Address); !active {
		return &api.Error{Code: api.CodeConflict,
			Message: fmt.Sprintf("container %s is cut off, since address %s may not be used here: %s", a.Reference, a.Address, cmp.Or(refused, "its owner has not answered")),
			Fix:     fmt.Sprintf("wait for its owner (weft status ipam), or `weft detach %s` and attach it again for another address", a.Reference)}
	}
	return d.bridge.Plumb(d.bridgeConfig(), d.port(a))
}

func (d *Daemon) port(a attachment) bridge.Port {
	var more []netip.Prefix
	for _, addr := range a.More {
		if active, _ := d.plan.Held(a.key(), addr); active {
			more = append(more, netip.PrefixFrom(addr, d.settings.Range.Bits()))
		}
	}
	return bridge.Port{
		More: more, NetNS: a.NetNS, Cookie: a.Cookie, Interface: a.Interface,
		HostInterface: bridge.HostInterfaceName(a.Cookie, a.Interface),
		Address:       netip.PrefixFrom(a.Address, d.settings.Range.Bits()),
		DefaultRoute:  a.Default,
	}
}

func (d *Daemon) describe(a attachment) api.Attachment {
	p := d.port(a)
	state := "attached"
	if active, _ := d.plan.Held(a.key(), a.Address); !active {
		state = "cut off"
	}
	if _, gone := d.gone(a.key()); gone {
		state = "gone"
	}
	return api.Attachment{
		Container: a.Reference, Address: p.Address, More: p.More, IPv6: d.ipv6Of(a), Gateway: d.gateway(), MAC: bridge.MACOf(a.Address).String(),
		Interface: a.Interface, HostInterface: p.HostInterface, NetNS: a.NetNS, MTU: d.mtu(), State: state,
		Since: a.Since.Round(time.Second),
	}
}

// Attachments lists the containers of this host, by reference and interface.
func (d *Daemon) Attachments() []api.Attachment {
	list := d.listAttached()
	out := make([]api.Attachment, len(list))
	for i, a := range list {
		out[i] = d.describe(a)
	}
	return out
}
