package ipam

import (
	"fmt"
	"net/netip"

	"github.com/google/uuid"

	"github.com/weft-net/weft/ipam/council"
)

// check is what must hold after every event: no address is in use on two hosts
// that can both send.
func (w *world) check() {
	for a := range w.doubled {
		if w.active[a] < 2 {
			delete(w.doubled, a)
		}
	}
	for a, n := range w.active {
		if n < 2 {
			continue
		}
		twice := false
		by := map[council.Hash]int{}
		for _, h := range w.hosts {
			if !h.active[a] {
				continue
			}
			for domain := range w.heardIn(h, a) {
				by[domain]++
				twice = twice || by[domain] > 1
			}
		}
		switch {
		case !twice:
			delete(w.doubled, a)
		case !w.taint:
			w.violated("%s is in use on two hosts that can both send: %s", a, w.activeOn(a))
			return
		case !w.doubled[a]:
			w.doubled[a] = true
			w.windows++
			w.tell("%s is in use twice: %s", a, w.activeOn(a))
		}
	}
}

// heardIn are the domains in which somebody who is not shut out takes what a
// host sends from an address.
func (w *world) heardIn(h *host, a netip.Addr) map[council.Hash]bool {
	out := map[council.Hash]bool{}
	self := h.plane.core.self
	if h.core != nil {
		self = h.core.self
	}
	if self == uuid.Nil {
		return out
	}
	for _, o := range w.hosts {
		id := o.plane.core.self
		if o.plane.core.view.Index == 0 || !o.plane.core.lodged || !w.isIn(o.plane.domain, id, &o.plane.core) {
			continue
		}
		if o == h {
			out[o.plane.domain] = true
			continue
		}
		if holder, ok := o.plane.core.holder(a); ok && holder == self {
			out[o.plane.domain] = true
		}
	}
	return out
}

// isIn tells whether a member is not shut out, by the furthest decision there is.
func (w *world) isIn(domain council.Hash, id ID, c *Core) bool {
	s, ok := w.latest[domain]
	if !ok || id == uuid.Nil {
		return false
	}
	probe := Core{view: s, members: c.members, self: c.self, me: c.me}
	return probe.isMember(id)
}

// checkFenced is what a Reclaim means: nobody whose word it needed takes
// anything from those whose space it gave away.
func (w *world) checkFenced(s council.State) {
	for _, h := range w.hosts {
		a, in := s.Admitted[h.plane.core.self]
		if _, sealed := s.Sealed[h.plane.core.self]; !in || sealed || a.At > s.Reclaimed {
			continue
		}
		for id, at := range s.Sealed {
			if at <= s.Reclaimed && h.plane.core.isMember(id) {
				w.violated("host %s still hears %s, whose space was given away", h, w.who(id))
			}
		}
	}
}

// isQuiet says what is not as it should be when nothing is wrong any more; ""
// for nothing.
func (w *world) isQuiet() string {
	if len(w.doubled) > 0 {
		return fmt.Sprintf("%d addresses are in use twice", len(w.doubled))
	}
	var first *host
	owners := map[int]int{}
	for _, h := range w.hosts {
		if h.left {
			continue
		}
		c := h.core
		switch {
		case c == nil:
			return fmt.Sprintf("host %s is down", h)
		case !c.Lodged() || !c.view.IsAdmitted(c.self):
			return fmt.Sprintf("host %s is no member: self %v lodged %v sponsor %v known %v index %d", h, c.self, c.lodged, c.me.Sponsor, c.isMember(c.self), c.view.Index)
		case len(c.view.Pending()) > 0:
			return fmt.Sprintf("host %s waits for what %d had", h, len(c.view.Pending()))
		case len(c.former) > 0 || len(c.wards) > 0 || len(c.releases) > 0:
			return fmt.Sprintf("host %s has %d former lives, %d wards and %d releases", h, len(c.former), len(c.wards), len(c.releases))
		case len(minus(c.table.owned(c.self), c.own)) > 0:
			return fmt.Sprintf("host %s does not use what it owns", h)
		}
		if first == nil {
			first = h
		}
		if c.domain != first.core.domain {
			return fmt.Sprintf("hosts %s and %s are in two domains", first, h)
		}
		if a, b := first.core.digestNow(), c.digestNow(); *a != *b {
			return fmt.Sprintf("hosts %s and %s do not know the same: %d/%d %v %v %v", first, h, a.Index, b.Index, a.Rows == b.Rows, a.Members == b.Members, a.Books == b.Books)
		}
		for _, sp := range c.own {
			for b := sp.first; b < sp.end(); b++ {
				owners[b]++
			}
		}
		if why := w.leasesFit(h); why != "" {
			return why
		}
	}
	for b := range first.core.blocks() {
		if owners[b] != 1 {
			return fmt.Sprintf("block %d is used by %d hosts", b, owners[b])
		}
	}
	return ""
}

// leasesFit compares both sides of every lease, and finds what is claimed and
// neither given nor refused.
func (w *world) leasesFit(h *host) string {
	c := h.core
	for _, l := range c.books[c.self].leases {
		for _, o := range w.hosts {
			if o.core != nil && o.core.self == l.Holder {
				if x, ok := o.core.held[l.Addr]; !ok || x.token != l.Token {
					return fmt.Sprintf("host %s leases %s to host %s, which does not have it", h, l.Addr, o)
				}
			}
		}
	}
	for a, x := range c.held {
		if x.use == useWanted && x.refused == "" {
			return fmt.Sprintf("host %s has no answer to its claim of %s", h, a)
		}
		if x.use == useLeased {
			if id, ok := c.holder(a); !ok || id != c.self {
				return fmt.Sprintf("host %s uses %s, which is not leased to it", h, a)
			}
		}
	}
	return ""
}
