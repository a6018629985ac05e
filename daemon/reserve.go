package daemon

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/weft-net/weft/api"
)

// An endpoint may have addresses only, where a program that is not weft sees to
// its interface. The address plan's owner then is all that is kept of it.
const reservation = "reserved:"

func reservationOf(e api.Endpoint) string {
	return reservation + e.Network + "/" + e.Container + "/" + e.Interface
}

func isReservation(owner string) bool {
	_, ok := endpointOf(owner)
	return ok
}

func endpointOf(owner string) (api.Endpoint, bool) {
	rest, ok := strings.CutPrefix(owner, reservation)
	f := strings.Split(rest, "/")
	if !ok || len(f) != 3 {
		return api.Endpoint{}, false
	}
	return api.Endpoint{Network: f[0], Container: f[1], Interface: f[2]}, true
}

// reserve gives an endpoint addresses, the same again if it has them.
func (d *Daemon) reserve(ctx context.Context, e api.Endpoint, req api.AttachRequest) (api.Attachment, error) {
	owner := reservationOf(e)
	have := d.plan.Owned(owner)
	var want []netip.Addr
	if req.Address.IsValid() {
		want = append([]netip.Addr{req.Address}, req.More...)
	}
	if len(want) == 0 && len(have) == 0 {
		want = []netip.Addr{{}}
	}
	var got []netip.Addr
	for _, addr := range want {
		if slices.Contains(have, addr) {
			continue
		}
		addr, err := d.takeAddress(ctx, owner, addr, req.Subnet)
		if err != nil {
			for _, undo := range got {
				if e := d.plan.Release(owner, undo); e != nil {
					return api.Attachment{}, fmt.Errorf("%w; and %w", err, e)
				}
			}
			return api.Attachment{}, err
		}
		got = append(got, addr)
	}
	return d.describeReserved(e, append(have, got...)), nil
}

func (d *Daemon) describeReserved(e api.Endpoint, addrs []netip.Addr) api.Attachment {
	out := api.Attachment{Container: e.Container, Interface: e.Interface, Gateway: d.gateway(), MTU: d.mtu(), State: api.StateReserved, Endpoint: &e}
	for i, a := range addrs {
		p := netip.PrefixFrom(a, d.settings.Range.Bits())
		if i == 0 {
			out.Address = p
		} else {
			out.More = append(out.More, p)
		}
	}
	if d.ipv6Off() != "" {
		return out
	}
	for _, a := range addrs {
		out.IPv6 = append(out.IPv6, d.ipv6().Addr(a))
	}
	// Not bridge.NextHop, which nobody answers for: weft tells its own containers.
	out.IPv6Gateway = d.ipv6().Addr(d.gateway())
	out.Routes = []api.Route{
		{Destination: netip.PrefixFrom(out.IPv6Gateway, out.IPv6Gateway.BitLen())},
		{Destination: d.ipv6().Prefix(d.settings.Range), Via: out.IPv6Gateway},
	}
	return out
}

// reserved lists the endpoints that have addresses only.
func (d *Daemon) reserved() []api.Attachment {
	var order []api.Endpoint
	addrs := map[api.Endpoint][]netip.Addr{}
	for _, al := range d.plan.Allocations() {
		if e, ok := endpointOf(al.Owner); ok {
			if len(addrs[e]) == 0 {
				order = append(order, e)
			}
			addrs[e] = append(addrs[e], al.Addr)
		}
	}
	var out []api.Attachment
	for _, e := range order {
		out = append(out, d.describeReserved(e, addrs[e]))
	}
	return out
}
