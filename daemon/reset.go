package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/weft-net/weft/api"
	"github.com/weft-net/weft/bridge"
	"github.com/weft-net/weft/internal/journal"
	"github.com/weft-net/weft/internal/nl"
	"github.com/weft-net/weft/internal/store"
	"github.com/weft-net/weft/internal/ula"
	"github.com/weft-net/weft/ipam"
)

// resetTimeout bounds the hand-over of address space and the farewell.
const resetTimeout = 20 * time.Second

// LogName is the log of a daemon in the background, in its state directory.
const LogName = "weft.log"

// Reset hands this host's address space to another peer, says farewell to the
// mesh, removes every trace from the kernel and the disk, and ends the daemon.
func (d *Daemon) Reset(ctx context.Context, req api.ResetRequest) (api.ResetReport, error) {
	ctx, cancel := context.WithTimeout(ctx, resetTimeout)
	defer cancel()
	report, err := d.leave(ctx, req.Force)
	if err != nil {
		return report, err
	}
	e := erasure{report: report, reply: make(chan erased, 1)}
	select {
	case d.erasing <- e:
		done := <-e.reply
		return done.report, done.err
	case <-d.end:
		return report, &api.Error{Code: api.CodeConflict, Message: "the daemon is ending already", Fix: "`weft reset` again once it has"}
	}
}

// erasure asks Run to remove every trace, and erased is how it went.
type erasure struct {
	report api.ResetReport
	reply  chan erased
}

type erased struct {
	report api.ResetReport
	err    error
}

// leave is the farewell: this host's address space goes to another peer, and
// the mesh hears that it will not come back.
func (d *Daemon) leave(ctx context.Context, force bool) (api.ResetReport, error) {
	var report api.ResetReport
	if d.mesh != nil {
		d.plan.SetIdle(true) // once the council has let this host go, it does not come back
		heir, err := d.handOver(ctx)
		if err != nil && !force {
			d.plan.SetIdle(*d.opts.Observer)
			return report, err
		}
		if err != nil {
			report.Left = append(report.Left, "address space: "+oneLine(err))
		}
		report.HandedTo = heir
		d.leaving.Store(true)
		if err := d.resign(ctx); err != nil && !force {
			d.leaving.Store(false)
			d.plan.SetIdle(*d.opts.Observer)
			return report, err
		} else if err != nil {
			report.Left = append(report.Left, "membership: "+oneLine(err))
		}
		if err := d.mesh.Depart(ctx); err != nil {
			report.Left = append(report.Left, "farewell: "+oneLine(err))
		}
	}
	return report, nil
}

// erase removes this host's weft from the kernel and the disk. What CNI runtimes
// find it by stays where the store that noted it comes back.
func (d *Daemon) erase(report api.ResetReport, keepCNI bool) erased {
	d.haltPlan() // or it would put back what is being removed
	d.kernel.Lock()
	defer d.kernel.Unlock()
	tunnels := func() ([]string, error) { return nil, nil }
	if d.tunnels != nil { // else this launch did not get as far, and what there is is another's
		tunnels = func() ([]string, error) { return removeTunnels(d.opts, d.keep, d.own(), d.log) }
	}
	presented := func() ([]string, error) { return eraseCNI(d.keep, d.opts) }
	if keepCNI {
		presented = func() ([]string, error) { return nil, nil }
	}
	report, err := erase(report, d.keep, d.opts, d.own(), presented, tunnels, d.bridge)
	return erased{report, err}
}

// handOver gives all address space to the peer with the most to spare; a peer
// that is alone has nobody to give it to, and its mesh ends with it. Its own
// containers and addresses go first, since only what is empty can be given.
func (d *Daemon) handOver(ctx context.Context) (string, error) {
	others := 0
	for _, p := range d.mesh.Peers() {
		if !p.Self && !p.IsOut() {
			others++
		}
	}
	if others == 0 || len(d.plan.Prefixes(d.identity.ID)) == 0 {
		return "", nil
	}
	heirs := ipam.Donors(d.replicate.Donors())
	if len(heirs) == 0 {
		return "", &api.Error{Code: api.CodeTimeout,
			Message: fmt.Sprintf("no peer answers that could take over this host's address space %v", d.plan.Prefixes(d.identity.ID)),
			Fix:     "start one of them again, or `weft reset --force`: the others inherit it once they have agreed that this host is gone"}
	}
	if !d.canResign() {
		return "", &api.Error{Code: api.CodeConflict, Message: "this host alone decides on the address plan, and no other could in its place",
			Fix: "have a host that is no observer join first, or `weft reset --force`: the others then need `weft rmpeer --force`"}
	}
	d.leaving.Store(true)
	heir, err := d.giveAll(ctx, heirs)
	if err != nil {
		// The host stays, and so does its bridge's address, if it is still ours.
		d.leaving.Store(false)
		return "", d.explain(errors.Join(err, d.plan.Claim(ctx, ownerGateway, d.gateway())))
	}
	return d.nameOf(heir), nil
}

// canResign tells whether the council can go on without this host.
func (d *Daemon) canResign() bool {
	status, live := d.plan.Status(), d.replicate.Live()
	if len(status.Voters) != 1 || status.Voters[0] != d.identity.ID {
		return true
	}
	return slices.ContainsFunc(status.Members, func(s ipam.Share) bool { return live[s.Peer] && !s.Sealed })
}

// resignTime bounds how long the council is waited for to let this host go.
const resignTime = 12 * time.Second

// resign has the council let this host go. The others can do that later, if
// they have a majority of the voters without this host.
func (d *Daemon) resign(ctx context.Context) error {
	status := d.plan.Status()
	if !status.Lodged || len(d.replicate.Live()) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, resignTime)
	defer cancel()
	err := d.plan.Leave(ctx)
	if err != nil && !slices.Contains(status.Voters, d.identity.ID) {
		d.log.Warn("the others have to remove this host by themselves", "err", oneLine(err))
		return nil
	}
	return d.explain(err)
}

func (d *Daemon) giveAll(ctx context.Context, heirs []uuid.UUID) (uuid.UUID, error) {
	for _, a := range d.listAttached() {
		if err := d.detach(ctx, a); err != nil {
			return uuid.Nil, err
		}
	}
	for _, a := range d.plan.Allocations() {
		if err := d.plan.Release(a.Owner, a.Addr); err != nil {
			return uuid.Nil, err
		}
	}
	return d.plan.HandOver(ctx, heirs)
}

// Reset removes every trace of a weft whose daemon does not run. Its address
// space can then not be handed over, which takes force. Where its store is lost, the
// bridge of the options says what is of that weft.
func Reset(ctx context.Context, o Options, log *slog.Logger, force bool) (api.ResetReport, error) {
	if o.Bridge != "" && !bridgeName.MatchString(o.Bridge) {
		return api.ResetReport{}, &api.Error{Code: api.CodeInvalid, Message: fmt.Sprintf("no weft has a bridge named %q", o.Bridge)}
	}
	k, p, _, err := openKeep(o.StateDir, false)
	var report api.ResetReport
	var locked *store.LockedError
	var known *api.Error
	switch {
	case errors.Is(err, store.ErrNotFound):
		if o.Bridge == "" && o.StateDir == DefaultStateDir {
			o.Bridge = DefaultBridge
		}
		left, e := leftDevices(o)
		if e != nil || len(left) == 0 {
			return api.ResetReport{Removed: []string{}}, e
		}
		if !force {
			return report, &api.Error{Code: api.CodeConflict,
				Message: fmt.Sprintf("there is no store in %s, and the kernel has %s of a weft", o.StateDir, strings.Join(left, ", ")),
				Fix:     "if its store is in another directory, give that as --state-dir; if it is lost, `weft reset --force`: the others inherit this host's address space once they have agreed that it is gone"}
		}
		if k, p, _, err = openKeep(o.StateDir, true); err == nil {
			report.Left = append(report.Left, "sysctls that weft changed: what they were was in the store")
		}
	case errors.As(err, &locked):
		return report, &api.Error{Code: api.CodeConflict, Message: locked.Error(), Fix: "give its --socket, or end it first"}
	case force && (unreadable(err) || errors.As(err, &known)):
		var aside string
		if k, aside, err = setAside(o, log, err); err == nil {
			report.Left = append(report.Left, "the store that could not be read, as "+aside)
		}
	}
	if err != nil {
		return report, explainStore(err, "`weft reset --force` keeps it under another name and removes the rest")
	}
	others := 0
	if others, err = k.others(p); err == nil && others > 0 && !force {
		err = &api.Error{Code: api.CodeUnavailable, Message: "the daemon is not running, so this host's address space cannot be handed over",
			Fix: "`weft launch` and reset then, or `weft reset --force`: the others inherit it once they have agreed that this host is gone"}
	}
	if err != nil && !force {
		return api.ResetReport{}, errors.Join(err, k.Close())
	}
	if p.host.Bridge == "" {
		p.host.Bridge = cmp.Or(o.Bridge, leftBridge())
	}
	o.HostOptions = p.host.or(defaultHost())
	b, err := bridge.New(k, log)
	if err != nil {
		return api.ResetReport{}, errors.Join(err, k.Close())
	}
	defer b.Close()
	presented := func() ([]string, error) { return eraseCNI(k, o) }
	var own ula.Ranges
	if p.settings.Range.IsValid() { // else the store is lost, and does not tell
		own = ula.RangesOf(p.token.MeshID, p.settings.Range)
	}
	tunnels := func() ([]string, error) { return removeTunnels(o, k, own, log) }
	return erase(report, k, o, own, presented, tunnels, b)
}

// erase removes what weft has in the kernel and on the disk. The store goes
// last and only if all else went, so that a second reset can finish the first.
func erase(report api.ResetReport, k keep, o Options, own ula.Ranges, presented, tunnels func() ([]string, error), b *bridge.Bridge) (api.ResetReport, error) {
	gone, err := presented()
	removed, e := removeFromKernel(k, o, own, tunnels, b)
	report.Removed = append(append(report.Removed, gone...), removed...)
	if err = errors.Join(err, e, journal.Destroy(o.StateDir)); err != nil {
		return report, err
	}
	if err := os.Remove(o.Socket); err == nil {
		report.Removed = append(report.Removed, o.Socket)
	}
	_ = os.Remove(filepath.Dir(o.Socket)) // only if it is empty: others may use it
	if err := k.Destroy(LogName, LogName+".old"); err != nil {
		return report, err
	}
	report.Removed = append(report.Removed, o.StateDir)
	report.Removed = slices.Sorted(maps.Keys(set(report.Removed)))
	return report, nil
}

// removeFromKernel removes what weft has in the kernel, and puts the sysctls
// back that the store knows.
func removeFromKernel(k keep, o Options, own ula.Ranges, tunnels func() ([]string, error), b *bridge.Bridge) (removed []string, err error) {
	sysctls, err := k.sysctls()
	gone, e := tunnels()
	removed, err = append(removed, gone...), errors.Join(err, e)
	if b != nil {
		gone, e := b.Remove(o.Bridge, o.deviceNames(), sysctls, own)
		removed, err = append(removed, gone...), errors.Join(err, e)
	}
	if err != nil {
		return removed, fmt.Errorf("remove weft from the kernel: %w", err)
	}
	return removed, nil
}

// leftDevices are those of a bridge and its tunnels that weft has in the kernel; none
// without a bridge's name, since they could be of a weft whose store is elsewhere.
func leftDevices(o Options) (names []string, err error) {
	if o.Bridge == "" {
		return nil, nil
	}
	conn, err := nl.Open()
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	for _, name := range append([]string{o.Bridge}, o.deviceNames()...) {
		l, err := conn.Link(name)
		switch {
		case errors.Is(err, nl.ErrNotFound):
		case err != nil:
			return nil, err
		case l.IsWeft():
			names = append(names, name)
		}
	}
	return names, nil
}

func set(list []string) map[string]bool {
	out := make(map[string]bool, len(list))
	for _, v := range list {
		out[v] = true
	}
	return out
}
