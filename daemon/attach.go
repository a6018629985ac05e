package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/weft-net/weft/api"
	"github.com/weft-net/weft/bridge"
	"github.com/weft-net/weft/internal/nl"
)

// Attach puts a container on the network: allocate, make durable, plumb. What
// fails undoes what came before it, in reverse. Asking again for what is there
// already answers the same.
func (d *Daemon) Attach(ctx context.Context, req api.AttachRequest) (api.Attachment, error) {
	if err := d.wantedInPlan(&req); err != nil {
		return api.Attachment{}, err
	}
	if err := d.checkAsked(req); err != nil {
		return api.Attachment{}, err
	}
	if req.Endpoint != nil {
		return d.attachEndpoint(ctx, *req.Endpoint, req)
	}
	c, err := d.requested(ctx, req)
	if err != nil {
		return api.Attachment{}, err
	}
	defer c.close()
	return d.attach(ctx, req, c)
}

func (d *Daemon) attach(ctx context.Context, req api.AttachRequest, c *container) (api.Attachment, error) {
	mac, err := wishedMAC(req.MAC)
	if err != nil {
		return api.Attachment{}, err
	}
	d.settle(ctx, append([]netip.Addr{req.Address}, req.More...))
	unlock, err := d.containers.lock(ctx, c.owner())
	if err != nil {
		return api.Attachment{}, fmt.Errorf("wait for another request for container %s: %w", req.Container, err)
	}
	defer unlock()

	if a, ok := d.findAttached(c, req.Interface); ok {
		if req.Endpoint != nil && !a.is(*req.Endpoint) {
			return api.Attachment{}, &api.Error{Code: api.CodeConflict, Message: fmt.Sprintf("interface %s in %s is attached already, as %s", a.Interface, a.NetNS, a.Reference),
				Fix: "take it off first: weft detach " + a.Reference}
		}
		if a.Engine != "" && a.owner() == c.owner() {
			if err := d.reattach(ctx, a, c); err != nil {
				return api.Attachment{}, err
			}
			a, _ = d.attachedByKey(a.key())
		}
		if req.Address.IsValid() {
			req.More = append([]netip.Addr{req.Address}, req.More...)
		}
		return d.addAddresses(ctx, a, req.More, req.Subnet)
	}

	a := attachment{Reference: req.Container, NetNS: c.path, Cookie: c.cookie, Interface: req.Interface,
		Default: !req.NoDefaultRoute, Since: d.now(), Engine: c.Engine, ID: c.ID, Name: c.Name, Boot: d.boot, MAC: mac, MTU: req.MTU}
	if req.Endpoint != nil {
		a.Network, a.Sandbox, a.Reference = req.Endpoint.Network, req.Endpoint.Container, req.Endpoint.Container
	}
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
	if err := d.name(&a, d.subnetOr(req.Subnet), a.Address); err != nil {
		return api.Attachment{}, undo(err)
	}
	d.setAttached(a)
	// The record takes its time on the disk, and the interface in the kernel. What
	// a crash leaves of one without the other the next launch takes away.
	saving := make(chan error, 1)
	go func() { saving <- d.keep.saveAttachment(a) }()
	routes, err := d.plumb(a)
	if unsaved := <-saving; unsaved != nil && err == nil {
		return api.Attachment{}, undo(errors.Join(unsaved, d.unplumb(a)))
	} else if err != nil {
		return api.Attachment{}, undo(err)
	}
	if len(req.More) > 0 {
		out, err := d.addAddresses(ctx, a, req.More, netip.Prefix{})
		if err != nil {
			return api.Attachment{}, errors.Join(err, d.dismantle(a))
		}
		d.log.Info("attached", "container", a.label(), "address", a.Address, "interface", a.Interface)
		return out, nil
	}
	d.log.Info("attached", "container", a.label(), "address", a.Address, "interface", a.Interface)
	return d.describeRouted(a, routes), nil
}

// addAddresses gives an interface those of some addresses that it does not have,
// or where none is named one in a subnet if it has none there. If one cannot be
// had none is added.
func (d *Daemon) addAddresses(ctx context.Context, a attachment, more []netip.Addr, subnet netip.Prefix) (api.Attachment, error) {
	if len(more) == 0 && subnet.IsValid() && !d.isIn(a, subnet) {
		more = []netip.Addr{{}}
	}
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
		addr, err := d.takeAddress(ctx, a.key(), addr, subnet)
		if err != nil {
			return api.Attachment{}, undo(err)
		}
		a.More = append(a.More, addr)
		if err := d.name(&a, subnet, addr); err != nil {
			return api.Attachment{}, undo(err)
		}
	}
	if len(a.More) > len(before.More) {
		if err := d.keep.saveAttachment(a); err != nil {
			return api.Attachment{}, undo(err)
		}
		d.setAttached(a)
	}
	routes, err := d.plumb(a)
	if err != nil {
		if len(a.More) == len(before.More) {
			return api.Attachment{}, err
		}
		d.setAttached(before)
		_, e := d.plumb(before)
		return api.Attachment{}, undo(errors.Join(err, d.keep.saveAttachment(before), e))
	}
	return d.describeRouted(a, routes), nil
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
		own := inAny(d.plan.Prefixes(d.identity.ID), want)
		if err := d.plan.Claim(ctx, owner, want); err != nil || own {
			return want, d.explain(err)
		}
		// Until now its route led to another host.
		return want, d.reconcileKernel()
	}
	if owner != ownerGateway {
		subnet = d.subnetOr(subnet)
	}
	addr, err := d.allocate(ctx, owner, subnet)
	return addr, d.explain(err)
}

// subnetOr is the host's default where no subnet is asked for.
func (d *Daemon) subnetOr(asked netip.Prefix) netip.Prefix {
	if asked.IsValid() {
		return asked
	}
	return d.opts.Subnet
}

// forget undoes an attachment: record and address.
func (d *Daemon) forget(a attachment) error {
	d.clearAttached(a)
	if err := d.keep.dropAttachment(a.key()); err != nil {
		return err
	}
	return d.releaseAll(a)
}

// releaseAll frees the addresses of an attachment of which there is no record any
// more.
func (d *Daemon) releaseAll(a attachment) error {
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
	if req.Endpoint != nil {
		return d.detachEndpoint(ctx, *req.Endpoint)
	}
	found, err := d.attachmentsOf(ctx, req.Container, req.Address)
	if err != nil {
		return nil, err
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

// attachmentsOf are the attachments of a container, one that is gone included,
// and with an address if that is valid. None is an error.
func (d *Daemon) attachmentsOf(ctx context.Context, reference string, addr netip.Addr) ([]attachment, error) {
	kind, rest, err := splitReference(reference)
	if err != nil {
		return nil, err
	}
	c, resolving := d.resolve(ctx, reference)
	if resolving == nil {
		defer c.close()
	}
	var found []attachment
	for _, a := range d.listAttached() {
		// Where there is no namespace any more, what it was called has to do.
		if (resolving == nil && d.isOf(a, c) || resolving != nil && a.isCalled(reference, kind, rest)) && (!addr.IsValid() || slices.Contains(a.addresses(), addr)) {
			found = append(found, a)
		}
	}
	code := api.CodeOf(resolving)
	switch {
	case resolving != nil && len(ownersOf(found)) > 1,
		resolving != nil && len(found) == 0 && code != api.CodeNotFound && code != api.CodeConflict:
		return nil, resolving
	case len(found) > 0:
		return found, nil
	}
	what := "container " + reference + " is not attached"
	if addr.IsValid() {
		what += " by address " + addr.String()
	}
	return nil, &api.Error{Code: api.CodeNotFound, Message: what, Fix: "weft ps lists the containers that are"}
}

func (d *Daemon) detach(ctx context.Context, a attachment) error {
	unlock, err := d.containers.lock(ctx, a.owner())
	if err != nil {
		return fmt.Errorf("wait for another request for container %s: %w", a.Reference, err)
	}
	defer unlock()
	listed := a
	a, ok := d.attachedByKey(a.key()) // another request may have changed it
	if !ok || a.Sandbox != listed.Sandbox || a.Network != listed.Network {
		return nil
	}
	if err := d.dismantle(a); err != nil {
		return err
	}
	d.log.Info("detached", "container", a.Reference, "address", a.Address)
	return nil
}

// dismantle takes an attachment out of the kernel and forgets it, both at once:
// what a crash leaves of one without the other the next launch takes away, or a
// container that was not told to be detached is attached still.
func (d *Daemon) dismantle(a attachment) error {
	dropping := make(chan error, 1)
	go func() { dropping <- d.keep.dropAttachment(a.key()) }()
	gone := d.unplumbForGood(a)
	dropped := <-dropping
	if gone == nil && dropped == nil {
		return d.releaseAll(a)
	}
	if dropped == nil {
		dropped = d.keep.saveAttachment(a) // it has its addresses still
	}
	d.setAttached(a)
	return errors.Join(gone, dropped)
}

// dropAddress takes one of several addresses off an interface.
func (d *Daemon) dropAddress(ctx context.Context, a attachment, addr netip.Addr) (api.Attachment, error) {
	unlock, err := d.containers.lock(ctx, a.owner())
	if err != nil {
		return api.Attachment{}, fmt.Errorf("wait for another request for container %s: %w", a.Reference, err)
	}
	defer unlock()
	before, ok := d.attachedByKey(a.key()) // another request may have changed it
	rest := slices.DeleteFunc(before.addresses(), func(x netip.Addr) bool { return x == addr })
	gone := a
	gone.Address, gone.More = addr, nil
	out := d.describe(gone)
	switch {
	case !ok || len(rest) == len(before.addresses()):
		return out, nil // it is gone already
	case len(rest) == 0:
		return out, d.dismantle(before)
	}
	a = before
	usable := func(addr netip.Addr) bool { ok, _ := d.plan.Held(a.key(), addr); return ok }
	if i := slices.IndexFunc(rest, usable); i > 0 {
		rest[0], rest[i] = rest[i], rest[0]
	}
	a.Address, a.More = rest[0], rest[1:]
	a.Subnets = slices.DeleteFunc(slices.Clone(a.Subnets), func(s netip.Prefix) bool {
		return !slices.ContainsFunc(rest, s.Contains)
	})
	if err := d.keep.saveAttachment(a); err != nil {
		return api.Attachment{}, err
	}
	d.setAttached(a)
	if usable(a.Address) {
		_, err = d.plumb(a)
	} else {
		err = d.unplumb(a) // what is left is cut off
	}
	if err != nil {
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
	return d.unplumbLocked(a)
}

func (d *Daemon) unplumbLocked(a attachment) error {
	if !d.isOfThisBoot(a) {
		return nil // what has its name now is another's
	}
	if err := d.bridge.Unplumb(d.portConfig(), d.port(a)); err != nil && !errors.Is(err, nl.ErrNotFound) {
		return err
	}
	return nil
}

// unplumbForGood is unplumb, after which no pass of the loop puts it back.
func (d *Daemon) unplumbForGood(a attachment) error {
	d.kernel.Lock()
	defer d.kernel.Unlock()
	if err := d.unplumbLocked(a); err != nil {
		return err
	}
	d.clearAttached(a)
	return nil
}

// plumb makes the kernel's side of one attachment right, and returns its routes
// by the bridge. An address that may not be used for now is not put back by it.
func (d *Daemon) plumb(a attachment) ([]nl.Route, error) {
	d.kernel.Lock()
	defer d.kernel.Unlock()
	if active, refused := d.plan.Held(a.key(), a.Address); !active {
		return nil, &api.Error{Code: api.CodeConflict,
			Message: fmt.Sprintf("container %s is cut off, since address %s may not be used here: %s", a.Reference, a.Address, cmp.Or(refused, "its owner has not answered")),
			Fix:     fmt.Sprintf("wait for its owner (weft status ipam), or `weft detach %s` and attach it again for another address", a.Reference)}
	}
	return d.bridge.Plumb(d.portConfig(), d.port(a))
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
		DefaultRoute:  a.Default, MAC: a.MAC, MTU: a.MTU,
	}
}
