package ipam

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/weft-net/weft/ipam/council"
)

// step is one event of the chaos.
func (w *world) step() {
	w.events++
	h := w.pick()
	if h.core == nil {
		if w.chance(15) && !h.left {
			w.tell("host %s starts", h)
			h.start()
		}
		return
	}
	switch p := w.rng.IntN(100); {
	case p < 46:
		w.deliverAny()
	case p < 60:
		h.do(h.core.Tick(w.live(h)), nil)
	case p < 66:
		w.exchange(h, w.pick())
	case p < 72:
		h.enforce()
	case p < 79:
		h.join()
	case p < 86:
		h.attach()
	case p < 90:
		h.detach()
	case p < 92:
		h.core.Audit()
		h.do(h.core.finish(), nil)
	default:
		w.fault(h)
	}
}

// fault is one of what the schedule may suffer.
func (w *world) fault(h *host) {
	kind := w.rng.IntN(12)
	if w.f.rollback && w.chance(30) {
		kind = 9
	}
	switch kind {
	case 0, 1, 2:
		if w.f.partitions {
			w.partition()
		}
	case 3, 4:
		if w.f.crashes {
			w.tell("host %s crashes", h)
			h.crash()
		}
	case 5, 6:
		if w.f.seals && w.chance(40) {
			w.remove(h, w.pick())
		}
	case 7:
		if w.f.leaves && w.chance(30) {
			h.leave()
		}
	case 8:
		if w.f.diskLoss && w.chance(40) {
			w.tell("host %s loses its disk", h)
			h.crash()
			h.disk = map[[2]string]Write{}
		}
	case 9:
		if w.f.rollback {
			if h.old != nil && w.chance(50) {
				w.tell("host %s's disk is set back", h)
				w.taint = true
				h.crash()
				h.disk, h.old = h.old, nil
			} else {
				h.old = maps.Clone(h.disk)
			}
		}
	case 10:
		if w.f.forces && w.chance(25) {
			w.force(h)
		}
	case 11:
		if w.f.clones && w.chance(60) {
			w.clone(h)
		}
	}
}

func (w *world) deliverAny() {
	if len(w.flying) == 0 {
		return
	}
	i := 0
	if w.f.loss {
		i = w.rng.IntN(len(w.flying))
	}
	f := w.flying[i]
	if !w.f.loss || !w.chance(8) {
		w.flying = slices.Delete(w.flying, i, i+1)
	}
	if !w.f.loss || !w.chance(8) {
		w.deliver(f)
	}
}

// exchange is a gossip's exchange between two hosts.
func (w *world) exchange(a, b *host) {
	if a.peer == b.peer || a.core == nil || b.core == nil || a.left || b.left {
		return
	}
	w.flying = append(w.flying, flight{a.n, b.n, a.core.State(), true}, flight{b.n, a.n, b.core.State(), true})
}

// join makes a host a member, or gets it more space.
func (h *host) join() {
	o := h.w.pick()
	if o == h || h.left || h.core.view.Index == 0 {
		return
	}
	h.w.nonce++
	if h.core.Lodged() {
		if count(h.core.own) < 2 {
			h.do(h.core.Request(o.peer, h.w.rng.IntN(4), h.w.nonce), nil)
		}
		return
	}
	// The one that was asked is asked again, most of the time.
	if s, ok := h.core.member(h.core.me.Sponsor); ok && h.core.self != (ID{}) && !h.w.chance(15) {
		e, err := h.core.Join(s.Peer, 0, h.w.nonce, h.w.nonce)
		h.do(e, err)
		return
	}
	e, err := h.core.Join(o.peer, 0, h.w.nonce, h.w.nonce)
	if err == nil {
		h.w.tell("host %s asks host %s to let it in, as %s", h, o, h.w.who(h.core.self))
	}
	h.do(e, err)
}

// attach starts a container, with any address or a certain one.
func (h *host) attach() {
	if h.left || len(h.containers) > 12 {
		return
	}
	h.made++
	name := fmt.Sprintf("c%d-%d", h.n, h.made)
	if h.w.chance(60) {
		part := simRange
		if h.w.chance(25) { // a part of it
			bits := 26 + h.w.rng.IntN(5)
			part = netip.PrefixFrom(h.core.addr(h.w.rng.IntN(h.core.blocks()*h.core.blockSize())), bits).Masked()
		}
		a, e, err := h.core.AllocateIn(name, part)
		if err != nil {
			return
		}
		if !part.Contains(a) {
			h.w.violated("%s is given in %s", a, part)
		}
		if len(e.Send) > 0 || e.Gossip != nil {
			h.w.violated("an allocation sends something")
		}
		h.containers[name] = a
		h.w.tell("host %s gives %s to %s", h, a, name)
		h.do(e, nil)
		return
	}
	a := h.core.addr(h.w.rng.IntN(h.core.blocks() * h.core.blockSize()))
	e, err := h.core.Claim(name, a)
	if err != nil {
		return
	}
	h.containers[name] = a
	h.w.tell("host %s claims %s for %s", h, a, name)
	h.do(e, nil)
}

func (h *host) detach() {
	if len(h.containers) == 0 {
		return
	}
	names := slices.Sorted(maps.Keys(h.containers))
	name := names[h.w.rng.IntN(len(names))]
	a := h.containers[name]
	delete(h.containers, name)
	h.w.tell("host %s frees %s of %s", h, a, name)
	h.do(h.core.Release(name, a), nil)
}

// partition changes which links are down: one of several shapes.
func (w *world) partition() {
	switch w.rng.IntN(6) {
	case 0, 1:
		w.tell("the network heals")
		clear(w.cut)
	case 2: // two sides
		side := w.rng.IntN(1 << len(w.hosts))
		w.tell("the network parts along %b", side)
		for a := range w.hosts {
			for b := range w.hosts {
				if a != b {
					w.cut[[2]int{a, b}] = side>>a&1 != side>>b&1
				}
			}
		}
	case 3: // one direction
		w.cut[[2]int{w.pick().n, w.pick().n}] = true
	case 4: // a link
		a, b := w.pick().n, w.pick().n
		w.cut[[2]int{a, b}], w.cut[[2]int{b, a}] = true, true
	case 5: // one host
		a := w.pick().n
		w.tell("host %s is cut off", w.hosts[a])
		for b := range w.hosts {
			if a != b {
				w.cut[[2]int{a, b}], w.cut[[2]int{b, a}] = true, true
			}
		}
	}
}

// remove has an operator on one host shut another out.
func (w *world) remove(by, gone *host) {
	id, ok := by.core.MemberOf(gone.peer)
	if !ok || by.left {
		return
	}
	w.tell("host %s is told to remove host %s, which is %s", by, gone, w.who(id))
	e, err := by.core.Seal(id)
	by.do(e, err)
}

// leave is a host that goes for good: it gives all it has to another, and asks
// to be sealed.
func (h *host) leave() {
	n := 0
	for _, o := range h.w.hosts {
		if !o.left {
			n++
		}
	}
	heir := h.w.pick()
	if n <= 3 || heir == h || heir.left || h.left || !h.core.Lodged() {
		return
	}
	for _, name := range slices.Sorted(maps.Keys(h.containers)) {
		a := h.containers[name]
		delete(h.containers, name)
		h.do(h.core.Release(name, a), nil)
	}
	h.w.nonce++
	e, err := h.core.HandOver(heir.peer, h.w.nonce)
	if err != nil {
		return
	}
	h.w.tell("host %s leaves, and gives all to host %s", h, heir)
	h.do(e, nil)
	e, err = h.core.Seal(h.core.self)
	h.do(e, err)
}

// force is an operator who thinks that the majority is gone.
func (w *world) force(h *host) {
	if !h.core.Lodged() {
		return
	}
	var survivors []ID
	for _, o := range w.hosts {
		if id, ok := h.core.MemberOf(o.peer); ok && w.chance(60) {
			survivors = append(survivors, id)
		}
	}
	w.nonce++
	e, err := h.core.Force(survivors, w.nonce*2654435761)
	if err == nil {
		w.tell("host %s forces a mesh of %d", h, len(survivors))
	}
	h.do(e, err)
}

// clone starts a second machine from a copy of a host, disk and memory: two
// that are one member, know nothing of each other and both send.
func (w *world) clone(h *host) {
	o := w.hosts[len(w.hosts)-1]
	if !o.left || o.core != nil || h.left || o == h {
		return
	}
	w.taint = true
	w.tell("host %s is a running copy of host %s", o, h)
	o.left, o.peer, o.plane, o.disk = false, h.peer, h.plane, maps.Clone(h.disk)
	o.containers = maps.Clone(h.containers)
	var saved []Write
	for _, x := range o.disk {
		saved = append(saved, x)
	}
	sortWrites(saved)
	c, err := New(Config{o.peer, simMesh, simRange, simBlockBits}, saved, h.core.start)
	if err != nil {
		w.violated("the copy of host %s does not start: %v", h, err)
		return
	}
	c.begun, c.said, c.ticks, c.fence, c.enforced = h.core.begun, h.core.said, h.core.ticks, h.core.fence, h.core.enforced
	o.core = c
	o.refresh()
}

// scrap is the operator who switches a copied machine off, once it was found out.
func (w *world) scrap() {
	o := w.hosts[len(w.hosts)-1]
	if !w.f.clones || o.left {
		return
	}
	twin := w.hosts[w.hostNumber(o.peer)]
	if o.core.self != (ID{}) && o.core.self == twin.core.self {
		w.violated("hosts %s and %s are both %s, and do not know it", o, twin, w.who(o.core.self))
		return
	}
	w.tell("host %s is switched off", o)
	o.off()
}

// off ends a host and all that ran on it.
func (h *host) off() {
	h.left, h.core, h.containers = true, nil, map[string]netip.Addr{}
	for a := range h.active {
		h.w.active[a]--
	}
	clear(h.active)
}

// heal lets everything become quiet: no faults any more, and time.
func (w *world) heal() {
	w.tell("--- no faults from here on")
	clear(w.cut)
	w.f.loss, w.f.suspicion = false, false
	for _, h := range w.hosts {
		if h.core == nil && !h.left {
			h.start()
		}
	}
	for round := range 1100 {
		for _, h := range w.hosts {
			if h.left || h.core == nil {
				continue
			}
			w.events++
			h.do(h.core.Tick(w.live(h)), nil)
			h.enforce()
			if round%4 == 0 {
				h.join()
			}
		}
		if round%3 == 0 {
			w.exchange(w.pick(), w.pick())
		}
		for n := 0; len(w.flying) > 0 && n < 5000; n++ {
			w.deliverAny()
		}
		if w.check(); w.fail != "" {
			return
		}
		if round%10 == 9 && (round > 200 || !w.f.clones) && w.isQuiet() == "" {
			return
		}
		if round == 200 {
			w.scrap()
		}
		if (round == 450 || round == 750) && w.isStuck() {
			if w.rescue(); w.extinct {
				return
			}
		}
		if round == 600 && w.f.forces {
			w.unite()
		}
	}
	w.violated("it does not become quiet: %s", w.isQuiet())
}

// isStuck tells whether the council has lost its majority, or two copies of a
// voter have spoilt its log. A leader that is alone does not know that it is.
func (w *world) isStuck() bool {
	return !slices.ContainsFunc(w.hosts, func(h *host) bool {
		return h.core != nil && !h.left && h.core.leads() && !h.core.node.Changing() && w.hasMajority(h.core.node.State().Voters)
	})
}

func (w *world) hasMajority(voters []ID) bool {
	n := 0
	for _, h := range w.hosts {
		if h.core != nil && !h.left && h.core.node != nil && slices.Contains(voters, h.core.self) {
			n++
		}
	}
	return n > len(voters)/2
}

// furthest is the member that knows the most decisions.
func (w *world) furthest() *host {
	var best *host
	for _, h := range w.hosts {
		if h.core != nil && !h.left && h.core.Lodged() && (best == nil || h.core.view.Index > best.core.view.Index) {
			best = h
		}
	}
	return best
}

// rescue is the operator who forces a mesh with everybody who is left.
func (w *world) rescue() {
	best := w.furthest()
	if best == nil {
		w.tell("nobody is a member any more")
		w.extinct = true
		return
	}
	var survivors []ID
	for _, o := range w.hosts {
		if !o.left && o.core != nil && o.core.domain == best.core.domain && o.core.Lodged() && best.core.isMember(o.core.self) {
			survivors = append(survivors, o.core.self)
		}
	}
	w.nonce++
	w.tell("the majority is gone: host %s forces a mesh of %d", best, len(survivors))
	e, err := best.core.Force(survivors, w.nonce*2654435761)
	best.do(e, err)
}

// unite is the operator who resets the hosts of all but one mesh, where one was
// forced out of another that was alive after all.
func (w *world) unite() {
	sizes := map[council.Hash]int{}
	for _, h := range w.hosts {
		if h.core != nil && !h.left && h.core.Lodged() {
			sizes[h.core.domain]++
		}
	}
	best := w.hosts[0].core.domain
	for _, h := range w.hosts {
		if h.core != nil && !h.left && sizes[h.core.domain] > sizes[best] {
			best = h.core.domain
		}
	}
	for _, h := range w.hosts {
		if h.core != nil && !h.left && h.core.domain != best {
			w.tell("host %s is reset", h)
			h.crash()
			h.disk = map[[2]string]Write{}
			h.start()
		}
	}
}
