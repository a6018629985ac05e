package daemon

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/weft-net/weft/api"
	"github.com/weft-net/weft/bridge"
	"github.com/weft-net/weft/internal/nl"
)

// Attach puts a container on the network: allocate, make durable, plumb. What
// fails undoes what came before it, in reverse. Asking again for what is there
// already answers the same.
func (d *Daemon) Attach(ctx context.Context, req api.AttachRequest) (api.Attachment, error) {
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
		if req.Address.IsValid() && req.Address != a.Address {
			return api.Attachment{}, &api.Error{Code: api.CodeConflict,
				Message: fmt.Sprintf("container %s has address %s on %s already", req.Container, a.Address, a.Interface),
				Fix:     fmt.Sprintf("weft detach %s first, or give another interface by --ifname", req.Container)}
		}
		if err := d.plumb(a); err != nil {
			return api.Attachment{}, err
		}
		return d.describe(a), nil
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
	d.log.Info("attached", "container", a.Reference, "address", a.Address, "interface", a.Interface)
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
	return d.plan.Release(a.key(), a.Address)
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
		if match(a) && (!req.Address.IsValid() || a.Address == req.Address) {
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
		if err := d.detach(ctx, a); err != nil {
			return out, err
		}
		out = append(out, d.describe(a))
	}
	return out, nil
}

func (d *Daemon) detach(ctx context.Context, a attachment) error {
	unlock, err := d.containers.lock(ctx, a.Cookie)
	if err != nil {
		return fmt.Errorf("wait for another request for container %s: %w", a.Reference, err)
	}
	defer unlock()
	d.kernel.Lock()
	err = d.bridge.Unplumb(d.bridgeConfig(), d.port(a))
	d.kernel.Unlock()
	if err != nil && !errors.Is(err, nl.ErrNotFound) {
		return err
	}
	if err := d.forget(a); err != nil {
		return err
	}
	d.log.Info("detached", "container", a.Reference, "address", a.Address)
	return nil
}

// plumb makes the kernel's side of one attachment right.
func (d *Daemon) plumb(a attachment) error {
	d.kernel.Lock()
	defer d.kernel.Unlock()
	return d.bridge.Plumb(d.bridgeConfig(), d.port(a))
}

func (d *Daemon) port(a attachment) bridge.Port {
	return bridge.Port{
		NetNS: a.NetNS, Cookie: a.Cookie, Interface: a.Interface,
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
		Container: a.Reference, Address: p.Address, Gateway: d.gateway(), MAC: bridge.MACOf(a.Address).String(),
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
