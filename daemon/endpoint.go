package daemon

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/weft-net/weft/api"
	"github.com/weft-net/weft/bridge"
	"github.com/weft-net/weft/internal/nl"
)

// What container runtimes attach is known by the runtime's own name of it, the
// endpoint: its network namespace may be gone when it is asked for, or be
// another than before.

// endpoint is the name by which a runtime knows the attachment, if one does.
func (a attachment) endpoint() *api.Endpoint {
	if a.Sandbox == "" {
		return nil
	}
	return &api.Endpoint{Network: a.Network, Container: a.Sandbox, Interface: a.Interface}
}

func (a attachment) is(e api.Endpoint) bool {
	own := a.endpoint()
	return own != nil && *own == e
}

// checkEndpoint refuses names that could not be told apart from others.
func checkEndpoint(e api.Endpoint) error {
	for _, s := range []string{e.Network, e.Container, e.Interface} {
		if s == "" || strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r == '/' || r == 0x7f }) {
			return &api.Error{Code: api.CodeInvalid, Message: fmt.Sprintf("network %q, container %q, interface %q: none of them may be empty or have blanks or / in it", e.Network, e.Container, e.Interface)}
		}
	}
	return nil
}

func wishedMAC(s string) (net.HardwareAddr, error) {
	if s == "" {
		return nil, nil
	}
	mac, err := net.ParseMAC(s)
	if err != nil || len(mac) != 6 || mac[0]&1 != 0 {
		return nil, &api.Error{Code: api.CodeInvalid, Message: fmt.Sprintf("%q is not the hardware address of one interface, such as 02:00:00:00:00:01", s)}
	}
	return mac, nil
}

// lockEndpoint serialises requests for one endpoint, and carries out first what
// was asked for it while no daemon ran. It comes before the container's lock.
func (d *Daemon) lockEndpoint(ctx context.Context, e api.Endpoint) (unlock func(), err error) {
	if err := checkEndpoint(e); err != nil {
		return nil, err
	}
	unlock, err = d.endpoints.lock(ctx, e.String())
	if err != nil {
		return nil, fmt.Errorf("wait for another request for interface %s: %w", e, err)
	}
	if err := d.settleEndpoint(ctx, e); err != nil {
		unlock()
		return nil, err
	}
	return unlock, nil
}

// attachEndpoint attaches what a runtime names. If it was attached in another
// namespace, the runtime has a new one for it: the old attachment is taken away.
func (d *Daemon) attachEndpoint(ctx context.Context, e api.Endpoint, req api.AttachRequest) (api.Attachment, error) {
	unlock, err := d.lockEndpoint(ctx, e)
	if err != nil {
		return api.Attachment{}, err
	}
	defer unlock()
	if req.AddressOnly {
		return d.reserve(ctx, e, req)
	}
	ports, err := d.checkMappings(req.Ports)
	if err != nil {
		return api.Attachment{}, err
	}
	c, err := d.requested(ctx, req)
	if err != nil {
		return api.Attachment{}, err
	}
	defer c.close()
	for _, a := range d.attachedThat(func(a attachment) bool { return a.is(e) && a.Cookie != c.cookie }) {
		d.log.Info("an endpoint has another namespace now", "container", e.Container, "was", a.NetNS, "is", c.path)
		if err := d.detach(ctx, a); err != nil {
			return api.Attachment{}, err
		}
	}
	req.Interface = e.Interface
	was, repeated := d.findAttached(c, e.Interface)
	if err := d.addPorts(&was, ports); err != nil {
		return api.Attachment{}, err // before anything is changed
	}
	d.serves.Store(true)
	out, err := d.attach(ctx, req, c)
	if err != nil || len(ports) == 0 {
		return out, err
	}
	a, _ := d.findAttached(c, e.Interface)
	published, err := d.publishOn(ctx, a, ports)
	if err != nil {
		if repeated {
			return api.Attachment{}, err // what worked before goes on working
		}
		return api.Attachment{}, errors.Join(err, d.detach(ctx, a))
	}
	out.Published = published.Ports
	return out, nil
}

// detachEndpoint frees all that an endpoint has, whatever is left of it.
func (d *Daemon) detachEndpoint(ctx context.Context, e api.Endpoint) ([]api.Attachment, error) {
	unlock, err := d.lockEndpoint(ctx, e)
	if err != nil {
		return nil, err
	}
	defer unlock()
	return d.freeEndpoint(ctx, e)
}

// freeEndpoint is detachEndpoint with the endpoint's lock held.
func (d *Daemon) freeEndpoint(ctx context.Context, e api.Endpoint) ([]api.Attachment, error) {
	out := []api.Attachment{}
	var errs []error
	for _, a := range d.attachedThat(func(a attachment) bool { return a.is(e) }) {
		described := d.describeWith(a, nil) // a runtime does not ask what there was
		if err := d.detach(ctx, a); err != nil {
			errs = append(errs, err)
			continue
		}
		out = append(out, described)
	}
	owner := reservationOf(e)
	for _, al := range d.plan.Allocations() {
		if al.Owner != owner {
			continue
		}
		if err := d.plan.Release(owner, al.Addr); err != nil {
			errs = append(errs, d.explain(err))
			continue
		}
		out = append(out, d.describeReserved(e, []netip.Addr{al.Addr}))
	}
	return out, errors.Join(errs...)
}

// Collect frees what a runtime's network has here, but for what it says is
// valid. It goes on past errors.
func (d *Daemon) Collect(ctx context.Context, req api.CollectRequest) (api.CollectReport, error) {
	report := api.CollectReport{Freed: []api.Attachment{}}
	if req.Network == "" {
		return report, &api.Error{Code: api.CodeInvalid, Message: "no network is named whose endpoints are to be collected"}
	}
	for _, a := range d.Attachments() {
		e := a.Endpoint
		if e == nil || e.Network != req.Network || slices.Contains(req.Valid, *e) {
			continue
		}
		freed, err := d.detachEndpoint(ctx, *e)
		report.Freed = append(report.Freed, freed...)
		if err != nil {
			report.Failed = append(report.Failed, fmt.Sprintf("interface %s: %s", e, oneLine(err)))
		}
	}
	return report, nil
}

// Inspect looks what the kernel has of an endpoint.
func (d *Daemon) Inspect(ctx context.Context, req api.InspectRequest) (api.Inspection, error) {
	unlock, err := d.lockEndpoint(ctx, req.Endpoint)
	if err != nil {
		return api.Inspection{}, err
	}
	defer unlock()
	for _, a := range d.reserved() {
		if *a.Endpoint == req.Endpoint {
			return api.Inspection{Attachment: a, Addresses: append([]netip.Prefix{a.Address}, a.More...)}, nil
		}
	}
	for _, a := range d.attachedThat(func(a attachment) bool { return a.is(req.Endpoint) }) {
		return d.inspect(ctx, a, req)
	}
	return api.Inspection{}, &api.Error{Code: api.CodeNotFound, Message: fmt.Sprintf("interface %s is not attached", req.Endpoint), Fix: "weft ps lists what is"}
}

func (d *Daemon) look(a attachment) (bridge.Found, error) {
	d.kernel.Lock()
	defer d.kernel.Unlock()
	return d.bridge.Look(d.portConfig(), d.port(a))
}

func (d *Daemon) inspect(ctx context.Context, a attachment, req api.InspectRequest) (api.Inspection, error) {
	out := api.Inspection{Attachment: d.describe(a)}
	c, err := d.resolve(ctx, req.Container)
	if err != nil {
		return out, err
	}
	defer c.close()
	if c.cookie != a.Cookie {
		out.Missing = fmt.Sprintf("it is attached in %s, which is another network namespace than %s", a.NetNS, c.path)
		return out, nil
	}
	a.NetNS = c.path
	found, err := d.look(a)
	if err != nil && !errors.Is(err, nl.ErrNotFound) {
		return out, err
	}
	out.Missing, out.MTU, out.Addresses = found.Missing, found.MTU, found.Addresses
	if found.MAC != nil {
		out.MAC = found.MAC.String()
	}
	for _, r := range found.Routes {
		out.Routes = append(out.Routes, api.Route{Destination: r.Dst, Via: r.Via})
	}
	return out, nil
}
