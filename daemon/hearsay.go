package daemon

import (
	"fmt"
	"maps"
	"math"
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
// others whether they have heard it since, or been told that somebody has: of two
// halves of a mesh that one link joins, only the hosts at that link's ends hear
// anybody of the other half. Nothing is told to all of the mesh until that is
// known, since of a host that dies each would tell.

const (
	// askedAtOnce is how many are asked, and mostAsked about how many peers; to
	// mostOwed the answer is sent later.
	askedAtOnce = 5
	mostAsked   = 64
	mostOwed    = 16
	// Pauses between two questions about a peer: they grow with its silence.
	askPause     = 250 * time.Millisecond
	longestPause = 2 * time.Minute
	// steady is for how long, besides an interval, a path has to have worked
	// before what came by it counts: of a daemon that comes back each other host
	// hears at a moment of its own.
	steady = time.Second
	// byStream is which question is asked by a connection, and not by a packet: there
	// are networks that let only those pass.
	byStream = 4
	// margin is what clocks and rounds of the prober may differ by.
	margin = 250 * time.Millisecond
)

// hearsay is what other hosts say that they heard. It is a mesh.Channel.
type hearsay struct {
	mesh   atomic.Pointer[mesh.Mesh]
	steady func(peers []uuid.UUID) map[uuid.UUID]time.Duration // what this host has heard, and how long ago
	news   chan struct{}                                       // has a word when somebody has heard a peer
	began  time.Time                                           // this host's clock in what it asks is since then

	mu    sync.Mutex
	next  map[uuid.UUID]time.Time  // when to ask about a silent peer again
	heard map[uuid.UUID]time.Time  // when somebody has heard it
	owed  map[uuid.UUID][]question // who asked about a silent peer, and got no answer
	round int                      // how often this host has asked
}

// question is one that has come.
type question struct {
	from  uuid.UUID
	asked time.Duration // by the asker's clock
	at    time.Time     // when it came
}

func newHearsay(steady func([]uuid.UUID) map[uuid.UUID]time.Duration) *hearsay {
	return &hearsay{steady: steady, began: time.Now(), round: rand.IntN(math.MaxUint16), news: make(chan struct{}, 1), next: map[uuid.UUID]time.Time{}, heard: map[uuid.UUID]time.Time{}, owed: map[uuid.UUID][]question{}}
}

// rumour is a question, or the answer to one.
type rumour struct {
	Ask   []uuid.UUID `cbor:"1,keyasint,omitempty"`
	Heard []heardOf   `cbor:"2,keyasint,omitempty"`
	// Asked is when the question was asked, by the asker's clock, above 0; also in
	// the answer.
	Asked time.Duration `cbor:"3,keyasint,omitempty"`
}

// heardOf says how long before the question came somebody has heard a peer; below 0
// if it was later. The asker counts back from when it asked, which was before that.
// So however long messages take, no word gets younger by going round.
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
	now := time.Now()
	if len(r.Ask) > 0 {
		q := question{from, r.Asked, now}
		h.tell(q, h.told(q, r.Ask))
	}
	news, owed := h.take(r, now)
	for q, list := range owed {
		h.tell(q, list)
	}
	if news {
		select {
		case h.news <- struct{}{}:
		default:
		}
	}
}

// tell answers a question. Who has asked is there, whatever gossip holds of it.
func (h *hearsay) tell(q question, list []heardOf) {
	if m := h.mesh.Load(); m != nil && len(list) > 0 {
		m.SendAnyway(q.from, h.Name(), encode(rumour{Heard: list, Asked: q.asked}))
	}
}

// told is what this host has heard of some peers, or else been told. Who asks is
// owed the rest, if this host asks about it as well.
func (h *hearsay) told(q question, about []uuid.UUID) (out []heardOf) {
	own := h.steady(about)
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, peer := range about {
		ago, ok := own[peer]
		if at, told := h.heard[peer]; !ok && told {
			ago, ok = q.at.Sub(at), true
		}
		_, silent := h.next[peer]
		switch {
		case ok:
			out = append(out, heardOf{Peer: peer, Ago: ago})
		case silent && len(h.owed[peer]) < mostOwed:
			h.owed[peer] = append(slices.DeleteFunc(h.owed[peer], func(o question) bool { return o.from == q.from }), q)
		}
	}
	return out
}

// take notes what was asked for, and tells whether it is news, and who is owed
// what of it.
func (h *hearsay) take(r rumour, now time.Time) (news bool, owed map[question][]heardOf) {
	asked := now // of an older weft
	if since := h.began.Add(r.Asked); r.Asked > 0 && since.Before(now) {
		asked = since
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	owed = map[question][]heardOf{}
	for _, x := range r.Heard {
		if at := asked.Add(-x.Ago); !h.next[x.Peer].IsZero() && !at.After(now) && at.After(h.heard[x.Peer]) {
			h.heard[x.Peer], news = at, true
			for _, q := range h.owed[x.Peer] {
				owed[q] = append(owed[q], heardOf{Peer: x.Peer, Ago: q.at.Sub(at)})
			}
			delete(h.owed, x.Peer)
		}
	}
	return news, owed
}

// about says when others have heard each of these silent peers, as far as they
// have answered, and asks some of those that this host reaches, where it is time.
func (h *hearsay) about(silent []topology.Sight, reached []topology.Peer, now time.Time) map[uuid.UUID]time.Time {
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
	maps.DeleteFunc(h.owed, func(peer uuid.UUID, _ []question) bool { _, ok := still[peer]; return !ok })
	if m := h.mesh.Load(); m != nil && len(ask) > 0 && len(reached) > 0 { // nearly always there is nothing to ask
		// All of them in turn: it may be only one who knows.
		h.round++
		send, question := m.SendPacket, encode(rumour{Ask: ask, Asked: now.Sub(h.began)})
		if h.round%byStream == 0 {
			send = m.SendAnyway
		}
		for i := range min(askedAtOnce, len(reached)) {
			send(reached[(h.round*askedAtOnce+i)%len(reached)].ID, h.Name(), question)
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
