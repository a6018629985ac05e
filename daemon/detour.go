package daemon

import (
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/weft-net/weft/encap"
	"github.com/weft-net/weft/encap/probe"
	"github.com/weft-net/weft/mesh/topology"
)

// Of a path, silence says nothing before so many probes, and of one that was never
// answered before so much time: two that begin a session of WireGuard at the same
// moment wait for five seconds, maybe more than once.
const (
	someProbes = 10
	firstTime  = 12 * time.Second
)

// sight is what the probes say of the paths to a peer.
func sight(peer uuid.UUID, paths []encap.Path, quality map[probe.Path]probe.Quality, now time.Time) topology.Sight {
	s := topology.Sight{Peer: peer, Paths: len(paths) > 0, Silent: len(paths) > 0, Doubt: len(paths) > 0}
	for _, path := range paths {
		q := quality[probe.Path{Peer: peer, Device: path.Device}]
		heard, asked := q.Heard, q.Sent >= someProbes
		if q.RTT == 0 {
			heard, asked = q.Since, asked && now.Sub(q.Since) >= firstTime
		}
		if heard.After(s.Heard) {
			s.Heard = heard
		}
		if q.Works && (!s.Works || q.Since.Before(s.Since)) {
			s.Since = q.Since
		}
		s.Works = s.Works || q.Works
		s.Silent = s.Silent && !q.Works && asked
		s.Doubt = s.Doubt && (q.Doubt || !q.Works && asked)
	}
	s.Doubt = s.Doubt && !s.Silent
	return s
}

// detour finds out which links do not work, and leads the traffic of those peers
// by others. Links are those of the peers, as far as they are decided.
func (d *Daemon) detour(peers []tunnelPeer, links map[uuid.UUID]*link, quality map[probe.Path]probe.Quality, plan *linkPlan) {
	var sights, silent []topology.Sight
	var reached []topology.Peer
	of := map[uuid.UUID]topology.Sight{}
	now, r := d.now(), &d.relays
	vertices := []topology.Peer{{ID: d.identity.ID}}
	at := map[uuid.UUID]int{} // in plan.peers
	for i, p := range peers {
		vertices = append(vertices, p.vertex)
		at[p.ID] = i
		if !p.Link.IsValid() {
			continue
		}
		s := sight(p.ID, links[p.ID].paths, quality, now)
		sights, of[p.ID] = append(sights, s), s
		// Who was cut off from all hears each of them again at a moment of its own, too.
		if s.Works && now.Sub(s.Since) >= steady+d.prober.Load().Interval() {
			reached = append(reached, p.vertex)
		}
		if s.Silent || s.Doubt { // what others know is to be there when it is silent
			silent = append(silent, s)
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.peers = len(vertices)
	d.observe(peers, links, quality, now)
	r.words = r.words.Next(vertices[1:], now)
	slack := d.prober.Load().Interval() + margin
	heard := d.hearsay.about(silent, reached, r.words, slack, now)
	before := r.exceptions
	r.exceptions = before.Next(sights, heard, r.hops, slack, now)
	if !r.exceptions.SameAs(before) {
		r.untold, r.changed = true, now
	}
	d.compare(reached, now)
	r.hurries = now.Sub(r.changed) < quickly || slices.ContainsFunc(silent, func(s topology.Sight) bool { return now.Sub(s.Heard) < quickly })
	r.waits = slices.ContainsFunc(sights, func(s topology.Sight) bool {
		_, soon := r.exceptions.Until(s)
		return soon
	})
	own := &vertices[0]
	own.Broken, own.Shaky, own.Mute, own.At = r.exceptions.Broken(), r.exceptions.Shaky(), r.exceptions.Mute(), r.position.Publish(r.peers, now)
	detours := topology.Detours(d.identity.ID, vertices)
	r.hops = map[uuid.UUID]bool{}
	for i, p := range peers {
		detour, ok := detours[p.ID]
		if !ok {
			continue
		}
		l := links[p.ID]
		l.whyBroken = d.whyBroken(p, l, of[p.ID])
		if len(detour.Path) < 2 || l.forbidden {
			continue
		}
		hop := &plan.peers[at[detour.Path[0]]]
		if hop.Chosen == "" {
			continue
		}
		l.detour = &detour
		r.hops[hop.ID] = true
		hop.Behind = append(hop.Behind, p.Prefixes...)
		plan.peers[i].Relayed = true
	}
	// To their gateways lead the relays.
	for i, t := range plan.targets {
		if p := plan.peers[at[t.Peer]]; p.Relayed {
			plan.targets[i].Addr = p.Link
		}
	}
}

// quickly is for how long after a peer was last heard, or a link broke or worked
// again, this host looks more often than by its periodic pass what others know.
const quickly = 10 * time.Second

// comparePause is between two comparisons.
const comparePause = 200 * time.Millisecond

// compare sees to it that this host soon knows what others know, and they what it
// knows, for a while after its links have changed: then those of others have, too,
// and gossip may bring that late, as it goes to members by chance of whom most may
// be out of reach. The lock is held.
func (d *Daemon) compare(reached []topology.Peer, now time.Time) {
	r := &d.relays
	if len(reached) == 0 || now.Sub(r.changed) >= quickly || now.Sub(r.compared) < comparePause {
		return
	}
	r.compared, r.comparisons = now, r.comparisons+1
	compare := d.mesh.CompareRecords
	if r.comparisons%byStream == 0 {
		compare = d.mesh.Compare
	}
	compare(reached[rand.IntN(len(reached))].ID)
}

// observe takes in round-trip times, now and then. The lock is held.
func (d *Daemon) observe(peers []tunnelPeer, links map[uuid.UUID]*link, quality map[probe.Path]probe.Quality, now time.Time) {
	if now.Sub(d.relays.observed) < period {
		return
	}
	d.relays.observed = now
	for _, p := range peers {
		if q := quality[probe.Path{Peer: p.ID, Device: links[p.ID].choice.Device}]; q.Works {
			d.relays.position.Observe(p.ID, p.vertex.At, q.RTT)
		}
	}
}

// whyBroken says why the link to a peer is not used. The lock is held.
func (d *Daemon) whyBroken(p tunnelPeer, l *link, s topology.Sight) string {
	e := d.relays.exceptions
	switch {
	case !e.Is(p.ID):
		return fmt.Sprintf("%s says that the direct link does not work", p.end.Name)
	case l.reason != "":
		return "there is no direct link: " + l.reason
	case s.Works:
		until, _ := e.Until(s)
		return fmt.Sprintf("the direct link works since %s, and is taken at %s if it goes on", s.Since.Format(time.TimeOnly), until.Format(time.TimeOnly))
	}
	return "no probe is answered by the direct link, and others hear it"
}

// logDetour logs what is news of the way to a peer.
func (d *Daemon) logDetour(p tunnelPeer, old, now *link) {
	var before, after topology.Detour
	if old != nil && old.detour != nil {
		before = *old.detour
	}
	if now.detour != nil {
		after = *now.detour
	}
	if !slices.Equal(before.Path, after.Path) {
		d.log.Info("route changed", "peer", p.end.Name, "from", cmp.Or(d.pathNames(before), "direct"), "to", cmp.Or(d.pathNames(after), "direct"), "why", oneLine(errors.New(now.whyBroken)))
	}
}

// pathNames are the relays of a detour, "" for none.
func (d *Daemon) pathNames(t topology.Detour) string {
	if len(t.Path) == 0 {
		return ""
	}
	return "by " + strings.Join(d.names(t.Path[:len(t.Path)-1]), ", ")
}

// checkRelayed names the peers whose traffic takes a way by others.
func checkRelayed(d *Daemon) string {
	var names []string
	for _, l := range d.tunnel.Load().links {
		if l.detour != nil {
			names = append(names, fmt.Sprintf("%s %s (%s)", d.nameOf(l.Peer), d.pathNames(*l.detour), l.whyBroken))
		}
	}
	if len(names) == 0 {
		return ""
	}
	return "other hosts relay, which costs them and time, to " + strings.Join(names, ", ")
}
