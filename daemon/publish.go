package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/api"
	"github.com/weft-net/weft/bridge"
	"github.com/weft-net/weft/internal/nl"
)

// publishedPort is one as it is kept with its attachment.
type publishedPort struct {
	Protocol string     `cbor:"1,keyasint"`
	HostIP   netip.Addr `cbor:"2,keyasint"` // the zero value for all
	HostPort uint16     `cbor:"3,keyasint"`
	Port     uint16     `cbor:"4,keyasint"`
}

func (p publishedPort) api() api.PortMapping {
	return api.PortMapping{Protocol: p.Protocol, HostIP: p.HostIP, HostPort: p.HostPort, Port: p.Port}
}

// collides tells whether both would take the same packets.
func (p publishedPort) collides(o publishedPort) bool {
	return p.Protocol == o.Protocol && p.HostPort == o.HostPort && (p.HostIP == o.HostIP || !p.HostIP.IsValid() || !o.HostIP.IsValid())
}

// mostPublished is how many ports a container can publish.
const mostPublished = 2048

// Publish makes ports of the host lead to a container.
func (d *Daemon) Publish(ctx context.Context, req api.PublishRequest) (api.Publication, error) {
	wanted, err := d.checkMappings(req.Ports)
	if err != nil {
		return api.Publication{}, err
	}
	if len(wanted) == 0 {
		return api.Publication{}, &api.Error{Code: api.CodeInvalid, Message: "no port is named to be published", Fix: "such as 8080:80"}
	}
	found, err := d.attachmentsOf(ctx, req.Container, netip.Addr{})
	if err != nil {
		return api.Publication{}, err
	}
	return d.publishOn(ctx, found[0], wanted)
}

// publishOn makes ports lead to an attachment, besides those that do already.
func (d *Daemon) publishOn(ctx context.Context, a attachment, wanted []publishedPort) (api.Publication, error) {
	return d.changePublished(ctx, a, func(a *attachment) error { return d.addPorts(a, wanted) })
}

// addPorts adds ports to those of an attachment, if nobody has them.
func (d *Daemon) addPorts(a *attachment, wanted []publishedPort) error {
	a.Published = slices.Clone(a.Published)
	for _, p := range wanted {
		if slices.Contains(a.Published, p) {
			continue
		}
		if err := d.checkFree(*a, p); err != nil {
			return err
		}
		a.Published = append(a.Published, p)
	}
	if len(a.Published) > mostPublished {
		return &api.Error{Code: api.CodeInvalid, Message: fmt.Sprintf("%d published ports of one container are more than %d", len(a.Published), mostPublished)}
	}
	return nil
}

// Unpublish takes published ports away. Those that are not there are no error.
func (d *Daemon) Unpublish(ctx context.Context, req api.UnpublishRequest) (api.Publication, error) {
	found, err := d.attachmentsOf(ctx, req.Container, netip.Addr{})
	if err != nil {
		return api.Publication{}, err
	}
	return d.changePublished(ctx, found[0], func(a *attachment) error {
		a.Published = slices.DeleteFunc(slices.Clone(a.Published), func(p publishedPort) bool {
			return len(req.Ports) == 0 || slices.ContainsFunc(req.Ports, func(m api.PortMapping) bool {
				return cmp.Or(m.Protocol, "tcp") == p.Protocol && m.HostPort == p.HostPort && wildcard(m.HostIP) == p.HostIP && (m.Port == 0 || m.Port == p.Port)
			})
		})
		return nil
	})
}

// lockPorts is held while a host's ports are shared out.
const lockPorts = "published ports"

// changePublished changes what a container publishes: durable, then in the
// kernel. One at a time, so that no two get the same port.
func (d *Daemon) changePublished(ctx context.Context, of attachment, change func(*attachment) error) (api.Publication, error) {
	unlock, err := d.containers.lock(ctx, lockPorts)
	if err != nil {
		return api.Publication{}, fmt.Errorf("wait for another request: %w", err)
	}
	defer unlock()
	unlockContainer, err := d.containers.lock(ctx, of.owner())
	if err != nil {
		return api.Publication{}, fmt.Errorf("wait for another request for container %s: %w", of.Reference, err)
	}
	defer unlockContainer()
	before, ok := d.attachedByKey(of.key()) // another request may have changed it
	if !ok {
		return api.Publication{}, &api.Error{Code: api.CodeConflict, Message: "container " + of.Reference + " was detached meanwhile"}
	}
	a := before
	if err := change(&a); err != nil {
		return api.Publication{}, err
	}
	if !slices.Equal(a.Published, before.Published) {
		if err := d.keep.saveAttachment(a); err != nil {
			return api.Publication{}, err
		}
		d.setAttached(a)
		if err := d.applyPublished(before, a); err != nil {
			d.setAttached(before)
			return api.Publication{}, errors.Join(fmt.Errorf("publish ports of container %s: %w", of.Reference, err), d.keep.saveAttachment(before))
		}
		d.log.Info("published", "container", a.Reference, "ports", len(a.Published))
	}
	out := api.Publication{Container: a.Reference, Address: a.Address, Ports: a.mappings()}
	for _, p := range a.Published {
		if !slices.Contains(before.Published, p) {
			out.Warnings = append(out.Warnings, d.doubts(p)...)
		}
	}
	return out, nil
}

// applyPublished makes the kernel follow. What is on its way to a port that
// leads elsewhere now is forgotten, or datagrams would go on as before.
func (d *Daemon) applyPublished(before, now attachment) error {
	d.kernel.Lock()
	defer d.kernel.Unlock()
	if err := d.bridge.Publish(d.bridgeConfig(), d.port(now)); err != nil {
		return err
	}
	for _, p := range append(slices.Clone(before.Published), now.Published...) {
		if slices.Contains(before.Published, p) == slices.Contains(now.Published, p) || p.Protocol != "udp" {
			continue
		}
		if err := nl.ForgetFlows(unix.IPPROTO_UDP, p.HostPort); err != nil {
			d.log.Warn("datagrams that are on their way keep it until they pause", "err", err)
		}
	}
	return nil
}

// wildcard brings the ways to say "all addresses" into one.
func wildcard(a netip.Addr) netip.Addr {
	if a.IsUnspecified() {
		return netip.Addr{}
	}
	return a
}

// checkMappings finds what is wrong with ports to be published, by themselves.
func (d *Daemon) checkMappings(ports []api.PortMapping) (out []publishedPort, err error) {
	for _, m := range ports {
		p, err := d.checkMapping(m)
		if err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	return out, nil
}

// checkMapping finds what is wrong with a port to be published, by itself.
func (d *Daemon) checkMapping(m api.PortMapping) (publishedPort, error) {
	p := publishedPort{cmp.Or(m.Protocol, "tcp"), wildcard(m.HostIP), m.HostPort, cmp.Or(m.Port, m.HostPort)}
	refuse := func(code api.Code, fix, format string, args ...any) (publishedPort, error) {
		return p, &api.Error{Code: code, Message: fmt.Sprintf(format, args...), Fix: fix}
	}
	switch {
	case p.Protocol != "tcp" && p.Protocol != "udp":
		return refuse(api.CodeInvalid, "it is tcp or udp", "protocol %q cannot be published", p.Protocol)
	case p.HostPort == 0:
		return refuse(api.CodeInvalid, "give one between 1 and 65535", "the port of the host is 0")
	case p.HostIP.IsValid() && (!p.HostIP.Is4() || p.HostIP.IsMulticast()):
		return refuse(api.CodeInvalid, "give an IPv4 address of this host, or none", "%s cannot be published on", p.HostIP)
	case p.HostIP.IsValid() && d.settings.Range.Contains(p.HostIP) && p.HostIP != d.gateway() && !slices.Contains(d.exposed(), p.HostIP):
		return refuse(api.CodeInvalid, "`weft expose` gives the host addresses in the range", "%s is no address of this host", p.HostIP)
	case slices.Contains(d.settings.used(p.Protocol, d.opts.Port), p.HostPort):
		return refuse(api.CodeConflict, "choose another", "port %d/%s of the host is weft's own", p.HostPort, p.Protocol)
	}
	return p, nil
}

// checkFree finds who has published a port already.
func (d *Daemon) checkFree(a attachment, p publishedPort) error {
	for _, o := range append(d.attachedThat(func(o attachment) bool { return len(o.Published) > 0 && o.key() != a.key() }), a) {
		for _, other := range o.Published {
			if p.collides(other) {
				return &api.Error{Code: api.CodeConflict,
					Message: fmt.Sprintf("port %d/%s of the host leads to container %s already (%s)", p.HostPort, p.Protocol, o.Reference, other.api()),
					Fix:     fmt.Sprintf("choose another, or `weft unpublish %s %s` first", o.Reference, other.api())}
			}
		}
	}
	return nil
}

// doubts are what may keep a port from working as its user thinks.
func (d *Daemon) doubts(p publishedPort) []string {
	kind := unix.SOCK_STREAM
	if p.Protocol == "udp" {
		kind = unix.SOCK_DGRAM
	}
	var at unix.SockaddrInet4
	at.Port = int(p.HostPort)
	if p.HostIP.IsValid() {
		at.Addr = p.HostIP.As4()
	}
	s, err := unix.Socket(unix.AF_INET, kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	defer unix.Close(s)
	if p.Protocol == "tcp" {
		// What only waits for its end does not count, nor what was dialled from it.
		_ = unix.SetsockoptInt(s, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	}
	switch err := unix.Bind(s, &at); {
	case errors.Is(err, unix.EADDRINUSE):
		return []string{fmt.Sprintf("a process of the host listens on %s port %d: it is not reached while the port is published", p.Protocol, p.HostPort)}
	case errors.Is(err, unix.EADDRNOTAVAIL):
		return []string{fmt.Sprintf("%s is on no interface of this host", p.HostIP)}
	}
	return nil
}

func (a attachment) mappings() []api.PortMapping {
	out := []api.PortMapping{}
	for _, p := range a.Published {
		out = append(out, p.api())
	}
	return out
}

// published are an attachment's ports as the kernel is to have them.
func (d *Daemon) published(a attachment) []bridge.Published {
	if len(a.Published) == 0 {
		return nil
	}
	six := len(d.ipv6Of(a)) > 0
	var out []bridge.Published
	for _, p := range a.Published {
		out = append(out, bridge.Published{Protocol: p.Protocol, HostIP: p.HostIP, HostPort: p.HostPort, Address: a.Address, Port: p.Port, IPv6: six})
	}
	return out
}
