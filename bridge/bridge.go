package bridge

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"sync"

	"github.com/weft-net/weft/internal/nl"
)

// SysctlSaver makes the value that a sysctl had before durable. The first
// value of a key counts.
type SysctlSaver interface {
	SaveSysctl(key, value string) error
}

// Bridge makes the kernel of one network namespace follow a Config. It is not
// safe for concurrent use.
type Bridge struct {
	conn     *nl.Conn
	deleting *nl.Conn // see deletePort
	saver    SysctlSaver
	log      *slog.Logger
	firewall firewall
	// furnished is what the containers' ends were made last, by the host's end.
	furnished map[string]string
	// sysctls are what the last Set left; nil if it failed.
	sysctls map[string]string
	// hairpins are the indices of the ports that were put in hairpin mode.
	hairpins map[int]bool
	// filters is what SetBridgeFilter told the bridge with the index filtered last.
	filters  *bool
	filtered int
	closing  sync.WaitGroup // what the kernel takes its time for: see announce and deletePort
}

// New returns a Bridge for the caller's network namespace. It changes nothing.
func New(saver SysctlSaver, log *slog.Logger) (*Bridge, error) {
	conn, err := nl.Open()
	if err != nil {
		return nil, err
	}
	deleting, err := nl.Open()
	if err != nil {
		conn.Close()
		return nil, err
	}
	return &Bridge{conn: conn, deleting: deleting, saver: saver, log: log, furnished: map[string]string{}, hairpins: map[int]bool{}}, nil
}

// Close lets go of the kernel, which keeps everything.
func (b *Bridge) Close() {
	b.closing.Wait()
	if err := b.firewall.close(); err != nil {
		b.log.Warn("let go of nftables", "err", err)
	}
	b.deleting.Close()
	b.conn.Close()
}

// unreachableMetric makes the refusal of the whole range the last resort
// behind every route to a prefix. 4278198272 is what routing daemons use for
// such routes, too.
const unreachableMetric = 4278198272

// Set makes the bridge, its addresses, routes, ports and firewall what the
// config says, and changes only what differs. It goes on past errors.
func (b *Bridge) Set(cfg Config) error {
	dev, cfg, err := b.device(cfg)
	if err != nil {
		return err
	}
	cfg.filtersBridged, err = b.filterBridged(cfg, dev)
	return errors.Join(err,
		b.setSysctls(cfg),
		b.setAddrs(cfg, dev),
		b.setRoutes(cfg, dev),
		b.setNeighbours(cfg, dev),
		// Before the ports: what a container may send has to be known by then.
		b.firewall.set(cfg),
		b.setPorts(cfg, dev),
	)
}

// device is the bridge itself, made if need be, and the config without what it
// cannot have.
func (b *Bridge) device(cfg Config) (nl.Link, Config, error) {
	dev, err := b.conn.Link(cfg.Name)
	switch {
	case errors.Is(err, nl.ErrNotFound):
		if dev, err = b.conn.CreateBridge(cfg.Name, cfg.MAC); err != nil {
			return dev, cfg, err
		}
		b.log.Info("made bridge", "name", cfg.Name)
	case err != nil:
		return dev, cfg, err
	case dev.Kind != nl.KindBridge || !dev.IsWeft():
		return dev, cfg, fmt.Errorf("device %s is not weft's: remove it (ip link delete %s), or give weft another name", cfg.Name, cfg.Name)
	}
	if err := settle(cfg.Name, bridgeIPv6); err != nil {
		return dev, cfg, err
	}
	err = b.conn.AdjustLink(dev, nl.LinkState{Alias: cfg.Alias, MAC: cfg.MAC, MTU: cfg.MTU, Up: true})
	return dev, cfg.withoutIPv6(nl.IPv6Off(cfg.Name)), err
}

// present is device without a look at how the bridge is, where there is one: Set
// sees to that.
func (b *Bridge) present(cfg Config) (nl.Link, Config, error) {
	if dev, err := b.conn.Link(cfg.Name); err == nil && dev.Up && dev.Alias == cfg.Alias {
		return dev, cfg.withoutIPv6(nl.IPv6Off(cfg.Name)), nil
	}
	return b.device(cfg)
}

func (b *Bridge) setAddrs(cfg Config, dev nl.Link) error {
	want := []netip.Prefix{netip.PrefixFrom(cfg.Gateway, 32)}
	for _, a := range cfg.Exposed {
		want = append(want, netip.PrefixFrom(a, 32))
	}
	ours := func(p netip.Prefix) bool {
		// Of another peer, that this host was before, the link's address would lead here.
		return cfg.ours(p) || cfg.Links.Contains(p.Addr()) || p.Addr().Is6() && p.Addr().IsLinkLocalUnicast() // see NextHop
	}
	want = cfg.both(want)
	if cfg.Link.IsValid() {
		want = append(want, netip.PrefixFrom(cfg.Link, cfg.Link.BitLen()))
	}
	return b.conn.SyncAddrs(dev, want, ours)
}

// setRoutes leads this host's own prefixes to the bridge. The rest of the
// range, as far as no tunnel has a route for it, is refused: it must not leak
// out by the default route, and the bridge must not answer ARP for it.
func (b *Bridge) setRoutes(cfg Config, dev nl.Link) error {
	var want []nl.Route
	for _, p := range cfg.IPv6.Both([]netip.Prefix{cfg.Range}) {
		want = append(want, nl.Route{Dst: p, Unreachable: true, Metric: unreachableMetric})
	}
	for _, p := range cfg.Prefixes {
		want = append(want, nl.Route{Dst: p, Device: dev.Index, Src: cfg.Gateway})
		if six := cfg.IPv6.Prefix(p); six.IsValid() {
			want = append(want, nl.Route{Dst: six, Device: dev.Index, Src: cfg.IPv6.Addr(cfg.Gateway)})
		}
	}
	return b.conn.SyncRoutes(want, func(r nl.Route) bool {
		return r.Unreachable && cfg.Own.Hold(r.Dst) || r.Device == dev.Index
	})
}

// setPorts repairs the host's ends, plumbs those anew whose namespace lives and
// that are not there or should be otherwise than when they were plumbed last,
// and removes those that nobody wants any more.
func (b *Bridge) setPorts(cfg Config, dev nl.Link) error {
	links, err := b.conn.Links()
	if err != nil {
		return err
	}
	have := make(map[string]nl.Link, len(links))
	for _, l := range links {
		have[l.Name] = l
	}
	var errs []error
	want := make(map[string]bool, len(cfg.Ports))
	for _, p := range cfg.Ports {
		want[p.HostInterface] = true
		l, ok := have[p.HostInterface]
		if ok {
			errs = append(errs, b.conn.AdjustLink(l, p.state(cfg, dev)), b.setHairpin(l, cfg.hairpins(p)))
		}
		if l.Master != dev.Index {
			delete(b.furnished, p.HostInterface) // what the bridge knew of it is lost
		}
		if ok && b.furnished[p.HostInterface] == furniture(cfg, p) {
			continue
		}
		if _, err := b.plumb(cfg, dev, p); err != nil && !errors.Is(err, nl.ErrNotFound) {
			errs = append(errs, err) // one whose namespace is gone has nothing to be repaired
		}
	}
	for _, l := range links {
		if l.Kind == nl.KindVeth && l.Alias == cfg.Alias && !want[l.Name] {
			b.log.Info("removing stray port", "name", l.Name)
			errs = append(errs, b.conn.DeleteLink(l.Name))
		}
	}
	maps.DeleteFunc(b.furnished, func(name, _ string) bool { return !want[name] })
	return errors.Join(errs...)
}

// setHairpin lets a port send out what came in by it, or not.
func (b *Bridge) setHairpin(l nl.Link, on bool) error {
	if b.hairpins[l.Index] == on {
		return nil
	}
	if err := b.conn.SetHairpin(l, on); err != nil {
		return err
	}
	if on {
		b.hairpins[l.Index] = true
	} else {
		delete(b.hairpins, l.Index)
	}
	return nil
}

func (p Port) state(cfg Config, dev nl.Link) nl.LinkState {
	return nl.LinkState{Alias: cfg.Alias, MTU: p.mtu(cfg), Master: &dev, Up: true}
}
