package daemon

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/weft-net/weft/api"
	"github.com/weft-net/weft/internal/nl"
	"github.com/weft-net/weft/internal/ula"
)

// ipv6 is where the mesh's IPv6 addresses are; the zero value if it was founded
// without.
func (d *Daemon) ipv6() ula.Net {
	if d.settings.NoIPv6 {
		return ula.Net{}
	}
	return ula.Of(d.token.MeshID)
}

// own are the ranges of the mesh.
func (d *Daemon) own() ula.Ranges { return ula.RangesOf(d.token.MeshID, d.settings.Range) }

// ipv6Off says why this host has no IPv6 on the network; "" if it has.
func (d *Daemon) ipv6Off() string {
	if d.settings.NoIPv6 {
		return "the mesh was founded without"
	}
	return nl.IPv6Off(d.opts.Bridge)
}

// ipv6Of are the IPv6 addresses that go with IPv4 ones, as far as a container
// has them: one with IPv6 off has none.
func (d *Daemon) ipv6Of(a attachment) (out []netip.Addr) {
	if d.ipv6Off() != "" {
		return nil
	}
	ns, err := nl.OpenNamespace(a.NetNS)
	if err != nil {
		return nil // it is gone
	}
	defer ns.Close()
	off := ""
	if err := ns.Do(func() error { off = nl.IPv6Off(a.Interface); return nil }); err != nil || off != "" {
		return nil
	}
	return d.sixOf(a)
}

// sixOf are the IPv6 addresses that go with an attachment's.
func (d *Daemon) sixOf(a attachment) (out []netip.Addr) {
	for _, p := range d.port(a).Addresses() {
		out = append(out, d.ipv6().Addr(p.Addr()))
	}
	return out
}

// wantedInPlan is inPlan for the addresses that an attachment is asked for. One
// that is asked for by both families is one.
func (d *Daemon) wantedInPlan(req *api.AttachRequest) error {
	wanted := []*netip.Addr{&req.Address}
	req.More = slices.Clone(req.More)
	for i := range req.More {
		wanted = append(wanted, &req.More[i])
	}
	if err := d.inPlan(wanted...); err != nil {
		return err
	}
	seen := map[netip.Addr]bool{req.Address: true}
	req.More = slices.DeleteFunc(req.More, func(a netip.Addr) bool {
		twice := seen[a]
		seen[a] = true
		return twice
	})
	return nil
}

// inPlan puts IPv4 addresses, which the plan is of, in the place of the IPv6 ones
// that a request names.
func (d *Daemon) inPlan(addrs ...*netip.Addr) error {
	for _, a := range addrs {
		if !a.Is6() {
			continue
		}
		v4, ok := d.ipv6().IPv4(*a)
		if !ok {
			return &api.Error{Code: api.CodeInvalid, Message: fmt.Sprintf("address %s is not one of this network's", *a),
				Fix: "`weft status` shows the range; an IPv6 address of it ends in the IPv4 one that it goes with"}
		}
		*a = v4
	}
	return nil
}
