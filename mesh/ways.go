package mesh

import (
	"net/netip"
	"slices"
	"sync"

	"github.com/google/uuid"
	"github.com/hashicorp/memberlist"
)

// Way is how gossip gets to a peer.
type Way string

// The ways, in the order of preference.
const (
	WayDirect  Way = "direct"  // to an address on the underlay
	WayLine    Way = "line"    // by a connection that the peer keeps open to this host
	WayOverlay Way = "overlay" // to the peer's gateway, through the tunnels and their relays
)

// path is a way with the address that it leads to; a line has none.
type path struct {
	way  Way
	addr string
}

// pathsTo are the ways to a peer, the best first. Memberlist knows one address of
// each peer, as it was when the peer began; the peer's record has all that it has
// now. Own is what this peer says of itself.
func pathsTo(own, peer Body, known string, hasLine bool) []path {
	var out []path
	add := func(way Way, addr string) {
		if p := (path{way, addr}); !slices.Contains(out, p) {
			out = append(out, p)
		}
	}
	have := map[bool]bool{}
	for _, o := range own.Gossip {
		have[o.Addr().Is4()] = true
	}
	for _, at := range peer.Gossip {
		if (len(have) == 0 || have[at.Addr().Is4()]) && !slices.Contains(own.Gossip, at) {
			add(WayDirect, at.String())
		}
	}
	if at, err := netip.ParseAddrPort(known); len(out) == 0 || err != nil || len(have) == 0 || have[at.Addr().Unmap().Is4()] {
		if !slices.Contains(own.Gossip, at) {
			add(WayDirect, known)
		}
	}
	if hasLine {
		add(WayLine, "")
	}
	if at := overlayOf(own, peer); at.IsValid() {
		add(WayOverlay, at.String())
	}
	if len(out) == 0 {
		add(WayDirect, known)
	}
	return out
}

// overlayOf is where a peer's gossip is reached in the overlay, if both are in it.
func overlayOf(own, peer Body) (at netip.AddrPort) {
	if own.Gateway.IsValid() && peer.Gateway.IsValid() && len(peer.Gossip) > 0 {
		at = netip.AddrPortFrom(peer.Gateway, peer.Gossip[0].Port())
	}
	return at
}

// route is how a peer may be reached.
type route struct {
	paths    []path
	confined bool // it cannot be connected to, or this peer cannot
	// doubtful tells that at one of the paths somebody else may be: what is said of a
	// network behind NAT holds inside of it.
	doubtful bool
}

// routeTo is the route of the paths to a peer. A port is forwarded to a host that
// says a second address, too, which is in a network behind the router.
func routeTo(own, peer Body, known string, hasLine bool) route {
	r := route{paths: pathsTo(own, peer, known, hasLine), confined: own.Confined || peer.Confined}
	r.doubtful = r.confined || len(peer.Gossip) > 1 || len(r.paths) > 1 && r.paths[1].way == WayDirect
	return r
}

// route is the way to who is behind an address of memberlist's.
func (m *Mesh) route(a memberlist.Address) route {
	id, err := uuid.Parse(a.Name)
	if err != nil {
		return route{paths: []path{{WayDirect, a.Addr}}}
	}
	hasLine := m.callers.has(a.Name)
	m.mu.Lock()
	defer m.mu.Unlock()
	own, peer := m.records.of(m.cfg.Identity.ID).Body, m.records.of(id).Body
	return routeTo(own, peer, a.Addr, hasLine)
}

// reached is by which path each peer was last reached, by memberlist's name.
type reached struct {
	mu sync.Mutex
	by map[string]path
	// sure are those of them at which the peer itself was found.
	sure map[string]bool
}

func newReached() *reached { return &reached{by: map[string]path{}, sure: map[string]bool{}} }

func (r *reached) get(name string) (path, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	p, ok := r.by[name]
	return p, ok
}

// isSure tells whether it is by that path, and the peer itself was found there.
func (r *reached) isSure(name string, p path) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.sure[name] && r.by[name] == p
}

// set notes a path, and tells whether it is news; the zero value is none.
func (r *reached) set(name string, p path, sure bool) (news bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	news = r.by[name] != p
	switch {
	case p == (path{}):
		delete(r.by, name)
		delete(r.sure, name)
	default:
		r.sure[name] = sure || r.sure[name] && !news
		r.by[name] = p
	}
	return news
}

// clear forgets all paths.
func (r *reached) clear() {
	r.mu.Lock()
	defer r.mu.Unlock()
	clear(r.by)
	clear(r.sure)
}

// packetPaths are those that a packet takes: packets tell nobody whether they
// arrive, so they follow the last stream that did. Where that went through the tunnels,
// as the link did not work, they try the link as well: when links change again the way
// by the tunnels is the first to break. Where there was none, a peer that cannot be
// connected to is reached by other ways.
func packetPaths(r route, last path, known bool) []path {
	first := r.paths[0]
	if known && slices.Contains(r.paths, last) {
		if last.way == WayOverlay && first.way == WayDirect && !r.confined {
			return []path{first, last}
		}
		return []path{last}
	}
	if i := slices.IndexFunc(r.paths, func(p path) bool { return p.way != WayDirect }); r.confined && i >= 0 {
		first = r.paths[i]
	}
	return []path{first}
}

// Reached says by which way gossip gets to a peer, and to which address; ok is
// false while nothing is known, or only of a way that is none any more: before a
// peer's record was known, at an address behind NAT somebody else may have
// answered, if not this host itself.
func (m *Mesh) Reached(id uuid.UUID) (way Way, at netip.AddrPort, ok bool) {
	p, ok := m.reached.get(id.String())
	if !ok {
		return "", at, false
	}
	a := memberlist.Address{Name: id.String()}
	if n := m.nodeOrLast(id); n != nil {
		a = n.FullAddress()
	}
	if !slices.Contains(m.route(a).paths, p) {
		return "", at, false
	}
	at, _ = netip.ParseAddrPort(p.addr) // a line has none
	return p.way, at, true
}
