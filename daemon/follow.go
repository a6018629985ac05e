package daemon

import (
	"cmp"
	"context"
	"errors"
	"net/netip"
	"slices"
	"time"

	"github.com/weft-net/weft/engine"
	"github.com/weft-net/weft/internal/nl"
)

const (
	// listenAgain is the pause before an engine that ended is listened to again.
	listenAgain = time.Second
	// lookAtStopped is how often containers that are stopped for long are asked
	// for, should an event have been missed. podman takes a tenth of a second.
	lookAtStopped = time.Minute
	// reclaimTime bounds how long a container that starts waits for the
	// address that it had; after that it gets another.
	reclaimTime = 10 * time.Second
)

// everything stands for all containers of an engine, as nobody knows what
// happened while nobody listened.
const everything = ""

// followEngine keeps the attachments of an engine's containers at their
// containers until ctx ends: what begins again is put back, what is removed is
// forgotten.
func (d *Daemon) followEngine(ctx context.Context, e engine.Engine) {
	changed := make(chan string)
	tell := func(id string) {
		select {
		case changed <- id:
		case <-ctx.Done():
		}
	}
	go func() { // owned by the loop below, which ends after it
		defer close(changed)
		for ctx.Err() == nil {
			if d.hasContainersOf(e) {
				err := e.Watch(ctx, func() { tell(everything) }, tell)
				if ctx.Err() == nil {
					d.log.Debug("engine is not heard", "engine", e.Name(), "err", err)
				}
			}
			select {
			case <-ctx.Done():
			case <-time.After(listenAgain):
			}
		}
	}()
	tick, slow := time.NewTicker(period), time.NewTicker(lookAtStopped)
	defer tick.Stop()
	defer slow.Stop()
	for {
		select {
		case id, ok := <-changed:
			if !ok {
				return
			}
			d.followAll(ctx, e, func(a attachment) bool { return id == everything || a.ID == id })
		case <-tick.C:
			d.followAll(ctx, e, func(a attachment) bool { return !a.Released && !d.isAlive(a) })
		case <-slow.C:
			d.followAll(ctx, e, func(a attachment) bool { return a.Released })
		}
	}
}

func (d *Daemon) hasContainersOf(e engine.Engine) bool {
	return slices.ContainsFunc(d.listAttached(), func(a attachment) bool { return a.Engine == e.Name() })
}

func (d *Daemon) followAll(ctx context.Context, e engine.Engine, which func(attachment) bool) {
	for _, a := range d.listAttached() {
		if a.Engine != e.Name() || !which(a) || ctx.Err() != nil {
			continue
		}
		err := d.follow(ctx, e, a)
		if engine.IsSilent(err) {
			d.log.Debug("engine cannot be asked", "engine", e.Name(), "err", err)
			return // nothing is known of its containers: they keep what they have
		}
		if ctx.Err() == nil {
			d.note("follow container "+a.label(), err)
		}
	}
}

// follow makes one attachment right by what its engine says of its container.
func (d *Daemon) follow(ctx context.Context, e engine.Engine, a attachment) error {
	asking, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	// Without the container's lock: an engine may answer only when the request
	// that holds it is done.
	found, err := e.Find(asking, a.ID)
	if err != nil {
		return err
	}
	var c *container
	if len(found) == 1 && found[0].PID != 0 {
		running := &container{kind: e.Name(), reference: a.Reference, Container: found[0]}
		if err := d.open(asking, running); err == nil {
			c = running
			defer c.close()
		} else if !errors.Is(err, nl.ErrNotFound) {
			return err
		}
	}
	unlock, err := d.containers.lock(ctx, a.owner())
	if err != nil {
		return err
	}
	defer unlock()
	a, ok := d.attachedByKey(a.key()) // a request may have changed it
	if !ok {
		return nil
	}
	if c != nil {
		return d.reattach(ctx, a, c)
	}
	if d.isAlive(a) {
		return nil // it ends, or something else holds its namespace
	}
	late := d.goneFor(a) >= d.grace()
	switch {
	case len(found) == 0 && (late || e.KeepsStopped()):
		d.log.Info("container is removed", "container", a.label(), "address", a.Address)
		return d.dismantle(a)
	case late && !a.Released && len(found) == 1 && d.opts.ReleaseAfter > 0:
		d.log.Info("address of a stopped container is free", "container", a.label(), "address", a.Address)
		return d.release(a)
	}
	return nil
}

// settle finds out whether containers that have ended are removed, where
// somebody wants their addresses: no event may have told of it yet.
func (d *Daemon) settle(ctx context.Context, wanted []netip.Addr) {
	holds := func(a attachment) bool {
		return slices.ContainsFunc(wanted, func(w netip.Addr) bool { return w.IsValid() && slices.Contains(a.addresses(), w) })
	}
	for _, a := range d.attachedThat(holds) {
		if e := d.engineOf(a.Engine); e != nil && !d.isAlive(a) {
			d.note("follow container "+a.label(), d.follow(ctx, e, a))
		}
	}
}

// release frees the addresses of a container that is stopped, and remembers
// them for the case that it starts again.
func (d *Daemon) release(a attachment) error {
	a.Released = true
	if err := d.keep.saveAttachment(a); err != nil {
		return err
	}
	d.setAttached(a)
	var errs []error
	for _, addr := range a.addresses() {
		errs = append(errs, d.plan.Release(a.key(), addr))
	}
	return errors.Join(errs...)
}

// reattach puts a container that has started again back on the network, with
// the addresses that it had if they are free still. One that runs on only gets
// the name that it has now. The caller holds the container's lock.
func (d *Daemon) reattach(ctx context.Context, a attachment, c *container) error {
	before := a
	a.Name = c.Name
	if a.Released {
		if err := d.takeBack(ctx, &a); err != nil {
			return err
		}
	}
	a.Cookie, a.NetNS, a.Boot = c.cookie, c.path, d.boot
	moved := a.Cookie != before.Cookie || a.Boot != before.Boot || before.Released
	if moved || a.Name != before.Name || a.NetNS != before.NetNS {
		if err := d.keep.saveAttachment(a); err != nil {
			return err
		}
	}
	d.setAttached(a)
	d.notGone(a)
	if !moved {
		return nil
	}
	if _, err := d.plumb(a); err != nil {
		return err // the loop tries again
	}
	d.log.Info("attached again", "container", a.label(), "address", a.Address, "interface", a.Interface)
	return nil
}

// takeBack gives an attachment the addresses that it had. Those that are not to
// be had any more are left out, and if none is left it gets a new one.
func (d *Daemon) takeBack(ctx context.Context, a *attachment) error {
	var got []netip.Addr
	for _, addr := range a.addresses() {
		claiming, cancel := context.WithTimeout(ctx, reclaimTime)
		_, err := d.takeAddress(claiming, a.key(), addr, netip.Prefix{})
		cancel()
		if err != nil {
			d.log.Info("a container that starts again does not get its address back", "container", a.label(), "address", addr, "err", err)
			continue
		}
		got = append(got, addr)
	}
	if len(got) == 0 {
		var subnet netip.Prefix
		if len(a.Subnets) > 0 {
			subnet = a.Subnets[0]
		}
		addr, err := d.takeAddress(ctx, a.key(), netip.Addr{}, subnet)
		if err != nil {
			return err
		}
		got = []netip.Addr{addr}
	}
	a.Address, a.More, a.Released = got[0], got[1:], false
	return nil
}

// label is what people call the container.
func (a attachment) label() string { return cmp.Or(a.Name, a.Reference) }
