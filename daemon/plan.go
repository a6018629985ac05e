package daemon

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/weft-net/weft/api"
	"github.com/weft-net/weft/ipam"
	"github.com/weft-net/weft/mesh"
)

// startPlan reads the address plan.
func (d *Daemon) startPlan(p peerState) error {
	var err error
	d.replicate = &replicate{d: d, enforce: make(chan struct{}, 1)}
	d.plan, err = ipam.NewAllocator(p.planConfig(), planStore{d.keep.Store}, d.replicate, rand.Uint64()>>16<<16)
	if err != nil {
		return err
	}
	d.plan.SetIdle(*d.opts.Observer)
	if n := len(p.settings.Founders); slices.ContainsFunc(p.settings.Founders, d.isAt) {
		d.plan.SetShare(d.plan.Status().Blocks / n)
	}
	d.replicate.plan.Store(d.plan)
	return d.readAttachments()
}

// readAttachments brings back the attachments, and frees what an attach that
// was cut off by a crash had allocated.
func (d *Daemon) readAttachments() error {
	kept, err := d.keep.attachments()
	if err != nil {
		return err
	}
	for key, a := range kept {
		// A namespace without an engine does not outlive a restart of the
		// machine, after which another may have its number.
		if a.Engine == "" && !d.isOfThisBoot(a) {
			if err := d.keep.dropAttachment(key); err != nil {
				return err
			}
			delete(kept, key)
		}
	}
	for _, a := range kept {
		if a.Network != "" {
			d.serves.Store(true)
		}
	}
	d.attached.byKey = kept
	for _, a := range d.plan.Allocations() {
		if at, ok := kept[a.Owner]; !(ok && !at.Released && slices.Contains(at.addresses(), a.Addr)) && a.Owner != ownerGateway && a.Owner != ownerExpose && !isReservation(a.Owner) {
			if err := d.plan.Release(a.Owner, a.Addr); err != nil {
				return err
			}
		}
	}
	return nil
}

// runPlan gives the plan its ticks, and has the kernel follow it without delay
// where others wait for that. It ends with the daemon.
func (d *Daemon) runPlan() {
	ctx, cancel := context.WithCancel(context.Background())
	d.halt = cancel
	d.background.Go(func() {
		silent := quiet{since: map[uuid.UUID]time.Time{}, lapsed: map[uuid.UUID]bool{}}
		tick := time.NewTicker(ipam.TickEvery)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-d.replicate.enforce:
			case <-tick.C:
				d.note("plan", d.plan.Tick())
				d.expire(silent)
			}
			d.enforceNow()
		}
	})
}

// haltPlan ends what runPlan began.
func (d *Daemon) haltPlan() {
	if d.halt != nil {
		d.halt()
		d.background.Wait()
	}
}

// enforceNow makes the kernel follow the last decision, if it does not yet.
func (d *Daemon) enforceNow() {
	if d.enforced.Load() == d.plan.Fence() {
		return
	}
	d.note("reconcile", d.reconcileKernel())
}

// quiet is which other hosts do not answer, as this process has watched them.
type quiet struct {
	since map[uuid.UUID]time.Time
	// lapsed are those that have been silent for too long and have nothing in the
	// address plan that could be given away: they are only not waited for any more.
	lapsed map[uuid.UUID]bool
}

// expire asks the council to shut out peers that have left, and those that have
// not answered for as long as this process has watched them and for too long.
// While no majority of the voters answers it is this host that is cut off, and
// nobody's silence counts: else all would shut out each other after an outage.
func (d *Daemon) expire(silent quiet) {
	after := d.opts.ReclaimAfter
	cutOff := !d.plan.HearsMajority()
	removed := d.plan.Removed()
	if len(silent.lapsed) > 0 {
		removed = maps.Clone(removed) // it must not be changed
		maps.Copy(removed, silent.lapsed)
	}
	d.mesh.SetRemoved(removed)
	var errs []error
	for _, p := range d.mesh.Peers() {
		since, known := silent.since[p.ID]
		long := known && after > 0 && d.now().Sub(since) > after
		switch {
		case p.Self:
		case p.State == mesh.StateDeparted:
			delete(silent.since, p.ID)
			errs = append(errs, d.plan.Expire(p.ID, true))
		case p.State == mesh.StateRemoved:
			delete(silent.since, p.ID)
		case p.State == mesh.StateAlive, cutOff:
			delete(silent.since, p.ID)
			delete(silent.lapsed, p.ID)
			if long {
				d.plan.Spare(p.ID)
			}
		case !known:
			silent.since[p.ID] = d.now()
		case long && !d.plan.Knows(p.ID):
			silent.lapsed[p.ID] = true
		case long:
			errs = append(errs, d.plan.Expire(p.ID, false))
		}
	}
	d.note("expire", errors.Join(errs...))
}

// found makes this host the founder of the mesh's address plan, if it is the one
// who should be: the only host there is, or of several that are to found it
// together the one with the lowest id. The others wait until they hear of it.
func (d *Daemon) found(ctx context.Context, step func(name, detail string)) error {
	founders := d.settings.Founders
	if d.plan.Status().Index > 0 {
		return nil
	}
	if len(founders) == 0 {
		if len(d.targets.list) > 0 {
			return nil // another host has, or will
		}
		return d.plan.Found()
	}
	waiting := ""
	for d.plan.Status().Index == 0 {
		ids, missing := d.founders()
		if joins := len(d.opts.Join) > 0 && len(d.opts.Founders) == 0; len(missing) == 0 && !joins && !d.isFounded() {
			if slices.MinFunc(ids, compareIDs) == d.identity.ID {
				return d.plan.Found()
			}
		}
		if now := fmt.Sprint(missing); now != waiting && len(missing) > 0 {
			waiting = now
			step("wait for founders", fmt.Sprintf("%v of %v have not answered", missing, founders))
		}
		select {
		case <-ctx.Done():
			if len(missing) == 0 {
				return &api.Error{Code: api.CodeTimeout, Message: "all founders are there, and none has told this host of the address plan",
					Fix: "`weft status` on the others shows whether they reach this host"}
			}
			return &api.Error{Code: api.CodeTimeout, Message: fmt.Sprintf("of the founders %v these have not answered: %v", founders, missing),
				Fix: "launch weft on them with the same --founders and --token; or launch all anew with a list of those that are there"}
		case <-time.After(50 * time.Millisecond):
		}
	}
	return nil
}

// founders are the peers at the addresses that are to found the mesh, and the
// addresses at which there is none yet.
func (d *Daemon) founders() (ids []uuid.UUID, missing []string) {
	at := map[netip.AddrPort]uuid.UUID{}
	for _, p := range d.mesh.Peers() {
		if p.State == mesh.StateAlive {
			for _, a := range p.Record.Gossip {
				at[a] = p.ID
			}
		}
	}
	for _, f := range d.settings.Founders {
		a, err := netip.ParseAddrPort(f)
		if id, ok := at[a]; err == nil && ok {
			ids = append(ids, id)
			continue
		}
		missing = append(missing, f)
	}
	return ids, missing
}

// isFounded tells whether somebody has address space: what is known of the plan
// comes a moment after the records of the peers. A founder that was reset and is
// launched again must not found another plan because its new id is the lowest.
func (d *Daemon) isFounded() bool {
	return slices.ContainsFunc(d.mesh.Peers(), func(p mesh.Peer) bool { return !p.Self && len(p.Record.Prefixes) > 0 })
}

func compareIDs(a, b uuid.UUID) int { return slices.Compare(a[:], b[:]) }

// gateway is the bridge's own address; invalid until the plan gave one.
func (d *Daemon) gateway() netip.Addr {
	if a := d.bridged.Load(); a != nil {
		return *a
	}
	return netip.Addr{}
}

func (d *Daemon) setGateway(a netip.Addr) { d.bridged.Store(&a) }

// takeGateway allocates the bridge's own address, if there is none.
func (d *Daemon) takeGateway(ctx context.Context) error {
	unlock, err := d.containers.lock(ctx, ownerGateway) // two at once would give two addresses
	if err != nil {
		return fmt.Errorf("wait for another request: %w", err)
	}
	defer unlock()
	if d.gateway().IsValid() {
		return nil
	}
	addr, err := d.takeAddress(ctx, ownerGateway, netip.Addr{}, netip.Prefix{})
	if err == nil {
		d.setGateway(addr)
	}
	return err
}

// renewGateway gives the bridge another address where this host may not use the
// one it has any more. Until there is one the old one stays: it leads nowhere
// but to this host.
func (d *Daemon) renewGateway() {
	old := d.gateway()
	if d.leaving.Load() || !old.IsValid() || slices.Contains(d.plan.Owned(ownerGateway), old) || !d.plan.Status().Lodged {
		return
	}
	var errs []error
	for _, a := range d.plan.Allocations() {
		if a.Owner == ownerGateway && !a.Active {
			errs = append(errs, d.plan.Release(ownerGateway, a.Addr))
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), ipam.TickEvery)
	defer cancel()
	addr, err := d.plan.Allocate(ctx, ownerGateway, d.settings.Range)
	if d.note("gateway", errors.Join(append(errs, err)...)); err == nil {
		d.log.Info("the bridge has another address", "old", old, "new", addr)
		d.setGateway(addr)
	}
}
