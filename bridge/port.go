package bridge

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/weft-net/weft/internal/nl"
)

// forwardTime is how long a new port may take to carry frames: the kernel
// needs a few milliseconds.
const forwardTime = time.Second

// Plumb puts one container on the bridge, or repairs what is there. What it
// made itself it removes again when it fails. The error wraps nl.ErrNotFound
// if the namespace is gone.
func (b *Bridge) Plumb(cfg Config, p Port) error {
	dev, cfg, err := b.device(cfg)
	if err != nil {
		return err
	}
	return b.plumb(cfg, dev, p)
}

func (b *Bridge) plumb(cfg Config, dev nl.Link, p Port) (err error) {
	ns, err := nl.OpenNamespace(p.NetNS)
	if err != nil {
		return err
	}
	defer ns.Close()
	if cookie, err := ns.Cookie(); err != nil {
		return err
	} else if p.Cookie != 0 && cookie != p.Cookie {
		return fmt.Errorf("network namespace %s is another one than before: %w", p.NetNS, nl.ErrNotFound)
	}
	inside, err := nl.OpenIn(ns)
	if err != nil {
		return err
	}
	defer inside.Close()

	host, made, err := b.pair(cfg, p, ns, inside)
	if err != nil {
		return err
	}
	if made {
		defer func() {
			if err != nil {
				err = errors.Join(err, b.conn.DeleteLink(p.HostInterface))
			}
		}()
	}
	if err := b.conn.AdjustLink(host, portState(cfg, dev)); err != nil {
		return err
	}
	// Neighbours that are told and not asked for show the bridge no frame from
	// where they are.
	if err := b.conn.PinMAC(host, MACOf(p.Address.Addr())); err != nil {
		return err
	}
	for _, n := range cfg.neighbours(p) {
		if err := b.conn.SetNeighbour(dev, n); err != nil {
			return err
		}
	}
	furnished := furniture(cfg, p)
	err = ns.Do(func() error {
		cfg = cfg.withoutIPv6(nl.IPv6Off(p.Interface))
		return settle(p.Interface, containerIPv6)
	})
	if err != nil {
		return fmt.Errorf("in container %s: %w", p.NetNS, err)
	}
	index, err := furnish(cfg, p, inside)
	if err != nil {
		return fmt.Errorf("in container %s: %w", p.NetNS, err)
	}
	if err := b.awaitForwarding(p.HostInterface); err != nil {
		return err
	}
	b.furnished[p.HostInterface] = furnished
	return ns.Do(func() error {
		var errs []error
		for _, a := range p.Addresses() {
			errs = append(errs, announce(index, a.Addr(), MACOf(p.Address.Addr())))
		}
		return errors.Join(errs...)
	})
}

// furniture is all that the container's end follows from, and that can change.
func furniture(cfg Config, p Port) string {
	return fmt.Sprint(p.Cookie, p.Addresses(), p.DefaultRoute, cfg.Gateway, cfg.MTU, cfg.IPv6, cfg.MAC)
}

// Addresses are all of the port's.
func (p Port) Addresses() []netip.Prefix { return append([]netip.Prefix{p.Address}, p.More...) }

// pair is the host's end of the veth pair; made tells that it is new.
func (b *Bridge) pair(cfg Config, p Port, ns *nl.Namespace, inside *nl.Conn) (host nl.Link, made bool, err error) {
	host, err = b.conn.Link(p.HostInterface)
	if err == nil {
		if host.Kind != nl.KindVeth || !host.IsWeft() {
			return host, false, fmt.Errorf("device %s on the host is not weft's: remove it (ip link delete %s)", p.HostInterface, p.HostInterface)
		}
		_, err = inside.Link(p.Interface)
		return host, false, err
	}
	if !errors.Is(err, nl.ErrNotFound) {
		return host, false, err
	}
	if _, err := inside.Link(p.Interface); err == nil {
		return host, false, fmt.Errorf("container %s has an interface %s already: give another with --ifname", p.NetNS, p.Interface)
	}
	host, err = b.conn.CreateVeth(nl.Veth{Host: p.HostInterface, Peer: p.Interface, PeerMAC: MACOf(p.Address.Addr()), MTU: cfg.MTU, PeerNS: ns})
	return host, err == nil, err
}

// furnish sets up the container's end and returns its index.
func furnish(cfg Config, p Port, inside *nl.Conn) (int, error) {
	if lo, err := inside.Link("lo"); err != nil {
		return 0, err
	} else if err := inside.AdjustLink(lo, nl.LinkState{Up: true}); err != nil {
		return 0, err
	}
	l, err := inside.Link(p.Interface)
	if err != nil {
		return 0, err
	}
	if err := inside.SyncAddrs(l, cfg.both(p.Addresses()), cfg.ours); err != nil {
		return 0, err
	}
	if err := inside.AdjustLink(l, nl.LinkState{MAC: MACOf(p.Address.Addr()), MTU: cfg.MTU, Up: true}); err != nil {
		return 0, err
	}
	if err := tellNextHop(cfg, inside, l); err != nil {
		return 0, err
	}
	return l.Index, setContainerRoutes(cfg, p, inside, l)
}

// setContainerRoutes gives the container its routes, and of each family a
// default route through the bridge, unless it has another already.
func setContainerRoutes(cfg Config, p Port, inside *nl.Conn, l nl.Link) error {
	want := cfg.routes6(l.Index)
	if p.DefaultRoute {
		all, err := inside.Routes(false)
		if err != nil {
			return err
		}
		other := map[netip.Prefix]bool{}
		for _, r := range all {
			other[r.Dst] = other[r.Dst] || r.Device != l.Index
		}
		if dst := nl.DefaultDst(false); !other[dst] {
			want = append(want, nl.Route{Dst: dst, Device: l.Index, Via: cfg.Gateway})
		}
		if dst := nl.DefaultDst(true); !other[dst] && cfg.IPv6.IsValid() {
			want = append(want, nl.Route{Dst: dst, Device: l.Index, Via: nextHop})
		}
	}
	return inside.SyncRoutes(want, func(r nl.Route) bool { return r.Device == l.Index })
}

// awaitForwarding returns once the port carries frames, so that the first
// ping after an attach is not lost.
func (b *Bridge) awaitForwarding(name string) error {
	for end := time.Now().Add(forwardTime); ; time.Sleep(time.Millisecond) {
		l, err := b.conn.Link(name)
		if err != nil || l.Running {
			return err
		}
		if time.Now().After(end) {
			return fmt.Errorf("port %s does not come up within %s", name, forwardTime)
		}
	}
}

// Unplumb takes one container off the bridge; one that is gone is no error.
func (b *Bridge) Unplumb(cfg Config, p Port) error {
	if err := b.conn.DeleteLink(p.HostInterface); err != nil {
		return err
	}
	dev, err := b.conn.Link(cfg.Name)
	if errors.Is(err, nl.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	// The address may turn up on another host next, to which the bridge is the
	// way: containers here that remember the old owner learn so at once.
	return announce(dev.Index, p.Address.Addr(), cfg.MAC)
}
