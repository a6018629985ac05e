package encap

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/weft-net/weft/internal/nl"
)

// Instance is one end of this host: a transport with a device of its own. There
// may be several of one transport, each with its port and key.
type Instance struct {
	Transport string
	Device    string
	Port      uint16     // UDP
	Key       PrivateKey // of WireGuard
	// Underlay and Also are this host's addresses that it ends at; the zero value
	// for those of Local.
	Underlay, Also netip.Addr
}

// at is local as an instance has it.
func (i Instance) at(local Local) Local {
	local.Device, local.Port, local.Key = i.Device, i.Port, i.Key
	if i.Underlay.IsValid() {
		local.Underlay, local.Also = i.Underlay, i.Also
	}
	return local
}

// Remote is a peer with the ways to it. What of Peer belongs to a way is there.
type Remote struct {
	Peer
	Ways   map[string]Way // those that are allowed, by this host's device
	Chosen string         // the device that carries its traffic; "" for none
	// ChosenIPv6 is the device that carries its traffic in IPv6.
	ChosenIPv6 string
	// Narrow are those of its addresses on the underlay to which the way is, with
	// the MTU of that; see type Narrow.
	Narrow map[netip.Addr]int
}

// Way is the other end of one path.
type Way struct {
	Port uint16    // UDP; 0 for the same as here
	Key  PublicKey // of WireGuard
	MTU  int       // bytes, the most that the path takes; 0 for what the device does
	// Underlay is the other end's address on the underlay; the zero value for the
	// peer's.
	Underlay netip.Addr
	// Endpoints are where that end is looked for, one after the other, of WireGuard;
	// none for the underlay address alone.
	Endpoints []netip.AddrPort
	// Patience is for how long nothing may come from that end before it is looked for
	// elsewhere; 0 for as long as a session may last.
	Patience time.Duration
}

// Tunnels are all of this host's ends, and the routes over them. They are not
// safe for concurrent use.
type Tunnels struct {
	log   *slog.Logger
	conn  *nl.Conn
	make  func(transport string) (Driver, error)
	held  map[string]*end // by device
	idle  map[string]bool // devices that were found unused, and removed
	links map[uuid.UUID]Link
	taken error // see Taken
	// narrow are where the last Set's routes over the underlay lead; nil before the first.
	narrow map[netip.Prefix]bool
}

// end is a driver, what it was told that this host's end is, and the peers that it
// is ready for.
type end struct {
	Driver
	local Local
	peers []Peer
}

// NewTunnels returns the tunnels of the caller's network namespace. Make makes
// the driver of a transport.
func NewTunnels(log *slog.Logger, make func(transport string) (Driver, error)) (*Tunnels, error) {
	conn, err := nl.Open()
	if err != nil {
		return nil, err
	}
	return &Tunnels{log: log, conn: conn, make: make, held: map[string]*end{}, idle: map[string]bool{}}, nil
}

// MTU is the most that any of the instances takes, in bytes; routes say where it
// is less.
func (t *Tunnels) MTU(local Local, instances []Instance) (int, error) {
	most := 0
	for _, i := range instances {
		underlay := i.at(local).Underlay
		dev, err := underlayDevice(t.conn, underlay)
		if err != nil {
			return 0, err
		}
		most = max(most, Fits(i.Transport, underlay, dev.MTU))
	}
	if local.MTU != 0 {
		most = min(most, local.MTU)
	}
	if most < minMTU && local.MTU == 0 {
		return 0, fmt.Errorf("the underlay leaves an MTU of %d, and %d are needed: raise it on the device of %s", most, minMTU, local.Underlay)
	}
	return local.deviceMTU(most), nil
}

// Set makes this host have exactly these instances, of which each is ready for
// the peers that have a way by it, and leads the traffic of each peer by its
// chosen one. What moves from one device to another moves in one step: first all
// ends are made ready for what was and what comes, then routes are set, and last
// ends are let go. Those of idle that are there are removed. It goes on past
// errors: what has no way loses its routes. Taken has those that matter to no peer.
func (t *Tunnels) Set(local Local, instances, idle []Instance, peers []Remote) error {
	errs := []error{t.followNames()}
	wanted := map[string]bool{}
	exact := map[string][]Peer{}
	failed := map[string]error{}
	for _, i := range instances {
		wanted[i.Device] = true
		exact[i.Device] = peersOf(i, instances, peers)
		failed[i.Device] = t.prepare(local, i, exact[i.Device], peers)
	}
	errs = append(errs, t.lead(local, wanted, peers))
	for _, device := range slices.Sorted(maps.Keys(t.held)) {
		if h := t.held[device]; wanted[device] && !reflect.DeepEqual(h.peers, exact[device]) {
			failed[device] = errors.Join(failed[device], h.set(exact[device]))
		} else if !wanted[device] {
			errs = append(errs, t.drop(device))
		}
	}
	for _, i := range idle {
		if !wanted[i.Device] && !t.idle[i.Device] {
			errs = append(errs, t.clear(i))
		}
	}
	t.links = t.chosenLinks(peers)
	t.taken = nil
	for _, device := range slices.Sorted(maps.Keys(failed)) {
		err := failed[device]
		needed := slices.ContainsFunc(peers, func(p Remote) bool { return p.Chosen == device || p.ChosenIPv6 == device })
		if OnlyPortsTaken(err) && !needed {
			t.taken = errors.Join(t.taken, err)
			continue
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// Taken are the errors of devices, as they were last set, whose ports other programs
// have, and which carry no peer's traffic.
func (t *Tunnels) Taken() error { return t.taken }

// followNames keeps the ends that are on devices of the host's own, where these get other
// names.
func (t *Tunnels) followNames() (err error) {
	for device, h := range maps.Clone(t.held) {
		direct, ok := h.Driver.(*Direct)
		if !ok {
			continue
		}
		now, e := direct.renamed()
		if err = errors.Join(err, e); now != "" {
			delete(t.held, device)
			t.held[now] = h
			t.log.Info("a device of the underlay has another name", "was", device, "is", now)
		}
	}
	return err
}

// prepare makes one end ready for the peers that it is to have, and for those
// that it has and that are about to leave it.
func (t *Tunnels) prepare(local Local, i Instance, exact []Peer, peers []Remote) error {
	h := t.held[i.Device]
	if h != nil && h.Name() != i.Transport {
		if err := t.drop(i.Device); err != nil {
			return err
		}
		h = nil
	}
	if h == nil {
		driver, err := t.make(i.Transport)
		if err != nil {
			return err
		}
		h = &end{Driver: driver}
		t.held[i.Device] = h
		delete(t.idle, i.Device)
	}
	var up error
	if at := i.at(local); h.local != at { // what it was told Set repairs
		if up = h.Up(at); up == nil {
			h.local = at
		}
	}
	return errors.Join(up, h.set(slices.Concat(exact, leaving(h.peers, exact, peers))))
}

func (h *end) set(peers []Peer) error {
	h.peers = peers
	return h.Set(peers)
}

// leaving are the peers that an end has and is not to have any more, but which
// are still there: their routes are about to go elsewhere. What they hold may
// have changed.
func leaving(have, exact []Peer, peers []Remote) []Peer {
	known := map[uuid.UUID]Remote{}
	for _, p := range peers {
		known[p.ID] = p
	}
	stay := map[uuid.UUID]bool{}
	for _, p := range exact {
		stay[p.ID] = true
	}
	var out []Peer
	for _, p := range have {
		now, ok := known[p.ID]
		if !ok || stay[p.ID] || p.Metric < 0 {
			continue
		}
		p.Prefixes, p.Relayed, p.Behind, p.Metric, p.MetricIPv6 = now.Prefixes, now.Relayed, now.Behind, -1, -1
		out = append(out, p)
	}
	return out
}

// peersOf are the peers with a way by an instance.
func peersOf(i Instance, instances []Instance, peers []Remote) []Peer {
	var out []Peer
	for _, r := range peers {
		way, ok := r.Ways[i.Device]
		if !ok {
			continue
		}
		p := r.Peer
		p.Port, p.Key, p.MTU, p.Endpoints, p.Patience, p.Metric, p.MetricIPv6 = way.Port, way.Key, way.MTU, way.Endpoints, way.Patience, 0, 0
		p.Underlay = cmp.Or(way.Underlay, p.Underlay)
		if r.Chosen != i.Device {
			p.Metric = standby(i, instances)
		}
		if r.ChosenIPv6 != i.Device {
			p.MetricIPv6 = standby(i, instances)
		}
		out = append(out, p)
	}
	return out
}

// standby is the metric of an instance's routes while it does not carry the
// traffic: another for each, and the faster first, so that what loses its
// device goes on by the next.
func standby(i Instance, instances []Instance) int {
	metric := 100 * (1 + slices.Index(fastestFirst, i.Transport))
	for _, other := range instances {
		if other.Device == i.Device {
			break
		}
		if other.Transport == i.Transport {
			metric++
		}
	}
	return metric
}

// lead sets the routes over all ends that are wanted, and to those of the peers.
func (t *Tunnels) lead(local Local, wanted map[string]bool, peers []Remote) error {
	routes, err := around(t.conn, peers)
	before, first := t.narrow, t.narrow == nil
	t.narrow = map[netip.Prefix]bool{}
	for _, r := range routes {
		t.narrow[r.Dst] = true
	}
	devices := map[int]bool{}
	for _, device := range slices.Sorted(maps.Keys(t.held)) {
		if wanted[device] {
			routes = append(routes, t.held[device].Routes()...)
		}
		if dev, err := t.conn.Link(device); err == nil && t.held[device].Name() != TransportDirect {
			devices[dev.Index] = true
		}
	}
	// By a next hop leads nothing but tunnels and direct routes: what the bridge
	// has is on the link. Another weft may have some on the same underlay.
	set := t.conn.SyncRoutes(routes, func(r nl.Route) bool {
		switch {
		case r.Unreachable:
			return false
		case devices[r.Device]:
			return true
		case r.Metric == narrowMetric:
			return first || before[r.Dst] || t.narrow[r.Dst] // an earlier process's are not known
		case LinkRange.Contains(r.Dst.Addr()):
			return r.Via.IsValid() && r.Src == LinkAddr(local.ID)
		}
		return r.Via.IsValid() && local.Own.Hold(r.Dst)
	})
	if set != nil {
		maps.Copy(t.narrow, before) // some may be there still
	}
	return errors.Join(err, set)
}

// drop removes an end that nothing needs any more.
func (t *Tunnels) drop(device string) error {
	h := t.held[device]
	removed, err := h.Remove(device)
	t.log.Info("transport is not needed any more", "transport", h.Name(), "removed", removed)
	if err != nil {
		return err
	}
	delete(t.held, device)
	t.idle[device] = true
	return h.Close()
}

// clear removes what an earlier process has left of an instance.
func (t *Tunnels) clear(i Instance) error {
	driver, err := t.make(i.Transport)
	if err != nil {
		return err
	}
	removed, err := driver.Remove(i.Device)
	if len(removed) > 0 {
		t.log.Info("transport is not needed any more", "transport", i.Transport, "removed", removed)
	}
	t.idle[i.Device] = err == nil
	return errors.Join(err, driver.Close())
}

// chosenLinks are the links of each peer's chosen way, with the traffic of all.
func (t *Tunnels) chosenLinks(peers []Remote) map[uuid.UUID]Link {
	type key struct {
		device string
		peer   uuid.UUID
	}
	all := map[key]Link{}
	traffic := map[uuid.UUID]*Traffic{}
	for device, h := range t.held {
		for _, l := range h.Links() {
			all[key{device, l.Peer}] = l
			traffic[l.Peer] = traffic[l.Peer].and(l.Traffic)
		}
	}
	out := map[uuid.UUID]Link{}
	for _, p := range peers {
		l, ok := all[key{p.Chosen, p.ID}]
		if !ok {
			l = Link{Peer: p.ID, Underlay: p.Underlay, Reason: "no transport is allowed and possible"}
		}
		l.Traffic = traffic[p.ID]
		if mtu := p.Ways[p.Chosen].MTU; mtu != 0 {
			l.MTU = min(l.MTU, mtu)
		}
		out[p.ID] = l
	}
	return out
}

// Links are the chosen ways to the peers, as they were last set.
func (t *Tunnels) Links() map[uuid.UUID]Link { return t.links }

// Heard is where a peer's kernel is heard that holds a session with a WireGuard
// device of this host, whether or not its daemon runs; the zero value if it holds
// none.
func (t *Tunnels) Heard(device string, peer uuid.UUID, now time.Time) (from netip.AddrPort) {
	h := t.held[device]
	if h == nil {
		return from
	}
	links := h.Links()
	i, ok := slices.BinarySearchFunc(links, peer, func(l Link, id uuid.UUID) int { return bytes.Compare(l.Peer[:], id[:]) })
	if ok && links[i].Traffic != nil && now.Sub(links[i].Traffic.Heard) < sessionTime {
		return links[i].Traffic.From
	}
	return from
}

// Userspace tells whether packets of any transport pass through a process.
func (t *Tunnels) Userspace() bool {
	for _, h := range t.held {
		if h.Userspace() {
			return true
		}
	}
	return false
}

// Adopted is what an earlier process has chosen and found out, as the kernel's routes
// have it. The zero value is nothing.
type Adopted struct {
	Carriers map[netip.Prefix]string // the device by which each prefix is reached
	MTUs     map[Hop]int             // bytes, of the routes that say one
	Narrow   map[netip.Addr]int      // see Remote
}

// Hop is the way to a prefix by one device, whether or not it carries the traffic.
type Hop struct {
	Dst    netip.Prefix
	Device string
}

// Adopt looks at what an earlier process has left.
func (t *Tunnels) Adopt() (Adopted, error) {
	links, err := t.conn.Links()
	if err != nil {
		return Adopted{}, err
	}
	names := map[int]string{}
	for _, l := range links {
		names[l.Index] = l.Name
	}
	routes, err := t.conn.Routes(true)
	out := Adopted{Carriers: map[netip.Prefix]string{}, MTUs: map[Hop]int{}, Narrow: map[netip.Addr]int{}}
	for _, r := range routes {
		if r.Unreachable {
			continue
		}
		if r.Metric == narrowMetric {
			out.Narrow[r.Dst.Addr()] = r.MTU
			continue
		}
		if r.Metric == 0 {
			out.Carriers[r.Dst] = names[r.Device]
		}
		if r.MTU > 0 {
			out.MTUs[Hop{r.Dst, names[r.Device]}] = r.MTU
		}
	}
	return out, err
}

// Remove takes every trace of these instances out of the kernel and says what it
// removed.
func (t *Tunnels) Remove(instances []Instance) (removed []string, err error) {
	for _, i := range instances {
		driver, e := t.make(i.Transport)
		if e == nil {
			var gone []string
			gone, e = driver.Remove(i.Device)
			removed, e = append(removed, gone...), errors.Join(e, driver.Close())
		}
		err = errors.Join(err, e)
	}
	return removed, err
}

// End ends the processes of all transports.
func (t *Tunnels) End() error {
	var errs []error
	for _, h := range t.held {
		errs = append(errs, h.End())
	}
	return errors.Join(errs...)
}

// Close lets go of this process's resources; traffic goes on.
func (t *Tunnels) Close() error {
	var errs []error
	for _, h := range t.held {
		errs = append(errs, h.Close())
	}
	t.conn.Close()
	return errors.Join(errs...)
}
