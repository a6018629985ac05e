package daemon

import (
	"bytes"
	"context"
	"errors"
	"net/netip"
	"slices"
	"time"

	"github.com/weft-net/weft/bridge"
	"github.com/weft-net/weft/encap"
	"github.com/weft-net/weft/internal/nl"
	"github.com/weft-net/weft/mesh"
)

const (
	// settle gathers changes that come together: one pass for all of them.
	settle = 50 * time.Millisecond
	// settleFirewall is longer: others rewrite their rules often, and a look
	// at them costs more.
	settleFirewall = 300 * time.Millisecond
	// period of the pass that finds what nothing announced.
	period = 5 * time.Second
)

// loop makes the kernel and our own record follow what is known, until ctx ends.
func (d *Daemon) loop(ctx context.Context) {
	tick := time.NewTicker(period)
	defer tick.Stop()
	watch := d.watchKernel()
	for {
		var kernel, firewall, lost <-chan struct{}
		if watch != nil {
			kernel, firewall, lost = watch.Changed, watch.Firewall, watch.Failed
		}
		pause := settle
		select {
		case <-ctx.Done():
			if watch != nil {
				watch.Close()
			}
			return
		case <-d.mesh.Changed():
		case <-d.plan.Changed():
		case <-kernel:
		case <-firewall:
			pause = settleFirewall
			d.kernel.Lock()
			d.bridge.FirewallChanged()
			d.kernel.Unlock()
		case <-lost:
			watch.Close()
			watch = d.watchKernel()
		case <-tick.C:
			d.sweep(ctx)
			if watch == nil {
				watch = d.watchKernel()
			}
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
			d.reconcile()
		}
	}
}

func (d *Daemon) watchKernel() *nl.Watch {
	w, err := nl.WatchChanges()
	d.note("watch-kernel", err)
	if err != nil {
		return nil // the periodic pass goes on, and tries again
	}
	return w
}

// reconcile is one whole pass: our record, the kernel, and what to remember.
func (d *Daemon) reconcile() {
	d.renewGateway()
	d.publish()
	d.note("reconcile", d.reconcileKernel())
	d.note("remember", d.remember())
}

// reconcileKernel computes what the kernel should be like, and makes it so. The
// plan hears of it: until every host follows a decision nothing that hangs on it
// goes on.
func (d *Daemon) reconcileKernel() error {
	d.kernel.Lock()
	defer d.kernel.Unlock()
	fence := d.plan.Fence()
	if err := d.followPlan(); err != nil {
		return err
	}
	d.enforced.Store(fence)
	return d.plan.Enforced(fence)
}

// followPlan is reconcileKernel with the kernel's lock held.
func (d *Daemon) followPlan() error {
	if !d.gateway().IsValid() {
		return nil // without an address of its own this host has nothing to set up
	}
	// The tunnel device comes first, since its MTU is the containers', too, and
	// its routes last, since they prefer the bridge's address as their source.
	up := d.driver.Up(d.local())
	defer func() { d.tunnel.Store(&tunnel{d.driver.MTU(), d.driver.Userspace(), d.driver.Links()}) }()
	if d.driver.MTU() == 0 {
		return up
	}
	set := d.bridge.Set(d.bridgeConfig())
	if up == nil {
		up = d.driver.Set(d.tunnelPeers())
	}
	return errors.Join(up, set)
}

func (d *Daemon) local() encap.Local {
	return encap.Local{
		ID: d.identity.ID, Device: d.tunnelDevice(), Alias: d.alias(), Underlay: d.advertise,
		Port: d.settings.tunnelPort(), VNI: d.token.VNI(), Key: d.tunnelKey, MTU: d.opts.MTU, Source: d.gateway(),
	}
}

// tunnelPeers are the other peers with the prefixes that the address plan gives
// them, whatever they claim. A peer whose daemon does not answer keeps its
// routes: its kernel forwards without it.
func (d *Daemon) tunnelPeers() []encap.Peer {
	var out []encap.Peer
	for _, p := range d.mesh.Peers() {
		if p.Self || p.State == mesh.StateDeparted {
			continue
		}
		peer := encap.Peer{ID: p.ID, Prefixes: d.plan.Prefixes(p.ID)}
		if len(peer.Prefixes) == 0 {
			continue // nothing lies behind it
		}
		if len(p.Record.WireGuardKey) == len(peer.Key) {
			peer.Key = encap.PublicKey(p.Record.WireGuardKey)
		}
		if len(p.Record.Underlay) > 0 {
			peer.Underlay = p.Record.Underlay[0]
		}
		// A next hop outside of the peer's own prefixes would let it take over
		// another peer's.
		if inAny(peer.Prefixes, p.Record.Gateway) {
			peer.VTEP = p.Record.Gateway
		}
		out = append(out, peer)
	}
	return out
}

func inAny(prefixes []netip.Prefix, addr netip.Addr) bool {
	return slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return p.Contains(addr) })
}

func (d *Daemon) bridgeConfig() bridge.Config {
	cfg := bridge.Config{
		Name: d.opts.Bridge, MAC: bridgeMAC(d.identity.ID), Alias: d.alias(), MTU: d.driver.MTU(),
		Range: d.settings.Range, Gateway: d.gateway(), Exposed: d.exposed(),
		Prefixes: d.plan.Prefixes(d.identity.ID), Tunnels: []string{d.tunnelDevice()},
		Masquerade: *d.opts.Masquerade, IPv6: d.ipv6(),
	}
	// Who may not use its address for now is cut off.
	active := d.active()
	for _, a := range d.listAttached() {
		if active[a.Address] {
			cfg.Ports = append(cfg.Ports, d.port(a))
		}
	}
	return cfg
}

// active are the addresses that may be used on this host.
func (d *Daemon) active() map[netip.Addr]bool {
	out := map[netip.Addr]bool{}
	for _, a := range d.plan.Allocations() {
		if a.Active {
			out[a.Addr] = true
		}
	}
	return out
}

// publish tells the mesh what it should know of this host.
func (d *Daemon) publish() {
	plan := d.plan.Status()
	key := d.tunnelKey.Public()
	d.note("publish", d.mesh.Publish(mesh.Body{
		Name: d.opts.Name, Gossip: []netip.AddrPort{netip.AddrPortFrom(d.advertise, d.opts.Port)},
		Underlay: []netip.Addr{d.advertise}, Transports: []string{d.driver.Name()}, WireGuardKey: key[:], Gateway: d.gateway(),
		Prefixes: d.plan.Prefixes(d.identity.ID), FreeBlocks: plan.FreeBlocks, Used: plan.Used,
		Observer: *d.opts.Observer, Protocol: mesh.ProtocolVersion, Software: Version().Software,
	}))
}

// remember keeps what is known of the other peers, so that a restart finds them.
func (d *Daemon) remember() error {
	snap := d.mesh.Snapshot()
	if bytes.Equal(snap, d.remembered) {
		return nil
	}
	if err := d.keep.Put(bucketPeer, keySnapshot, snap); err != nil {
		return err
	}
	d.remembered = snap
	return nil
}
