// Package topology says by whom a peer is reached where the direct link does not
// work. What every peer publishes is the input: the links that do not work, which
// are few, and where the peer is in a space of round-trip times. All peers with
// the same input come to ways that fit together. It has no clock, network or
// goroutine, and does not know what carries packets.
package topology

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"slices"
	"time"

	"github.com/google/uuid"
)

// Peer is a peer as it describes itself.
type Peer struct {
	ID uuid.UUID
	// Broken are the peers that none of its own paths leads to. One end's word
	// is enough for both directions.
	Broken []uuid.UUID
	// Shaky are those whose link works again since a moment ago: it is taken where
	// there is no other way.
	Shaky []uuid.UUID
	// Mute are peers that it was relayed by, and that do not answer it any more.
	Mute []uuid.UUID
	// Leaf tells that it relays nothing.
	Leaf bool
	At   Coordinate
}

// Detour is the way to a peer by others.
type Detour struct {
	// Path has the peers on the way in order; the last is the one that it leads
	// to. It is empty where no way is known.
	Path []uuid.UUID
	RTT  time.Duration // as the coordinates have it; 0 where all are in the middle
}

// Detours returns the ways of one peer to those that its direct link does not
// lead to, or not for sure; all others are reached directly. A way takes the fewest
// relays that are mute, then the fewest shaky links, then the fewest relays, and of
// those ways the one with the least round-trip time is taken.
//
// No two ways are equally good, links have no direction, and a part of a best
// way is a best way itself. So with the same input the way back is the same way,
// and each peer on it goes on as the one before it expects.
func Detours(self uuid.UUID, peers []Peer) map[uuid.UUID]Detour {
	if !slices.ContainsFunc(peers, func(p Peer) bool {
		return p.ID == self && len(p.Broken)+len(p.Shaky) > 0 || slices.Contains(p.Broken, self) || slices.Contains(p.Shaky, self)
	}) {
		return nil // as nearly always
	}
	g := newGraph(peers)
	own, ok := g.index[self]
	if !ok {
		return nil
	}
	return g.detours(own)
}

// graph is all peers by number. Every pair is linked but for those that are
// broken.
type graph struct {
	peers  []Peer
	index  map[uuid.UUID]int
	broken map[int][]int
	shaky  map[int][]int // and not broken
	mute   map[int]bool
}

func newGraph(peers []Peer) graph {
	g := graph{peers: slices.Clone(peers), index: make(map[uuid.UUID]int, len(peers)), mute: map[int]bool{}}
	slices.SortFunc(g.peers, func(a, b Peer) int { return bytes.Compare(a.ID[:], b.ID[:]) })
	for i, p := range g.peers {
		g.index[p.ID] = i
		if !p.At.IsValid() {
			g.peers[i].At = nil
		}
	}
	for _, p := range g.peers {
		for _, id := range p.Mute {
			if j, ok := g.index[id]; ok {
				g.mute[j] = true
			}
		}
	}
	g.broken = g.named(func(p Peer) []uuid.UUID { return p.Broken })
	g.shaky = g.named(func(p Peer) []uuid.UUID { return p.Shaky })
	for i, list := range g.shaky {
		g.shaky[i] = slices.DeleteFunc(list, func(j int) bool { return has(g.broken[i], j) })
	}
	return g
}

// named are the links that either end names, by both ends, each sorted.
func (g graph) named(of func(Peer) []uuid.UUID) map[int][]int {
	out := map[int][]int{}
	for i, p := range g.peers {
		for _, id := range of(p) {
			if j, ok := g.index[id]; ok && i != j {
				out[i], out[j] = append(out[i], j), append(out[j], i)
			}
		}
	}
	for i, list := range out {
		slices.Sort(list)
		out[i] = slices.Compact(list)
	}
	return out
}

func has(sorted []int, i int) bool {
	_, found := slices.BinarySearch(sorted, i)
	return found
}

// cost of a way; what comes first counts most. Each is a sum over the way, so
// that to go on from a better way is better.
type cost struct {
	mute  int // relays that do not answer somebody
	shaky int // links
	hops  int
	rtt   time.Duration
	tie   uint64 // tells ways apart that are equally good
}

func (c cost) compare(o cost) int {
	return cmp.Or(cmp.Compare(c.mute, o.mute), cmp.Compare(c.shaky, o.shaky), cmp.Compare(c.hops, o.hops), cmp.Compare(c.rtt, o.rtt), cmp.Compare(c.tie, o.tie))
}

// over is the cost of going on by one link from a peer, which so becomes a relay
// unless the way begins there.
func (g graph) over(c cost, from, to int) cost {
	if c.hops > 0 && g.mute[from] {
		c.mute++
	}
	if has(g.shaky[from], to) {
		c.shaky++
	}
	a, b := g.peers[from], g.peers[to]
	return cost{c.mute, c.shaky, c.hops + 1, c.rtt + a.At.distance(b.At), c.tie + tie(a.ID, b.ID)}
}

// reached is a peer with the best way to it.
type reached struct {
	cost   cost
	by     int // the peer before it
	found  bool
	closed bool // there is none better
}

// detours is Dijkstra's algorithm on the peers that are not linked with self for
// sure. To all others the link alone is best, so that the work grows with what is
// broken.
func (g graph) detours(self int) map[uuid.UUID]Detour {
	targets := slices.Concat(g.broken[self], g.shaky[self])
	unsure := make([]bool, len(g.peers))
	for _, t := range targets {
		unsure[t] = true
	}
	apart := make([]bool, len(g.peers)) // scratch: not linked with the one in question
	mark := func(of int, as bool) {
		for _, i := range g.broken[of] {
			apart[i] = as
		}
	}
	var relays []int
	direct := make(map[int]cost, len(g.peers)-len(targets))
	for i, p := range g.peers {
		if i != self && !unsure[i] && !p.Leaf {
			relays = append(relays, i)
			direct[i] = g.over(cost{}, self, i)
		}
	}
	best := make(map[int]*reached, len(targets))
	for _, t := range targets {
		r := &reached{}
		if best[t] = r; has(g.shaky[self], t) {
			r.take(g.over(cost{}, self, t), self)
		}
		mark(t, true)
		for _, by := range relays {
			if !apart[by] {
				r.take(g.over(direct[by], by, t), by)
			}
		}
		mark(t, false)
	}
	for {
		next := -1
		for _, t := range targets {
			if r := best[t]; r.found && !r.closed && (next < 0 || r.cost.compare(best[next].cost) < 0) {
				next = t
			}
		}
		if next < 0 {
			break
		}
		best[next].closed = true
		if g.peers[next].Leaf {
			continue
		}
		mark(next, true)
		for _, t := range targets {
			if !apart[t] && t != next && !best[t].closed {
				best[t].take(g.over(best[next].cost, next, t), next)
			}
		}
		mark(next, false)
	}
	out := make(map[uuid.UUID]Detour, len(targets))
	for _, t := range targets {
		out[g.peers[t].ID] = g.trace(best, self, t)
	}
	return out
}

func (r *reached) take(c cost, by int) {
	if !r.found || c.compare(r.cost) < 0 {
		*r = reached{cost: c, by: by, found: true}
	}
}

// trace follows the best way back.
func (g graph) trace(best map[int]*reached, self, t int) Detour {
	if !best[t].found {
		return Detour{}
	}
	d := Detour{RTT: best[t].cost.rtt, Path: []uuid.UUID{g.peers[t].ID}}
	for r := best[t]; r != nil && r.by != self; r = best[r.by] {
		d.Path = append(d.Path, g.peers[r.by].ID)
	}
	slices.Reverse(d.Path)
	return d
}

// tieBits leaves room for the sum over the longest way that a packet survives.
const tieBits = 56

// tie is a number of a link that both ends know, as if drawn by chance.
func tie(a, b uuid.UUID) uint64 {
	half := func(id uuid.UUID) uint64 {
		return binary.BigEndian.Uint64(id[:8]) ^ binary.BigEndian.Uint64(id[8:])*0x9e3779b97f4a7c15
	}
	// The finalizer of SplitMix64.
	x := half(a) ^ half(b)
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return (x ^ x>>31) >> (64 - tieBits)
}
