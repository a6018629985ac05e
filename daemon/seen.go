package daemon

import (
	"cmp"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/weft-net/weft/encap"
	"github.com/weft-net/weft/mesh"
)

// A host that others cannot connect to asks some of them where they hear its
// tunnels, and says that in its record: behind NAT nobody else knows. Others then
// try it there, and it them, at the same time.

const (
	seenTellers = 3                // hosts that are asked
	seenAgain   = 20 * time.Second // between two questions to one
	seenSoon    = 2 * time.Second  // the same where it has not heard this host yet
	seenStale   = 90 * time.Second // after which an answer counts no more
)

// seen is where this host's tunnels are heard. It is a mesh.Channel.
type seen struct {
	d    *Daemon
	mesh atomic.Pointer[mesh.Mesh] // nil while it starts, which may hear questions already
	mu   sync.Mutex
	said map[uuid.UUID]sighting // by who says so
}

type sighting struct {
	asked, at time.Time
	list      []mesh.Seen
	unheard   bool // its last answer was that it does not hear this host
}

// answered tells that the last question was.
func (s sighting) answered() bool { return !s.at.Before(s.asked) }

// silent tells that one who was asked has not answered.
func (s sighting) silent(now time.Time) bool {
	return !s.answered() && now.Sub(s.asked) >= seenAgain
}

// seenMessage asks, or answers.
type seenMessage struct {
	Answer bool        `cbor:"1,keyasint,omitempty"`
	Seen   []mesh.Seen `cbor:"2,keyasint,omitempty"`
}

// Name of the channel in the gossip.
func (s *seen) Name() string { return "seen" }

// State is nothing: who wants to know asks.
func (s *seen) State() []byte { return nil }

// Merge takes nothing in.
func (s *seen) Merge([]byte) []byte { return nil }

// Receive answers a question, or takes an answer in that was asked for.
func (s *seen) Receive(from uuid.UUID, msg []byte) {
	var m seenMessage
	if err := strict.Unmarshal(msg, &m); err != nil {
		s.d.log.Debug("message refused", "peer", from, "err", err)
		return
	}
	if !m.Answer {
		if members := s.mesh.Load(); members != nil { // else the daemon is being launched
			members.Send(from, s.Name(), encode(seenMessage{Answer: true, Seen: s.d.sightings(members, from)}))
		}
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if was, ok := s.said[from]; ok && len(m.Seen) == 0 {
		s.said[from] = sighting{asked: was.asked, at: s.d.now(), unheard: true}
	} else if ok && len(m.Seen) <= len(s.d.opts.tunnelDevices()[encap.TransportWireGuard]) {
		s.said[from] = sighting{asked: was.asked, at: s.d.now(), list: m.Seen}
	}
}

// list is what the others say, but for what this host knows by itself.
func (s *seen) list(own []netip.Addr, now time.Time) []mesh.Seen {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []mesh.Seen
	for _, said := range s.said {
		if now.Sub(said.at) < seenStale {
			out = append(out, said.list...)
		}
	}
	out = slices.DeleteFunc(out, func(o mesh.Seen) bool { return slices.Contains(own, o.At.Addr()) || !o.At.Addr().IsGlobalUnicast() })
	slices.SortFunc(out, func(a, b mesh.Seen) int { return cmp.Or(cmp.Compare(a.Port, b.Port), a.At.Compare(b.At)) })
	return slices.Compact(out)
}

// clear forgets all: this host is elsewhere now.
func (s *seen) clear() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.said)
}

// due are those of the tellers whose time to be asked has come. They are few of
// those that may be, in their order; one that does not answer makes way for
// another, and who is no teller any more is forgotten.
func (s *seen) due(may []uuid.UUID, now time.Time) []uuid.UUID {
	s.mu.Lock()
	defer s.mu.Unlock()
	slices.SortStableFunc(may, func(a, b uuid.UUID) int { return cmp.Compare(s.said[a].turn(now), s.said[b].turn(now)) })
	said := map[uuid.UUID]sighting{}
	var out []uuid.UUID
	for i, id := range may {
		o := s.said[id]
		if i >= seenTellers {
			if o.silent(now) {
				said[id] = o // so that it is not the next one again
			}
			continue
		}
		pause := seenAgain
		if o.unheard && o.answered() {
			pause = seenSoon
		}
		if now.Sub(o.asked) >= pause {
			o.asked = now
			out = append(out, id)
		}
		said[id] = o
	}
	s.said = said
	return out
}

// turn orders those that may be asked: who is asked already, the others, and at
// last who did not answer.
func (s sighting) turn(now time.Time) int {
	switch {
	case s.asked.IsZero():
		return 1
	case s.silent(now):
		return 2
	}
	return 0
}

// sightings are where this host hears a peer's tunnels.
func (d *Daemon) sightings(m *mesh.Mesh, id uuid.UUID) []mesh.Seen {
	links := d.tunnel.Load().links
	l := slices.IndexFunc(links, func(l linkView) bool { return l.Peer == id })
	peers := m.Peers()
	p := slices.IndexFunc(peers, func(p mesh.Peer) bool { return p.ID == id })
	if l < 0 || p < 0 {
		return nil
	}
	var out []mesh.Seen
	for device, there := range d.slotsOf(peers[p].Record) {
		if from, ok := links[l].heard[device]; ok {
			out = append(out, mesh.Seen{Port: cmp.Or(there.port, d.settings.port(encap.TransportWireGuard)), At: from})
		}
	}
	return out
}

// askSeen asks, if this host is one that others cannot connect to.
func (d *Daemon) askSeen() {
	var tellers []uuid.UUID
	if d.mesh.Reachability().Confined {
		heard := map[uuid.UUID]bool{}
		for _, l := range d.tunnel.Load().links {
			heard[l.Peer] = len(l.heard) > 0
		}
		for _, p := range d.mesh.Peers() {
			if !p.Self && p.State == mesh.StateAlive && !p.Record.Confined && heard[p.ID] {
				tellers = append(tellers, p.ID)
			}
		}
	}
	// Each host asks others.
	for _, id := range d.heardAt.due(mesh.Nearest(d.identity.ID, tellers), d.now()) {
		d.mesh.Send(id, d.heardAt.Name(), encode(seenMessage{}))
	}
}

// endpoints are where a peer's end of WireGuard may be reached, in the order in
// which they are tried. Mine are this host's addresses, and own where it is seen.
func endpoints(p tunnelPeer, own []mesh.Seen, mine []netip.Addr, port uint16) []netip.AddrPort {
	var said, heard []netip.AddrPort
	r := p.record
	first := slices.DeleteFunc([]netip.Addr{p.Underlay}, func(a netip.Addr) bool { return !slices.Contains(r.Underlay, a) })
	for _, a := range append(first, r.Underlay...) {
		if ap := netip.AddrPortFrom(a, port); a.IsValid() && !slices.Contains(mine, a) && hasFamily(mine, a) && !slices.Contains(said, ap) {
			said = append(said, ap)
		}
	}
	for _, s := range r.Seen {
		if s.Port == port && hasFamily(mine, s.At.Addr()) && !slices.Contains(mine, s.At.Addr()) {
			heard = append(heard, s.At)
		}
	}
	// Behind the same NAT the address inside of it is the one that works.
	neighbours := slices.ContainsFunc(own, func(o mesh.Seen) bool {
		return slices.ContainsFunc(r.Seen, func(s mesh.Seen) bool { return s.At.Addr() == o.At.Addr() })
	})
	if r.Confined && !p.direct.IsValid() && !neighbours {
		return append(heard, said...)
	}
	return append(said, heard...)
}

// endpointsOf are endpoints that can be on the underlay.
func (d *Daemon) endpointsOf(p tunnelPeer, port uint16) []netip.AddrPort {
	mine := d.underlays()
	return slices.DeleteFunc(endpoints(p, d.heardAt.list(mine, d.now()), mine, port), func(at netip.AddrPort) bool {
		return at.Port() == 0 || !d.mayBeOutside(at.Addr())
	})
}

// mayBeOutside tells whether an address that a peer names can be that of a host on
// the underlay. Through one in the network itself the tunnels would be drawn into
// themselves, and what is for a container there out of them.
func (d *Daemon) mayBeOutside(a netip.Addr) bool {
	return a.IsGlobalUnicast() && !a.Is4In6() && a.Zone() == "" && !d.settings.Range.Contains(a) && !d.ipv6().Contains(a)
}

// underlaysOf are a peer's addresses as it says, and then where others see it.
func underlaysOf(r mesh.Body) []netip.Addr {
	out := slices.Clone(r.Underlay)
	for _, s := range r.Seen {
		out = append(out, s.At.Addr())
	}
	return out
}

func hasFamily(list []netip.Addr, a netip.Addr) bool {
	return slices.ContainsFunc(list, func(m netip.Addr) bool { return m.Is4() == a.Is4() })
}
