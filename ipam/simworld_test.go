package ipam

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"

	"github.com/google/uuid"

	"github.com/weft-net/weft/ipam/council"
)

// The simulator drives real cores, with the real raft in them, through faults
// that are drawn from a seed. One event is one operation of one core; between
// events everything that must hold always is checked.

var (
	simMesh  = uuid.UUID{0: 0xee}
	simRange = netip.MustParsePrefix("10.0.0.0/25")
)

var simSpace = space{simRange, simBlockBits}

const simBlockBits = 30 // 32 blocks of four addresses

// faults are what may happen in a schedule.
type faults struct {
	name                                       string
	hosts, steps                               int
	loss                                       bool // messages are lost, repeated and overtake each other
	partitions, crashes, suspicion, seals      bool
	diskLoss, rollback, clones, forces, leaves bool
	wire                                       bool // messages and writes go through their encoding
}

// world is a schedule.
type world struct {
	f      faults
	rng    *rand.Rand
	hosts  []*host
	flying []flight
	cut    map[[2]int]bool // directed links that are down
	starts uint64
	nonce  uint64
	events int
	// latest is the furthest state of the council of each domain.
	latest  map[council.Hash]council.State
	active  map[netip.Addr]int  // on how many hosts
	taint   bool                // somebody's disk was set back, or a host copied
	doubled map[netip.Addr]bool // in use twice at the last check, which taint alone excuses
	// windows counts the times that an address was in use twice before it was
	// found out; detected, the times that a host was told that it is a copy.
	windows, detected int
	story             *strings.Builder // nil if nobody reads it
	names             map[ID]string    // of members, for the story
	extinct           bool             // everybody lost everything
	fail              string
}

type flight struct {
	from, to int
	m        *Msg
	gossip   bool
}

// host is a machine: a daemon that may be down, a disk, and a kernel.
type host struct {
	w     *world
	n     int
	peer  uuid.UUID
	core  *Core // nil while the daemon is down
	disk  map[[2]string]Write
	old   map[[2]string]Write // an earlier disk
	plane plane
	// containers are those that run, with the address of each; active are those
	// that are not cut off.
	containers map[string]netip.Addr
	active     map[netip.Addr]bool
	left       bool
	made       int
	lives      int // members that it was
}

// plane is what the kernel forwards by: the plan as it was when it was last
// programmed.
type plane struct {
	core   Core
	domain council.Hash
	fence  uint64
}

func newWorld(f faults, seed uint64) *world {
	w := &world{f: f, rng: rand.New(rand.NewPCG(seed, 7)), cut: map[[2]int]bool{}, latest: map[council.Hash]council.State{}, active: map[netip.Addr]int{}, doubled: map[netip.Addr]bool{}, names: map[ID]string{}}
	if f.clones {
		f.hosts++ // the machine that a copy will run on
	}
	for n := range f.hosts {
		h := &host{w: w, n: n, peer: uuid.UUID{15: byte(n + 1)}, disk: map[[2]string]Write{}, containers: map[string]netip.Addr{}, active: map[netip.Addr]bool{}}
		w.hosts = append(w.hosts, h)
	}
	if f.clones {
		w.hosts[f.hosts-1].left = true
	}
	return w
}

func (w *world) violated(format string, args ...any) {
	if w.fail == "" {
		w.fail = fmt.Sprintf(format, args...)
		w.tell("VIOLATION: %s", w.fail)
	}
}

func (w *world) chance(percent int) bool { return w.rng.IntN(100) < percent }
func (w *world) pick() *host             { return w.hosts[w.rng.IntN(len(w.hosts))] }

// start brings a host's daemon up with what is on its disk.
func (h *host) start() {
	h.w.starts++
	var saved []Write
	for _, x := range h.disk {
		saved = append(saved, x)
	}
	sortWrites(saved)
	c, err := New(Config{h.peer, simMesh, simRange, simBlockBits}, saved, h.w.starts<<32)
	if err != nil {
		h.w.violated("host %s does not start: %v", h, err)
		return
	}
	h.core = c
	h.do(c.Start(), nil)
	// What runs and is not known was forgotten by the disk: it is cut off, and
	// wanted again.
	for _, name := range slices.Sorted(maps.Keys(h.containers)) {
		a := h.containers[name]
		if _, held := h.core.held[a]; !held {
			e, err := h.core.Claim(name, a)
			if err != nil {
				delete(h.containers, name)
				continue
			}
			h.do(e, nil)
		}
	}
	h.refresh()
}

func (h *host) crash() {
	h.core = nil
}

// do carries out what an operation asks for.
func (h *host) do(e Effects, err error) {
	if err != nil || h.core == nil {
		return
	}
	w := h.w
	w.name(h)
	w.tellNews(h, e)
	for _, x := range e.Writes {
		if w.f.wire && x.Value != nil {
			b := EncodeWrite(x)
			y, err := DecodeWrite(x.Bucket, x.Key, b)
			if err != nil {
				w.violated("host %s cannot read again what it wrote to %s: %v", h, x.Bucket, err)
				return
			}
			x = y
		}
		key := [2]string{x.Bucket, x.Key}
		if x.Value == nil {
			delete(h.disk, key)
		} else {
			h.disk[key] = x
		}
	}
	for _, m := range e.Send {
		w.post(h.n, w.hostOf(m.To), m.Body, false)
	}
	if e.Gossip != nil {
		for _, o := range w.hosts {
			if o.peer != h.peer {
				w.post(h.n, o.n, e.Gossip, true)
			}
		}
	}
	if e.Trouble != "" {
		w.tell("host %s: %s", h, e.Trouble)
		if strings.Contains(e.Trouble, ErrForked.Error()) {
			if w.detected++; !w.taint {
				w.violated("host %s is taken for a copy, and is none", h)
			}
		}
	}
	if e.Renounced {
		w.tell("host %s was shut out and begins anew", h)
	}
	h.refresh()
	h.witness()
}

func (w *world) post(from, to int, m *Msg, gossip bool) {
	if w.f.wire {
		again, err := simSpace.DecodeMsg(simSpace.EncodeMsg(m))
		if err != nil {
			w.violated("message of kind %d cannot be read again: %v", m.Kind, err)
			return
		}
		m = again
	}
	if len(w.flying) > 300 {
		i := w.rng.IntN(len(w.flying))
		w.flying = slices.Delete(w.flying, i, i+1)
	}
	w.flying = append(w.flying, flight{from, to, m, gossip})
}

// refresh makes the kernel's containers follow the plan.
func (h *host) refresh() {
	for a := range h.active {
		if x, ok := h.core.held[a]; !ok || x.use == useWanted {
			delete(h.active, a)
			h.w.active[a]--
		}
	}
	for name, a := range h.containers {
		x, ok := h.core.held[a]
		if !ok || x.owner != name {
			continue
		}
		if x.use != useWanted && !h.active[a] {
			h.active[a] = true
			h.w.active[a]++
		}
	}
}

// enforce programs the kernel with what the plan says now.
func (h *host) enforce() {
	c := h.core
	h.plane = plane{domain: c.domain, fence: c.Fence()}
	h.plane.core = Core{space: c.space, self: c.self, me: c.me, lodged: c.lodged, view: c.view, table: c.table, books: maps.Clone(c.books), members: maps.Clone(c.members)}
	h.do(c.Enforced(h.plane.fence), nil)
}

// witness notes how far the council has come, and checks what a Reclaim means.
func (h *host) witness() {
	if h.core == nil || h.core.view.Index == 0 {
		return
	}
	w, s := h.w, h.core.view
	last, known := w.latest[h.core.domain]
	if known && s.Index == last.Index && s.Hash != last.Hash && !w.taint {
		w.violated("two decisions of index %d", s.Index)
	}
	if known && s.Index <= last.Index {
		return
	}
	w.latest[h.core.domain] = s
	if known && s.Reclaimed > last.Reclaimed && !w.taint {
		w.checkFenced(s)
	}
}

func (w *world) hostNumber(peer uuid.UUID) int { return int(peer[15]) - 1 }

// hostOf is the host of a peer. What is sent to one that is there twice comes
// to either.
func (w *world) hostOf(peer uuid.UUID) int {
	n := w.hostNumber(peer)
	for _, o := range w.hosts {
		if o.n != n && o.peer == peer && !o.left && w.chance(50) {
			return o.n
		}
	}
	return n
}

func (w *world) linked(a, b int) bool { return !w.cut[[2]int{a, b}] }

// live are the peers that answer a host.
func (w *world) live(h *host) map[uuid.UUID]bool {
	out := map[uuid.UUID]bool{}
	for _, o := range w.hosts {
		if o.peer == h.peer || o.core == nil || o.left || !w.linked(h.n, o.n) || !w.linked(o.n, h.n) || w.f.suspicion && w.chance(3) {
			continue
		}
		out[o.peer] = true
	}
	return out
}

// deliver gives a message to whom it is for.
func (w *world) deliver(f flight) {
	to := w.hosts[f.to]
	if to.core == nil || !w.linked(f.from, f.to) || to.peer == w.hosts[f.from].peer {
		return
	}
	var e Effects
	var err error
	if f.gossip {
		e, err = to.core.Merge(f.m)
	} else {
		e, err = to.core.Receive(w.hosts[f.from].peer, f.m)
	}
	if err != nil {
		w.violated("host %s refuses a message of kind %d: %v", to, f.m.Kind, err)
		return
	}
	if w.story != nil && !f.gossip {
		w.tell("%s -> %s: %s", w.hosts[f.from], to, w.tellMsg(f.m))
	}
	to.do(e, nil)
}
