package daemon

import (
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/weft-net/weft/api"
	"github.com/weft-net/weft/bridge"
	"github.com/weft-net/weft/internal/nl"
)

// Attachments lists the containers of this host, by reference and interface.
func (d *Daemon) Attachments() []api.Attachment {
	list := d.listAttached()
	out := make([]api.Attachment, len(list))
	for i, a := range list {
		out[i] = d.describe(a)
	}
	return append(out, d.reserved()...)
}

func (d *Daemon) describe(a attachment) api.Attachment { return d.describeWith(a, d.ipv6Of(a)) }

// describeWith is describe with the IPv6 addresses that the container has, which
// it takes a look into its namespace to know.
func (d *Daemon) describeWith(a attachment, six []netip.Addr) api.Attachment {
	p := d.port(a)
	mac, mtu := a.MAC, d.mtu()
	if mac == nil {
		mac = bridge.MACOf(a.Address)
	}
	if a.MTU > 0 {
		mtu = min(mtu, a.MTU)
	}
	out := api.Attachment{
		Container: a.label(), Reference: a.Reference, Engine: a.Engine, ID: a.ID,
		Address: p.Address, More: p.More, IPv6: six, Gateway: d.gateway(), MAC: mac.String(),
		Interface: a.Interface, HostInterface: p.HostInterface, NetNS: a.NetNS, MTU: mtu, State: api.StateAttached,
		Since: a.Since.Round(time.Second), Subnets: a.Subnets, Published: a.mappings(), Endpoint: a.endpoint(), Bridge: d.opts.Bridge,
	}
	if len(out.IPv6) > 0 {
		out.IPv6Gateway = bridge.NextHop
	}
	_, gone := d.gone(a.key())
	active, _ := d.plan.Held(a.key(), a.Address)
	switch {
	case a.Released:
		out.State, out.Address, out.More, out.MAC = api.StateStopped, netip.Prefix{}, nil, ""
	case gone && a.Engine != "":
		out.State = api.StateStopped
	case gone:
		out.State = api.StateGone
	case !active:
		out.State = api.StateCutOff
	}
	return out
}

// describeRouted is describe with the routes that a container's runtime is to
// hear of. Those with a source come and go with the subnets.
func (d *Daemon) describeRouted(a attachment, routes []nl.Route) api.Attachment {
	var six []netip.Addr
	if slices.ContainsFunc(routes, func(r nl.Route) bool { return r.Dst.Addr().Is6() }) {
		six = d.sixOf(a)
	}
	out := d.describeWith(a, six)
	for _, r := range routes {
		if a.Sandbox != "" && r.Via.IsValid() && !r.Src.IsValid() {
			out.Routes = append(out.Routes, api.Route{Destination: r.Dst, Via: r.Via})
		}
	}
	return out
}

// isCalled tells whether a reference, and its kind and rest, mean the container
// of an attachment by what is remembered of it.
func (a attachment) isCalled(reference, kind, rest string) bool {
	switch kind {
	case kindPath:
		return a.NetNS == rest || a.Reference == reference
	case kindNetns:
		return a.NetNS == filepath.Join(netnsDir, rest)
	case kindPID:
		return a.NetNS == "/proc/"+rest+"/ns/net"
	case "":
		return a.Reference == reference || a.Engine != "" && (a.Name == rest || isShort(a.ID, rest)) || a.NetNS == filepath.Join(netnsDir, rest)
	}
	return a.Engine == kind && (a.Name == rest || a.ID == rest || isShort(a.ID, rest))
}

// shortID is how much of an id is enough.
const shortID = 6

func isShort(id, reference string) bool {
	return len(reference) >= shortID && strings.HasPrefix(id, reference)
}

// ownersOf are the containers, or namespaces, of some attachments.
func ownersOf(list []attachment) map[string]bool {
	out := map[string]bool{}
	for _, a := range list {
		out[a.owner()] = true
	}
	return out
}
