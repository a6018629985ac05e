package daemon

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/weft-net/weft/encap/probe"
	"github.com/weft-net/weft/mesh"
	"github.com/weft-net/weft/mesh/topology"
)

// A peer that falls silent may be dead, or its daemon stopped while its kernel
// forwards; or only the link to it may be broken. Who wants to know asks a few
// others whether they have heard it since. Nothing is told to all of the mesh
// until that is known, since of a host that dies each would tell.

const (
	// askedAtOnce is how many are asked, and mostAsked about how many peers.
	askedAtOnce = 3
	mostAsked   = 64
	// Pauses between two questions about a peer: they grow with its silence.
	askPause     = time.Second
	longestPause = 2 * time.Minute
	// steady is for how long, besides an interval, a path has to have worked
	// before what came by it counts: of a daemon that comes back each other host
	// hears at a moment of its own.
	steady = time.Second
	// margin is what clocks and rounds of the prober may differ by.
	margin = 250 * time.Millisecond
)

// hearsay is what other hosts say that they heard. It is a mesh.Channel.
type hearsay struct {
	mesh   atomic.Pointer[mesh.Mesh]
	steady func(peers []uuid.UUID) map[uuid.UUID]time.Duration // what this host has heard, and how long ago
	news   chan struct{}                                       // has a word when somebody has heard a peer

	mu    sync.Mutex
	next  map[uuid.UUID]time.Time // when to ask about a silent peer again
	heard map[uuid.UUID]time.Time // when somebody has heard it
}

func newHearsay(steady func([]uuid.UUID) map[uuid.UUID]time.Duration) *hearsay {
	return &hearsay{steady: steady, news: make(chan struct{}, 1), next: map[uuid.UUID]time.Time{}, heard: map[uuid.UUID]time.Time{}}
}

// rumour is a question, or the answer to one.
type rumour struct {
	Ask   []uuid.UUID `cbor:"1,keyasint,omitempty"`
	Heard []heardOf   `cbor:"2,keyasint,omitempty"`
}

type heardOf struct {
	_    struct{} `cbor:",toarray"`
	Peer uuid.UUID
	Ago  time.Duration
}

func readRumour(b []byte) (r rumour, err error) {
	if err := strict.Unmarshal(b, &r); err != nil {
		return r, fmt.Errorf("read what a peer has heard: %w", err)
	}
	if len(r.Ask) > mostAsked || len(r.Heard) > mostAsked {
		return rumour{}, fmt.Errorf("a peer asks about %d others and tells of %d; %d are the most", len(r.Ask), len(r.Heard), mostAsked)
	}
	return r, nil
}

// Name of the channel in the gossip.
func (h *hearsay) Name() string { return "links" }

// State is nothing: what was heard is of the moment.
func (h *hearsay) State() []byte { return nil }

// Merge has nothing to take in.
func (h *hearsay) Merge([]byte) []byte { return nil }

// Receive takes in a question or an answer.
func (h *hearsay) Receive(from uuid.UUID, msg []byte) {
	r, err := readRumour(msg)
	if err != nil {
		return
	}
	if len(r.Ask) > 0 {
		var answer rumour
		for peer, ago := range h.steady(r.Ask) {
			answer.Heard = append(answer.Heard, heardOf{Peer: peer, Ago: ago})
		}
		if m := h.mesh.Load(); m != nil && len(answer.Heard) > 0 {
			m.Send(from, h.Name(), encode(answer))
		}
	}
	if h.take(r.Heard, time.Now()) {
		select {
		case h.news <- struct{}{}:
		default:
		}
	}
}

// take notes what was asked for, and tells whether it is news.
func (h *hearsay) take(list []heardOf, now time.Time) (news bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, x := range list {
		if at := now.Add(-x.Ago); !h.next[x.Peer].IsZero() && x.Ago >= 0 && at.After(h.heard[x.Peer]) {
			h.heard[x.Peer], news = at, true
		}
	}
	return news
}

// about says when others have heard each of these silent peers, as far as is
// known, and asks some of those that this host reaches, where it is time.
func (h *hearsay) about(silent []topology.Sight, reached []uuid.UUID, now time.Time) map[uuid.UUID]time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	still := map[uuid.UUID]time.Time{}
	var ask []uuid.UUID
	for _, s := range silent {
		still[s.Peer] = h.next[s.Peer]
		if now.Before(h.next[s.Peer]) || len(ask) == mostAsked {
			continue
		}
		ask = append(ask, s.Peer)
		still[s.Peer] = now.Add(min(max(now.Sub(s.Heard)/10, askPause), longestPause))
	}
	h.next = still
	maps.DeleteFunc(h.heard, func(peer uuid.UUID, _ time.Time) bool { _, ok := still[peer]; return !ok })
	if m := h.mesh.Load(); m != nil && len(ask) > 0 {
		reached = slices.Clone(reached)
		rand.Shuffle(len(reached), func(i, j int) { reached[i], reached[j] = reached[j], reached[i] })
		for _, peer := range reached[:min(askedAtOnce, len(reached))] {
			m.SendAnyway(peer, h.Name(), encode(rumour{Ask: ask}))
		}
	}
	return maps.Clone(h.heard)
}

// steadily is how long ago this host has heard those of some peers that it has
// heard for a while.
func (d *Daemon) steadily(peers []uuid.UUID) map[uuid.UUID]time.Duration {
	asked := map[uuid.UUID]bool{}
	for _, p := range peers {
		asked[p] = true
	}
	out := map[uuid.UUID]time.Duration{}
	if d.prober.Load() == nil {
		return out // it is being launched
	}
	all := d.qualities()
	now, atLeast := d.now(), steady+probe.Interval(len(all))
	for path, q := range all {
		if !asked[path.Peer] || !q.Works || now.Sub(q.Since) < atLeast {
			continue
		}
		if ago, ok := out[path.Peer]; !ok || now.Sub(q.Heard) < ago {
			out[path.Peer] = max(0, now.Sub(q.Heard))
		}
	}
	return out
}
