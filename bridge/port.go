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

// lookAgain is the pause between two looks for what the kernel does by and by.
const lookAgain = 250 * time.Microsecond

// ReadyAlias is the alias that a container's end gets when all else is done, for
// who waits inside. It is not nl.AliasPrefix: the device may be a host's to a
// weft inside.
const ReadyAlias = "on weft"

// Plumb puts one container on the bridge, or repairs what is there, and returns
// the routes by the bridge that the container has now. What it made itself it
// removes again when it fails. The error wraps nl.ErrNotFound if the namespace
// is gone.
func (b *Bridge) Plumb(cfg Config, p Port) ([]nl.Route, error) {
	dev, cfg, err := b.present(cfg)
	if err != nil {
		return nil, err
	}
	if cfg.filtersBridged, err = b.filterBridged(cfg, dev); err != nil {
		return nil, err
	}
	// Before the port: what the container may send has to be known by then.
	if err := b.firewall.admit(cfg, p); err != nil {
		return nil, err
	}
	return b.plumb(cfg, dev, p)
}

func (b *Bridge) plumb(cfg Config, dev nl.Link, p Port) (routes []nl.Route, err error) {
	ns, err := nl.OpenNamespace(p.NetNS)
	if err != nil {
		return nil, err
	}
	defer ns.Close()
	if cookie, err := ns.Cookie(); err != nil {
		return nil, err
	} else if p.Cookie != 0 && cookie != p.Cookie {
		return nil, fmt.Errorf("network namespace %s is another one than before: %w", p.NetNS, nl.ErrNotFound)
	}
	inside, err := nl.OpenIn(ns)
	if err != nil {
		return nil, err
	}
	defer inside.Close()

	host, made, err := b.pair(cfg, p, ns, inside)
	if err != nil {
		return nil, err
	}
	if made {
		defer func() {
			if err != nil {
				err = errors.Join(err, b.conn.DeleteLink(p.HostInterface))
			}
		}()
	}
	if err := errors.Join(b.conn.AdjustLink(host, p.state(cfg, dev)), b.setHairpin(host, cfg.hairpins(p))); err != nil {
		return nil, err
	}
	// Neighbours that are told and not asked for show the bridge no frame from
	// where they are.
	if err := b.conn.PinMAC(host, p.mac()); err != nil {
		return nil, err
	}
	for _, n := range cfg.neighbours(p) {
		if err := b.conn.SetNeighbour(dev, n); err != nil {
			return nil, err
		}
	}
	furnished := furniture(cfg, p)
	var inward announcer
	err = ns.Do(func() error { // once, as it takes a thread of its own
		cfg = cfg.withoutIPv6(nl.IPv6Off(p.Interface))
		if err := errors.Join(settle(p.Interface, containerIPv6), forgetSoon()); err != nil {
			return err
		}
		inward, err = openAnnouncer()
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("in container %s: %w", p.NetNS, err)
	}
	defer b.letGo(inward)
	index, routes, err := furnish(cfg, p, inside)
	if err != nil {
		return nil, fmt.Errorf("in container %s: %w", p.NetNS, err)
	}
	if err := b.awaitForwarding(p.HostInterface); err != nil {
		return nil, err
	}
	if inner, err := inside.Link(p.Interface); err != nil {
		return nil, err
	} else if err := inside.AdjustLink(inner, nl.LinkState{Alias: ReadyAlias}); err != nil {
		return nil, err
	}
	b.furnished[p.HostInterface] = furnished
	var errs []error
	for _, a := range p.Addresses() {
		errs = append(errs, inward.announce(index, a.Addr(), p.mac()))
	}
	return routes, errors.Join(errs...)
}

// forgetSoon has the container forget within half a minute that a path was too
// small for its packets: the kernel's ten minutes are long for a path that grew
// again. Kernels before 6.0 have no such setting for a namespace.
func forgetSoon() error {
	err := nl.SetSysctl("ipv4/route/mtu_expires", "30")
	if errors.Is(err, nl.ErrNotFound) {
		return nil
	}
	return err
}

// furniture is all that the container's end follows from, and that can change.
func furniture(cfg Config, p Port) string {
	return fmt.Sprint(p.Cookie, p.Addresses(), p.DefaultRoute, p.mac(), cfg.Gateway, p.mtu(cfg), cfg.IPv6, cfg.MAC, sources(cfg, p))
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
	host, err = b.conn.CreateVeth(nl.Veth{Host: p.HostInterface, Peer: p.Interface, PeerMAC: p.mac(), MTU: p.mtu(cfg), PeerNS: ns})
	return host, err == nil, err
}

// furnish sets up the container's end and returns its index and its routes.
func furnish(cfg Config, p Port, inside *nl.Conn) (index int, routes []nl.Route, err error) {
	if lo, err := inside.Link("lo"); err != nil {
		return 0, nil, err
	} else if err := inside.AdjustLink(lo, nl.LinkState{Up: true}); err != nil {
		return 0, nil, err
	}
	l, err := inside.Link(p.Interface)
	if err != nil {
		return 0, nil, err
	}
	if err := inside.SyncAddrs(l, cfg.both(p.Addresses()), cfg.ours); err != nil {
		return 0, nil, err
	}
	if err := inside.AdjustLink(l, nl.LinkState{MAC: p.mac(), MTU: p.mtu(cfg), Up: true}); err != nil {
		return 0, nil, err
	}
	if err := tellNextHop(cfg, inside, l); err != nil {
		return 0, nil, err
	}
	routes, err = setRoutes(cfg, p, inside, l)
	return l.Index, routes, err
}

// setRoutes gives the container those by which it sends to each network from its
// address in there, and of each family a default route through the bridge,
// unless it has another already.
func setRoutes(cfg Config, p Port, inside *nl.Conn, l nl.Link) ([]nl.Route, error) {
	want := append(sources(cfg, p), cfg.routes6(p)...)
	for i := range want {
		want[i].Device = l.Index
	}
	all, err := inside.Routes(false)
	if err != nil {
		return nil, err
	}
	other := map[netip.Prefix]bool{}
	for _, r := range all {
		other[r.Dst] = other[r.Dst] || r.Device != l.Index
	}
	if dst := nl.DefaultDst(false); p.DefaultRoute && !other[dst] {
		want = append(want, nl.Route{Dst: dst, Device: l.Index, Via: cfg.Gateway})
	}
	if dst := nl.DefaultDst(true); p.DefaultRoute && !other[dst] && cfg.IPv6.IsValid() {
		want = append(want, nl.Route{Dst: dst, Device: l.Index, Via: NextHop})
	}
	return want, inside.SyncRoutes(want, func(r nl.Route) bool { return r.Device == l.Index })
}

// sources are the routes of a container in several networks: to each of them by
// the first address that it has in there. The range itself has a route of the
// kernel's by the first address of all, so its halves stand for it.
func sources(cfg Config, p Port) []nl.Route {
	nets := networks(cfg.Subnets)
	var out []nl.Route
	seen := map[netip.Prefix]bool{}
	for _, a := range p.Addresses() {
		n, ok := find(nets, a.Addr())
		if seen[n.subnet] {
			continue
		}
		seen[n.subnet] = true
		to := []netip.Prefix{n.subnet}
		if !ok {
			to = halves(cfg.Range)
		}
		for _, dst := range to {
			out = append(out, nl.Route{Dst: dst, Src: a.Addr()})
		}
	}
	if len(seen) < 2 {
		return nil
	}
	return out
}

// awaitForwarding returns once the port carries frames, so that the first
// ping after an attach is not lost.
func (b *Bridge) awaitForwarding(name string) error {
	for end := time.Now().Add(forwardTime); ; time.Sleep(lookAgain) {
		l, err := b.conn.Link(name)
		if err != nil || l.Running {
			return err
		}
		if time.Now().After(end) {
			return fmt.Errorf("port %s does not come up within %s", name, forwardTime)
		}
	}
}

// deletePort removes a veth pair and returns when both ends are gone. The kernel
// says so only once it has waited for all processors, which takes several times
// as long; so we look instead, by another socket than the one that it keeps.
func (b *Bridge) deletePort(name string) error {
	if _, err := b.conn.Link(name); errors.Is(err, nl.ErrNotFound) {
		return nil
	}
	done := make(chan error, 1)
	b.closing.Go(func() { done <- b.deleting.DeleteLink(name) })
	look := time.NewTicker(lookAgain)
	defer look.Stop()
	for {
		select {
		case err := <-done:
			return err
		case <-look.C:
			if _, err := b.conn.Link(name); errors.Is(err, nl.ErrNotFound) {
				return nil
			}
		}
	}
}

// Unplumb takes one container off the bridge; one that is gone is no error. The
// bridge is looked up first: while the kernel takes the port apart it answers no
// question about links.
func (b *Bridge) Unplumb(cfg Config, p Port) error {
	cfg = cfg.withoutIPv6(nl.IPv6Off(cfg.Name))
	dev, err := b.conn.Link(cfg.Name)
	if err == nil {
		cfg.filtersBridged, err = b.filterBridged(cfg, dev)
	}
	if err != nil && !errors.Is(err, nl.ErrNotFound) {
		return err
	}
	if err := b.deletePort(p.HostInterface); err != nil {
		return err
	}
	if !cfg.Gateway.IsValid() {
		return nil // there is nothing of weft's in the kernel
	}
	if e := b.firewall.expel(cfg, p); e != nil || err != nil {
		return e
	}
	for _, n := range cfg.neighbours(p) {
		if err := b.conn.ForgetNeighbour(dev, n.Addr); err != nil {
			return err
		}
	}
	// The address may turn up on another host next, to which the bridge is the
	// way: containers here that remember the old owner learn so at once.
	return b.announce(dev.Index, p.Address.Addr(), cfg.MAC)
}
