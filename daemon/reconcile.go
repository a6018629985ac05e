package daemon

import (
	"bytes"
	"context"
	"errors"
	"net/netip"
	"reflect"
	"slices"
	"time"

	"github.com/weft-net/weft/bridge"
	"github.com/weft-net/weft/encap"
	"github.com/weft-net/weft/encap/probe"
	"github.com/weft-net/weft/internal/nl"
	"github.com/weft-net/weft/internal/ula"
	"github.com/weft-net/weft/mesh"
)

const (
	// settle gathers changes that come together: one pass for all of them.
	settle = 50 * time.Millisecond
	// settleFirewall is longer: others rewrite their rules often, and a look
	// at them costs more.
	settleFirewall = 300 * time.Millisecond
	// glance is how often those few things are looked at whose changes the
	// kernel does not announce.
	glance = 500 * time.Millisecond
	// settleNews bounds the pause for what peers and the address plan say: others
	// wait for what follows from it.
	settleNews = 150 * time.Millisecond
	// rest is how many times as long as a pass the pause after it is, so that a
	// host with many containers that come and go is not busy with passes, which
	// attaches wait for; settleMost bounds that pause.
	rest       = 4
	settleMost = 500 * time.Millisecond
	// period of the pass that finds what nothing announced.
	period = 5 * time.Second
	// trusted is for how long a pass that wants what the last one wanted leaves the
	// kernel alone, if nobody has changed it. Where links break there are many passes,
	// of which few change anything.
	trusted = time.Second
)

// loop makes the kernel and our own record follow what is known, until ctx ends.
func (d *Daemon) loop(ctx context.Context) {
	tick := time.NewTicker(period)
	defer tick.Stop()
	look := time.NewTicker(glance)
	defer look.Stop()
	watch := d.watchKernel()
	var took time.Duration // of the last pass
	for {
		var kernel, firewall, lost <-chan struct{}
		if watch != nil {
			kernel, firewall, lost = watch.Changed, watch.Firewall, watch.Failed
		}
		pause, changed := max(settle, min(took, settleNews)), false
		select {
		case <-ctx.Done():
			if watch != nil {
				watch.Close()
			}
			return
		case <-d.mesh.Changed():
		case <-d.plan.Changed():
		case <-d.prober.Load().Changed():
		case <-d.hearsay.news:
			pause = settle
		case <-d.keys.begun:
			pause = 0
		case <-d.restless(took):
			pause = 0
		case <-kernel:
			pause, changed = max(settle, min(rest*took, settleMost)), true
		case <-firewall:
			pause, changed = max(pause, settleFirewall), true
		case <-look.C:
			if changed = d.drifted(); !changed {
				continue
			}
		case <-lost:
			watch.Close()
			watch, changed = d.watchKernel(), true
		case <-tick.C:
			d.settleAll(ctx)
			d.sweep(ctx)
			d.lookNeighbours()
			if watch == nil {
				watch = d.watchKernel()
			}
			changed = true
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
			began := d.now()
			d.reconcile(changed)
			took = d.now().Sub(began)
		}
	}
}

func (d *Daemon) drifted() bool {
	d.kernel.Lock()
	defer d.kernel.Unlock()
	return d.bridge.Drifted()
}

func (d *Daemon) watchKernel() *nl.Watch {
	w, err := nl.WatchChanges()
	d.note("watch-kernel", err)
	if err != nil {
		return nil // the periodic pass goes on, and tries again
	}
	return w
}

// reconcile is one whole pass: our record, the kernel, which somebody may have
// changed, and what to remember.
func (d *Daemon) reconcile(changed bool) {
	d.renewGateway()
	d.renewUnderlay()
	d.askSeen()
	d.findWays()
	if d.turnKeys() {
		d.note("reconcile", d.reconcileKernel()) // a slot is there before the others hear of it
	}
	d.publish()
	follow := d.followNews
	if changed {
		follow = d.reconcileKernel
	}
	d.note("reconcile", follow())
	d.note("remember", d.remember())
	d.hasLooked()
}

func (d *Daemon) hasLooked() {
	now := d.now()
	d.looked.Store(&now)
}

// reconcileKernel computes what the kernel should be like, and makes it so. The
// plan hears of it: until every host follows a decision nothing that hangs on it
// goes on.
func (d *Daemon) reconcileKernel() error {
	d.kernel.Lock()
	defer d.kernel.Unlock()
	d.made.at = time.Time{}
	return d.followFence()
}

// followNews is reconcileKernel where nobody is known to have changed the kernel.
func (d *Daemon) followNews() error {
	d.kernel.Lock()
	defer d.kernel.Unlock()
	return d.followFence()
}

// followFence is both with the kernel's lock held.
func (d *Daemon) followFence() error {
	fence := d.plan.Fence()
	err := d.followPlan()
	if err != nil && !encap.OnlyPortsTaken(err) {
		return err
	}
	// A device that cannot have its port takes nothing from anybody.
	d.enforced.Store(fence)
	return errors.Join(err, d.plan.Enforced(fence))
}

// desired is all that the kernel should be like.
type desired struct {
	bridge          bridge.Config
	local           encap.Local
	instances, idle []encap.Instance
	peers           []encap.Remote
}

// made is what the kernel was last made to be like, and when; at is the zero value
// if that failed, or somebody has changed it since.
type made struct {
	desired
	at time.Time
}

// stands tells whether the kernel may be taken to be as it should be.
func (m made) stands(want desired, now time.Time) bool {
	return now.Sub(m.at) < trusted && reflect.DeepEqual(m.desired, want)
}

// followPlan makes the kernel follow the plan. The kernel's lock is held.
func (d *Daemon) followPlan() error {
	if !d.gateway().IsValid() {
		return nil // without an address of its own this host has nothing to set up
	}
	plan, err := d.planLinks()
	if err != nil {
		return err
	}
	if d.relays.news() {
		d.publish() // the others wait for it, and the kernel takes its time
	}
	mtu, err := d.tunnels.MTU(d.local(), plan.instances)
	if err != nil {
		if mtu = d.mtu(); mtu == 0 {
			return err
		}
	}
	// The bridge comes first: the guard has to stand before a tunnel does, and the
	// tunnels' routes prefer the bridge's address as their source.
	plan.mtu = mtu
	d.linked = plan
	want := desired{d.bridgeConfig(), d.local(), plan.instances, plan.idle, plan.peers}
	if d.ipv6Off() != "" {
		want.local.IPv6 = ula.Net{} // the bridge has no address for the routes to prefer
	}
	var set, up error
	if now := d.now(); !d.made.stands(want, now) {
		d.made = made{}
		set = d.bridge.Set(want.bridge)
		if up = d.tunnels.Set(want.local, want.instances, want.idle, want.peers); errors.Join(set, up) == nil {
			d.made = made{want, now}
		}
	}
	d.note(notePorts, d.tunnels.Taken())
	d.probe(plan.targets)
	d.tunnel.Store(d.snapshot(mtu))
	return errors.Join(err, up, set)
}

// local is what this host's ends of all transports have in common.
func (d *Daemon) local() encap.Local {
	return encap.Local{
		ID: d.identity.ID, Alias: d.alias(), Underlay: d.advertise(), VNI: d.token.VNI(), MTU: d.opts.MTU, Source: d.gateway(), IPv6: d.ipv6(), Own: d.own(), Also: d.also(),
	}
}

// bridgeConfig is all that the bridge should be. The kernel's lock is held.
func (d *Daemon) bridgeConfig() bridge.Config {
	cfg := d.hostConfig()
	cfg.Ports = d.ports()
	return cfg
}

// portConfig is bridgeConfig for one port, at whose cost it is. The kernel's lock is
// held.
func (d *Daemon) portConfig() bridge.Config {
	cfg := d.hostConfig()
	cfg.Others = d.ports
	return cfg
}

// hostConfig is bridgeConfig without the ports.
func (d *Daemon) hostConfig() bridge.Config {
	cfg := bridge.Config{
		Name: d.opts.Bridge, MAC: bridgeMAC(d.identity.ID), Alias: d.alias(), MTU: d.mtu(),
		Range: d.settings.Range, Own: d.own(), Gateway: d.gateway(), Links: encap.LinkRange, Link: encap.LinkAddr(d.identity.ID), Exposed: d.exposed(),
		Prefixes: d.plan.Prefixes(d.identity.ID), Masquerade: *d.opts.Masquerade, IPv6: d.ipv6(),
		Subnets: d.subnets(), Hosts: d.hosts(), Services: d.serves.Load(), GossipPort: d.opts.Port,
	}
	d.guard(&cfg)
	for _, a := range d.attachedThat(func(a attachment) bool { return len(a.Published) > 0 && !a.Released && d.isOfThisBoot(a) }) {
		if active, _ := d.plan.Held(a.key(), a.Address); active {
			cfg.Published = append(cfg.Published, d.published(a)...)
		}
	}
	return cfg
}

// ports are the containers that are on the bridge: not those that may not use their
// address for now, which are cut off.
func (d *Daemon) ports() []bridge.Port {
	var out []bridge.Port
	active := d.active()
	for _, a := range d.attachedThat(func(a attachment) bool { return !a.Released && d.isOfThisBoot(a) }) {
		if active[a.Address] {
			out = append(out, d.port(a))
		}
	}
	return out
}

// guard completes what the bridge should be with what was decided of the links.
func (d *Daemon) guard(cfg *bridge.Config) {
	cfg.MTU, cfg.Guard.Peers, cfg.Guard.Refused, cfg.ProbePort = d.linked.mtu, d.linked.guarded, d.linked.refused, probe.Port
	for _, i := range d.linked.instances {
		cfg.Probed = append(cfg.Probed, i.Device)
		switch i.Transport {
		case encap.TransportDirect:
			cfg.Guard.Direct = append(cfg.Guard.Direct, i.Device)
			continue
		case encap.TransportVXLAN:
			cfg.Guard.VXLAN, cfg.Guard.Port, cfg.Guard.VNI = append(cfg.Guard.VXLAN, i.Device), i.Port, d.token.VNI()
		}
		cfg.Tunnels = append(cfg.Tunnels, i.Device)
	}
	if d.settings.mode().Encrypts() {
		cfg.Guard.Untrusted = d.untrusted
	}
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
	d.publishing.Lock() // what was found out first is told first
	defer d.publishing.Unlock()
	plan := d.plan.Status()
	slots, oldKey := d.ownSlots()
	ports := map[string]uint16{}
	for _, transport := range d.can {
		if port := d.settings.port(transport); port != 0 {
			ports[transport] = port
		}
	}
	mtu, mtus := d.devices().mtus(d.advertise(), d.announced())
	var gossip []netip.AddrPort
	for _, a := range d.announced() {
		gossip = append(gossip, netip.AddrPortFrom(a, d.opts.Port))
	}
	body := mesh.Body{
		Name: d.opts.Name, Gossip: gossip, Underlay: d.announced(), Seen: d.heardAt.list(d.announced(), d.now()), Transports: d.can, Ports: ports, UnderlayMTU: mtu, MTUs: mtus, Trusted: d.opts.Trusted, Forwarded: slices.DeleteFunc(slices.Clone(d.forwarded), d.isOwn),
		WireGuardKey: oldKey, Slots: slots, Gateway: d.gateway(),
		Prefixes: d.plan.Prefixes(d.identity.ID), FreeBlocks: plan.FreeBlocks, Used: plan.Used,
		Observer: *d.opts.Observer, Subnets: d.ownSubnets(), Software: Version().Software,
	}
	d.tellRelays(&body)
	d.note("publish", d.mesh.Publish(body))
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
