// Package daemon is the one package that knows everyone: it wires mesh, ipam,
// bridge and encap to each other and to the store, runs the loop that makes
// the kernel follow what is known, and serves the control socket. What a peer,
// an address, a bridge or a tunnel is, it leaves to those packages.
package daemon

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/weft-net/weft/api"
	"github.com/weft-net/weft/bridge"
	"github.com/weft-net/weft/encap"
	"github.com/weft-net/weft/encap/probe"
	"github.com/weft-net/weft/engine"
	"github.com/weft-net/weft/internal/nl"
	"github.com/weft-net/weft/ipam"
	"github.com/weft-net/weft/mesh"
)

// ReadyAlias marks the interface of a container that is ready, inside.
const ReadyAlias = bridge.ReadyAlias

// Daemon is one host's weft. Its fields up to the blank line are set while it
// is launched and never change after.
type Daemon struct {
	opts       Options
	keptBridge string      // the bridge's name before this launch
	given      HostOptions // those of opts that somebody gave, now or earlier
	log        *slog.Logger
	now        func() time.Time
	keep       keep
	setAside   string // where this launch put a store that could not be read; "" if it did not
	identity   mesh.Identity
	life       mesh.Life
	copied     string     // what the run before found out: this store is another host's, too; "" for nothing
	became     uuid.UUID  // the peer that this host was until this launch; Nil if it is the same
	token      mesh.Token // as it was at the start; the mesh knows which is used now
	// tokenBefore is what this host used before the launch that gave it another token,
	// and tokenGiven that one, if it is an old one.
	tokenBefore mesh.Token
	tokenGiven  []mesh.Token
	settings    settings
	hostCookie  uint64 // of the host's own network namespace
	boot        string // the kernel's id of this run of the machine
	engines     []engine.Engine
	started     time.Time
	conn        *nl.Conn
	mesh        *mesh.Mesh
	plan        *ipam.Allocator
	bridge      *bridge.Bridge
	tunnels     *encap.Tunnels
	can         []string // transports that this host has and the mesh may use
	replicate   *replicate

	// kernel serialises everything that changes the kernel, so that a pass of
	// the loop never sees half an attachment.
	kernel     sync.Mutex
	containers keyedLock // by owner
	endpoints  keyedLock // by name; comes before that of the container
	attached   attached
	overdue    unsettled
	// serves tells that a container runtime asks for this host's containers, a
	// kubelet or the like. It stays so until the daemon ends: rules follow from it
	// that are not to be made anew with each first container and last.
	serves     atomic.Bool
	cni        sync.Mutex // serialises changes of what CNI runtimes find
	targets    targets
	keys       keys
	relays     relays
	hearsay    *hearsay
	health     health
	linked     linkPlan // as the kernel follows it; the kernel's lock guards it
	made       made     // likewise
	publishing sync.Mutex
	underlay   atomic.Pointer[[]netip.Addr] // see underlays
	forwarded  []netip.Addr                 // see announced; does not change
	waysFound  time.Time                    // when findWays last did; of the loop alone
	underlayAt time.Time                    // when it was last looked for; only reconcile uses it
	homes      homes                        // of its addresses; the launch and then reconcile use it
	untrusted  []string                     // devices that lead into no trusted network; guarded by kernel
	heardAt    seen
	remembered []byte                      // last snapshot written; only reconcile uses it
	narrow     map[netip.Addr]encap.Narrow // ways to others' addresses on the underlay; guarded by kernel
	decided    map[uuid.UUID]*link         // of each peer; nil until the first pass; guarded by kernel
	// refused are hosts that may not send directly, by underlay address, with their
	// hardware addresses, zero where not known; guarded by kernel.
	refused map[netip.Addr]nl.MAC

	tunnel atomic.Pointer[tunnel]
	prober atomic.Pointer[probe.Prober]
	// probeSecret is the prober's; guarded by kernel.
	probeSecret []byte
	bridged     atomic.Pointer[netip.Addr] // see gateway
	// background runs the address plan until halt.
	background sync.WaitGroup
	halt       context.CancelFunc
	enforced   atomic.Uint64             // the plan's fence that the kernel follows
	looked     atomic.Pointer[time.Time] // when the loop last was through with a pass
	leaving    atomic.Bool               // a reset hands the address space over: none is given out any more

	speaking  sync.WaitGroup // requests that end the daemon, until their answer is on its way
	lastConns sync.Map       // connections of those that wait for the daemon's end

	// end is closed when a request over the socket asks the daemon to end, and
	// erasing carries one that asks it to remove every trace first.
	end     chan struct{}
	endOnce sync.Once
	endAll  atomic.Bool // the processes of the transport are to end, too
	standBy atomic.Bool // another daemon takes this one's place
	erasing chan erasure
}

// tunnel is what others may know of the tunnels, which only the holder of the
// kernel's lock may ask.
type tunnel struct {
	mtu       int
	userspace bool
	links     []linkView
}

// Run launches a daemon and lives until ctx ends or a request over the socket
// says so. It calls progress after each step of the launch, and ready once
// containers can be attached. A launch that fails leaves nothing behind that
// it made. Errors for the user are, or wrap, *api.Error; ErrReplaced is none.
func Run(ctx context.Context, o Options, log *slog.Logger, progress func(Step), ready func(Ready)) error {
	copied, err := run(ctx, o, log, "", progress, ready)
	for copied != "" && err == nil {
		o.SetAside = false
		copied, err = run(ctx, o, log, copied, progress, ready)
	}
	return err
}

// run is one life of a daemon. It ends, and says why, when another host is found
// to be the same peer and this one has to begin anew as another.
func run(ctx context.Context, o Options, log *slog.Logger, why string, progress func(Step), ready func(Ready)) (copied string, err error) {
	d := &Daemon{opts: o, log: log, now: time.Now, copied: why, homes: homes{}, end: make(chan struct{}), erasing: make(chan erasure)}
	d.life = mesh.NewLife(d.now())
	d.tunnel.Store(&tunnel{})
	d.heardAt = seen{d: d, said: map[uuid.UUID]sighting{}}
	d.containers.held = map[string]chan struct{}{}
	d.endpoints.held = map[string]chan struct{}{}
	d.attached.byKey = map[string]attachment{}
	d.attached.goneAt = map[string]time.Time{}
	d.health.failing = map[string]error{}
	// What was dropped before this daemon is news as well: it is looked at when asked.
	d.health.tallies = map[string]tally{spoofed: {}}
	d.keys.begun = make(chan struct{}, 1)
	d.hearsay = newHearsay(d.steadily)
	if err := o.Validate(); err != nil {
		return "", err
	}
	turn, err := d.awaitTurn(ctx)
	if errors.Is(err, context.Canceled) {
		return "", nil // there is nothing to end
	}
	if err != nil {
		return "", err
	}
	srv, err := d.launch(ctx, turn, progress, ready)
	if err != nil {
		return "", err
	}
	defer d.close()

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	wg.Go(func() { d.loop(ctx) })
	for _, e := range d.engines {
		wg.Go(func() { d.followEngine(ctx, e) })
	}
	select {
	case <-ctx.Done():
	case <-d.end:
		defer d.speaking.Wait()
	case copied = <-d.mesh.Copied():
	case e := <-d.erasing:
		// The loop would put back what is being removed.
		cancel()
		wg.Wait()
		e.reply <- d.erase(e.report, false)
		d.endOnce.Do(func() { close(d.end) }) // another that asks for a reset now must not wait for ever
		defer d.speaking.Wait()
		return "", srv.close()
	}
	d.endOnce.Do(func() { close(d.end) }) // however it ends, nobody waits for this any more
	err = srv.close()
	cancel()
	wg.Wait()
	if d.endAll.Load() {
		log.Info("daemon stops, and all that it runs with it")
		d.haltPlan() // or it would start again what is being ended
		d.kernel.Lock()
		defer d.kernel.Unlock()
		return "", errors.Join(err, d.tunnels.End())
	}
	if copied == "" {
		log.Info("daemon stops; traffic goes on without it")
	}
	if d.standBy.Load() {
		err = errors.Join(err, ErrReplaced)
	}
	return copied, err
}

// engines are the container engines that this host may have.
func engines(o Options) []engine.Engine {
	return []engine.Engine{engine.NewDocker(o.DockerSocket), engine.NewPodman(), engine.NewContainerd(engine.DefaultContainerdState)}
}

// Stop ends Run, once the request that asked for it is answered.
func (d *Daemon) Stop(req api.StopRequest) error {
	if req.StandBy {
		if err := d.mayReplace(); err != nil {
			return err
		}
		d.standBy.Store(true)
	}
	if req.All { // another that asks for less does not take it back
		d.endAll.Store(true)
	}
	d.endOnce.Do(func() { close(d.end) })
	return nil
}

// StopAll ends the processes that a daemon which runs no more has left, and
// tells whether there was any.
func StopAll(o Options) (bool, error) { return processes(o).EndAll() }

// close lets go of everything in this process and of nothing in the kernel.
func (d *Daemon) close() error {
	var errs []error
	d.haltPlan()
	if d.mesh != nil {
		errs = append(errs, d.mesh.Close())
	}
	if p := d.prober.Load(); p != nil {
		p.Close()
	}
	d.kernel.Lock() // a request whose end was not waited for may be at work
	defer d.kernel.Unlock()
	if d.tunnels != nil {
		errs = append(errs, d.tunnels.Close())
	}
	if d.bridge != nil {
		d.bridge.Close()
	}
	if d.conn != nil {
		d.conn.Close()
	}
	errs = append(errs, d.overdue.close())
	if d.keep.Store != nil {
		errs = append(errs, d.keep.Close())
	}
	return errors.Join(errs...)
}

// alias marks the devices that belong to this mesh.
func (d *Daemon) alias() string { return nl.AliasPrefix + d.token.MeshID.String() }

// mtu of the containers, in bytes.
func (d *Daemon) mtu() int { return d.tunnel.Load().mtu }

// hasLink tells whether the host has a device of that name.
func (d *Daemon) hasLink(name string) bool {
	_, err := d.conn.Link(name)
	return err == nil
}

// bridgeMAC is the bridge's hardware address: locally administered, and the
// same for the same peer after a restart of the machine.
func bridgeMAC(id uuid.UUID) net.HardwareAddr {
	return net.HardwareAddr{0x0e, id[11], id[12], id[13], id[14], id[15]}
}
