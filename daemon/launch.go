package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/weft-net/weft/api"
	"github.com/weft-net/weft/bridge"
	"github.com/weft-net/weft/encap"
	"github.com/weft-net/weft/internal/store"
	"github.com/weft-net/weft/mesh"
)

// A join that fails is tried again after joinPause, for joinAgain in all.
const (
	joinPause = 300 * time.Millisecond
	joinAgain = 10 * time.Second
)

// Step is one finished step of a launch.
type Step struct {
	Name   string        `json:"name"`
	Took   time.Duration `json:"took"` // nanoseconds
	Detail string        `json:"detail,omitempty"`
}

// Ready says what a launch has come to.
type Ready struct {
	// Founded is true if this launch made the mesh.
	Founded  bool           `json:"founded"`
	Name     string         `json:"name"`
	Join     string         `json:"join"` // the line for the next host
	Peers    int            `json:"peers"`
	Gateway  netip.Prefix   `json:"gateway"`
	Prefixes []netip.Prefix `json:"prefixes"`
	// SetAside is where the store is that could not be read, if it was set aside.
	SetAside string `json:"setAside,omitempty"`
	// Refused says why no host of the mesh lets this one in, where that is so.
	Refused string `json:"refused,omitempty"`
}

// launch takes a host from nothing, or from what an earlier daemon left, to a
// state in which containers can be attached. It ends the turn.
func (d *Daemon) launch(ctx context.Context, turn *store.Turn, progress func(Step), ready func(Ready)) (_ *server, err error) {
	ctx, cancel := context.WithTimeout(ctx, d.opts.Timeout)
	defer cancel()
	d.started = d.now()
	d.hasLooked()
	at := d.now()
	step := func(name string, detail string) {
		now := d.now()
		d.log.Info("launch: "+name, "took", now.Sub(at), "detail", detail)
		progress(Step{Name: name, Took: now.Sub(at), Detail: detail})
		at = now
	}

	known, err := d.openState()
	turn.Close()
	if err != nil {
		return nil, err
	}
	var srv *server
	defer func() {
		if err == nil {
			return
		}
		if srv != nil {
			srv.close()
		}
		err = d.abandon(ctx, err)
	}()
	if d.setAside != "" {
		step("set the store aside", d.setAside)
	}
	step("open state", d.opts.StateDir)

	if err := d.preflight(known); err != nil {
		return nil, err
	}
	step("check this host", fmt.Sprintf("underlay address %s", d.advertise()))

	fresh := known == nil
	if fresh {
		if known, err = d.newPeer(ctx); err != nil {
			return nil, err
		}
		if len(d.opts.Join) > 0 {
			step("greet the mesh", known.token.MeshID.String())
		}
	} else if err = d.checkCopy(ctx, known, step); err != nil {
		return nil, err
	}
	if err := known.settings.checkSubnet(d.opts.Subnet); err != nil {
		return nil, err
	}
	if err := d.adopt(*known, fresh); err != nil {
		return nil, err
	}
	if left := d.forgottenTargets(); !fresh && len(left) > 0 {
		step("leave out", fmt.Sprintf("%s: taken away by `weft forget` or `weft connect --replace` since the last launch", strings.Join(left, ", ")))
	}
	d.renewProcess(step)
	if err := d.startPlan(*known); err != nil {
		return nil, err
	}
	empty := d.plan.Status().Index == 0
	if err := d.startMesh(ctx, *known, fresh); err != nil {
		return nil, err
	}
	step("join the mesh", fmt.Sprintf("%d peers", len(d.mesh.Peers())))
	if why := d.tokenKept(); why != "" {
		d.log.Warn("this host keeps its token", "because", why)
		step("keep the token", why)
	}
	if err := d.found(ctx, step); err != nil {
		return nil, err
	}
	if *d.opts.Observer && !d.plan.Hear(ctx) {
		return nil, &api.Error{Code: api.CodeTimeout, Message: "no host has told this one of the mesh's address plan", Fix: "`weft status` on the others shows whether they reach this host"}
	}
	status := d.plan.Status()
	founded := empty && len(status.Voters) == 1 && status.Voters[0] == d.identity.ID
	if founded {
		step("found the address plan", d.settings.Range.String())
	}

	if !*d.opts.Observer || len(d.listAttached()) > 0 {
		if err = d.takeGateway(ctx); err != nil {
			return nil, err
		}
		step("take address space", fmt.Sprint(d.plan.Prefixes(d.identity.ID)))
	}

	if err := d.startKernel(); err != nil {
		return nil, err
	}
	d.hasLooked()
	step("set up bridge and tunnels", fmt.Sprintf("%s, %s, MTU %d", d.opts.Bridge, strings.Join(d.can, ", "), d.mtu()))
	if what := d.inTheClear(); what != "" {
		step("allow plaintext", what)
	}

	if err = d.openJournal(ctx); err != nil {
		return nil, err
	}
	d.settleAll(ctx)
	if srv, err = d.listen(); err != nil {
		return nil, err
	}
	step("answer on the socket", d.opts.Socket)
	if err = d.presentCNI(ctx); err != nil {
		return nil, err
	}
	ready(Ready{
		Founded: founded, Name: d.opts.Name, Join: d.joinLine(), Peers: len(d.mesh.Peers()),
		Gateway:  netip.PrefixFrom(d.gateway(), d.settings.Range.Bits()),
		Prefixes: d.plan.Prefixes(d.identity.ID), SetAside: d.setAside, Refused: checkRejections(d),
	})
	return srv, nil
}

// openState takes the state directory; the result is nil for a new peer.
func (d *Daemon) openState() (*peerState, error) {
	k, p, ok, err := openKeep(d.opts.StateDir, true)
	if d.opts.SetAside && unreadable(err) {
		if k, d.setAside, err = setAside(d.opts, d.log, err); err == nil {
			p, ok, err = k.peer()
		}
	}
	if err != nil {
		return nil, explainStore(err, "to make this host a new peer, `weft launch --set-aside-store` with the --join and --token of another host keeps it under another name")
	}
	d.keep = k
	d.keptBridge = cmp.Or(p.host.Bridge, DefaultBridge)
	p.host = d.opts.HostOptions.or(p.host.without(d.opts.Automatic))
	// A unit file says the same at each start: what connect and forget have made of it
	// since then stays.
	if given := d.givenTargets(); len(given) > 0 && !slices.Equal(given, p.launched) {
		p.targets = given
	}
	d.opts.HostOptions = p.host.or(defaultHost())
	d.given = p.host
	if !ok {
		return nil, nil
	}
	if len(p.slots) == 0 { // made by a weft that had no WireGuard
		if p.slots, err = firstSlots(d.now()); err != nil {
			return nil, errors.Join(err, d.close())
		}
	}
	return &p, nil
}

// givenTargets are the hosts to join that this launch was given.
func (d *Daemon) givenTargets() []string { return slices.Concat(d.opts.Founders, d.opts.Join) }

// forgottenTargets are those of them that were taken away since the last launch, which
// was given the same.
func (d *Daemon) forgottenTargets() []string {
	return slices.DeleteFunc(d.givenTargets(), func(t string) bool {
		return d.isAt(t) || slices.ContainsFunc(d.targets.list, d.sameTarget(t))
	})
}

// adopt makes this daemon the peer of the state, which is kept first if it is new.
func (d *Daemon) adopt(p peerState, fresh bool) error {
	if d.opts.Token != "" && !fresh {
		if err := d.renewToken(&p); err != nil {
			return err
		}
	}
	if given := d.givenTargets(); len(given) > 0 {
		p.launched = given
	}
	save := d.keep.saveGiven
	if fresh {
		save = func(p peerState) error { return d.keep.savePeer(p, machineID(), d.whereRun()) }
	}
	if err := save(p); err != nil {
		return err
	}
	d.identity, d.token, d.settings, d.remembered = p.identity, p.token, p.settings, p.snapshot
	d.targets.list = p.targets
	d.keys.slots.List = p.slots
	return nil
}

// startMesh listens and joins. A peer that was in the mesh before puts the
// kernel right by what it remembers first, so that its containers do not wait
// for the others, and goes on alone if it reaches nobody; the mesh keeps trying.
func (d *Daemon) startMesh(ctx context.Context, p peerState, fresh bool) error {
	m, err := mesh.New(mesh.Config{
		Identity: d.identity, Life: d.life, Name: d.opts.Name, Token: d.token, Tokens: p.tokens, Given: d.tokenGiven, KeepTokens: d.keep.saveTokens, Settings: encode(d.settings),
		Bind:      netip.AddrPortFrom(netip.IPv4Unspecified(), d.opts.Port),
		Advertise: d.gossipAt(), Own: d.underlays(),
		Snapshot: p.snapshot, Targets: p.targets, Channels: []mesh.Channel{d.replicate, d.hearsay, &d.heardAt}, Logger: d.log,
	})
	if err != nil {
		return fmt.Errorf("start gossip: %w", err)
	}
	m.SetRemoved(d.plan.Removed())
	d.mesh = m
	d.replicate.mesh.Store(m)
	d.hearsay.mesh.Store(m)
	d.heardAt.mesh.Store(m)
	d.startRelays()
	if d.tunnels, err = encap.NewTunnels(d.log, drivers(d.opts, d.keep, d.own(), d.log)); err != nil {
		return err
	}
	if err = d.startProber(); err != nil {
		return err
	}
	for _, a := range d.plan.Allocations() {
		// One that may not be used any more is better than none: what it takes to
		// cut containers off is set up, and it is renewed when that can be.
		if a.Owner == ownerGateway && (a.Active || !d.gateway().IsValid()) {
			d.setGateway(a.Addr)
		}
	}
	if d.bridge, err = bridge.New(d.keep, d.log); err != nil {
		return err
	}
	d.publish()
	// Without a gateway there is nothing in the kernel; startKernel fails the
	// launch if it still does not work.
	d.note("reconcile", d.reconcileKernel())
	d.runPlan()
	_, err = m.Join(ctx)
	hasTo := fresh && len(d.opts.Join) > 0 && len(d.opts.Founders) == 0
	// It was greeted a moment ago: a packet was lost, or the token is being changed, and
	// that of this host is about to be refused, which says what is wrong.
	for end := d.now().Add(joinAgain); err != nil && hasTo && !isRefused(err) && ctx.Err() == nil && d.now().Before(end); {
		time.Sleep(joinPause)
		_, err = m.Join(ctx)
	}
	switch {
	case err != nil && hasTo:
		return d.explain(err)
	case err != nil:
		d.log.Warn("no peer answers yet; trying again in the background", "err", err)
	}
	return nil
}

// startKernel makes the first pass over the kernel, and puts back every
// container's end that is missing.
func (d *Daemon) startKernel() error {
	d.turnKeys()
	d.publish()
	return errors.Join(d.reconcileKernel(), d.remember())
}

// abandon undoes a launch that failed. What an earlier launch made stays.
func (d *Daemon) abandon(ctx context.Context, cause error) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		cause = &api.Error{Code: api.CodeTimeout, Message: fmt.Sprintf("the host was not ready within %s: %s", d.opts.Timeout, oneLine(cause)), Fix: "`weft launch --timeout` gives it more time"}
	}
	if !d.keep.Created() {
		return errors.Join(cause, d.close())
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), resetTimeout)
	defer cancel()
	report, err := d.leave(ctx, true)
	for _, left := range report.Left {
		d.log.Error("the failed launch leaves something behind", "what", left)
	}
	if err == nil {
		err = d.erase(report, d.setAside != "").err
	}
	err = errors.Join(err, d.close())
	if d.setAside != "" {
		// Else the next launch would take this host for a new one unasked.
		err = errors.Join(err, store.PutBack(d.opts.StateDir, d.setAside))
	}
	return errors.Join(cause, err)
}

// joinLine is what to type on the next host.
func (d *Daemon) joinLine() string {
	target := d.gossipAt().Addr().String()
	if d.opts.Port != DefaultPort {
		target = d.gossipAt().String()
	}
	return "weft launch --join " + target + " --token " + d.mesh.Tokens().Use.String()
}
