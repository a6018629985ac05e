package daemon

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

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
	// askedAtOnce is how many are asked, and mostAsked about how many peers, which fit
	// a packet; to mostOwed the answer is sent later.
	askedAtOnce = 5
	mostAsked   = 32
	mostOwed    = 16
	// mostRead bounds what is read.
	mostRead = 64
	// Pauses between two questions about a peer: they grow with its silence.
	askPause     = 250 * time.Millisecond
	longestPause = 2 * time.Minute
	// steady is for how long, besides an interval, a path has to have worked
	// before what came by it counts: of a daemon that comes back each other host
	// hears at a moment of its own.
	steady = 500 * time.Millisecond
	// byStream is which question, or comparison of records, goes by a connection, and
	// not by a packet: there are networks that let only those pass.
	byStream = 4
	// mostHops is how many hosts pass on that somebody needs a later word: each takes it
	// for needed a little later than it is, so that it must not go round for ever.
	mostHops = 4
	// margin is what clocks and rounds of the prober may differ by.
	margin = 250 * time.Millisecond
)

// hearsay is what other hosts say that they heard. It is a mesh.Channel.
type hearsay struct {
	mesh   atomic.Pointer[mesh.Mesh]
	steady func(peers []uuid.UUID) map[uuid.UUID]time.Duration // what this host has heard, and how long ago
	news   chan struct{}                                       // has a word when somebody has heard a peer, or wants to know
	began  time.Time                                           // this host's clock in what it asks is since then

	mu     sync.Mutex
	missed map[uuid.UUID]*missed
	round  int // how often this host has asked
}

// missed is what this host knows of a peer that it does not hear.
type missed struct {
	// need is what a word of the peer has to be later than to be of use to this host, and
	// theirs to one that asked it, by so many hops.
	need, theirs time.Time
	hops         byte
	asked        time.Time // when this host has asked
	heard        time.Time // when somebody has heard the peer
	owed         []question
}

// question is one that has come.
type question struct {
	from  uuid.UUID
	asked time.Duration // by the asker's clock
	at    time.Time     // when it came
	need  time.Time     // of missed; each peer's own
	// packet tells that it came in one, so that the answer may.
	packet bool
}

func newHearsay(steady func([]uuid.UUID) map[uuid.UUID]time.Duration) *hearsay {
	return &hearsay{steady: steady, began: time.Now(), round: rand.IntN(math.MaxUint16), news: make(chan struct{}, 1), missed: map[uuid.UUID]*missed{}}
}

// rumour is a question, or the answer to one.
type rumour struct {
	Ask   []uuid.UUID `cbor:"1,keyasint,omitempty"`
	Heard []heardOf   `cbor:"2,keyasint,omitempty"`
	// Asked is when the question was asked, by the asker's clock, above 0; also in
	// the answer.
	Asked time.Duration `cbor:"3,keyasint,omitempty"`
	// Packet tells of a question that the answer may come in a packet, as it did.
	Packet bool `cbor:"4,keyasint,omitempty"`
	// After says of each of Ask how long before the question a peer has to have been
	// heard at most, in milliseconds; none if any word will do.
	After []int64 `cbor:"5,keyasint,omitempty"`
	// Hops says of each of Ask how many hosts have passed that on.
	Hops []byte `cbor:"6,keyasint,omitempty"`
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
	if len(r.Ask) > mostRead || len(r.Heard) > mostRead || len(r.After) > len(r.Ask) || len(r.Hops) != len(r.After) {
		return rumour{}, fmt.Errorf("a peer asks about %d others, from %d times on by %d hops, and tells of %d; %d are the most", len(r.Ask), len(r.After), len(r.Hops), len(r.Heard), mostRead)
	}
	return r, nil
}

// need is what a word of the peer at a place in Ask has to be later than, for who has
// asked at that time.
func (r rumour) need(i int, at time.Time) (need time.Time) {
	if i < len(r.After) {
		need = at.Add(-time.Duration(max(0, min(r.After[i], math.MaxInt32))) * time.Millisecond)
	}
	return need
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
	q := question{from: from, asked: r.Asked, at: now, packet: r.Packet}
	list, wanted := h.told(q, r)
	h.tell(q, list)
	news, owed := h.take(r, now)
	for q, list := range owed {
		h.tell(q, list)
	}
	if news || wanted {
		select {
		case h.news <- struct{}{}:
		default:
		}
	}
}

// tell answers a question. Who has asked is there, whatever gossip holds of it.
func (h *hearsay) tell(q question, list []heardOf) {
	if m := h.mesh.Load(); m != nil && len(list) > 0 {
		send := m.SendAnyway
		if q.packet {
			send = m.SendPacket
		}
		send(q.from, h.Name(), encode(rumour{Heard: list, Asked: q.asked}))
	}
}

// told is what this host has heard of some peers, or else been told. Of those that it
// does not hear either it owes the asker the next word that is of use, and asks others
// for it: wanted tells that it has to.
func (h *hearsay) told(q question, r rumour) (out []heardOf, wanted bool) {
	if len(r.Ask) == 0 {
		return nil, false
	}
	own := h.steady(r.Ask)
	h.mu.Lock()
	defer h.mu.Unlock()
	for i, peer := range r.Ask {
		q.need = r.need(i, q.at)
		ago, ok := own[peer]
		s := h.missed[peer]
		if !ok && s != nil {
			ago, ok = q.at.Sub(s.heard), s.heard.After(q.need)
		}
		switch {
		case ok && q.at.Add(-ago).After(q.need):
			out = append(out, heardOf{Peer: peer, Ago: ago})
		case s != nil:
			if s.isRaised(q.need) && r.Hops[i] < mostHops {
				s.theirs, s.hops, wanted = q.need, r.Hops[i]+1, true
			}
			if s.owed = slices.DeleteFunc(s.owed, func(o question) bool { return o.from == q.from }); len(s.owed) < mostOwed {
				s.owed = append(s.owed, q)
			}
		}
	}
	return out, wanted
}

// next is what is asked for: what this host needs itself comes first.
func (s *missed) next() (need time.Time, hops byte) {
	if s.heard.After(s.need) {
		return s.theirs, s.hops
	}
	return s.need, 0
}

// latest is what somebody needs who needs the latest word.
func (s *missed) latest() time.Time {
	if s.theirs.After(s.need) {
		return s.theirs
	}
	return s.need
}

// isRaised tells whether a word that is needed to be later than that has to be asked
// for: this host asks already if it is about as late as what it needs.
func (s *missed) isRaised(need time.Time) bool {
	known := s.latest()
	return need.After(known.Add(margin)) || need.After(known) && s.heard.After(known)
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
		if at := asked.Add(-x.Ago); !at.After(now) && h.hear(x.Peer, at, owed) {
			news = true
		}
	}
	return news, owed
}

// hear notes when somebody has heard a silent peer, and adds what others are owed of
// it; ok tells whether it is news. The lock is held.
func (h *hearsay) hear(peer uuid.UUID, at time.Time, owed map[question][]heardOf) (ok bool) {
	s := h.missed[peer]
	if s == nil || !at.After(s.heard) {
		return false
	}
	s.heard = at
	s.owed = slices.DeleteFunc(s.owed, func(q question) bool {
		of := q
		if of.need = (time.Time{}); at.After(q.need) { // all that one question is owed goes together
			owed[of] = append(owed[of], heardOf{Peer: peer, Ago: q.at.Sub(at)})
		}
		return at.After(q.need)
	})
	return true
}

// about says when others have heard each of these silent peers, as far as they have
// answered or said so in their records (words), and asks some of those that this host
// reaches, where it is time. A word is of use if it is later by slack than the last
// answer; then nobody is asked any more.
func (h *hearsay) about(silent []topology.Sight, reached []topology.Peer, words topology.Words, slack time.Duration, now time.Time) map[uuid.UUID]time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	still, heard := map[uuid.UUID]*missed{}, map[uuid.UUID]time.Time{}
	for _, s := range silent {
		if still[s.Peer] = h.missed[s.Peer]; still[s.Peer] == nil {
			still[s.Peer] = &missed{}
		}
	}
	h.missed = still
	question, owed := rumour{Asked: now.Sub(h.began)}, map[question][]heardOf{}
	for _, s := range silent {
		x := still[s.Peer]
		if need := s.Heard.Add(slack); need.After(x.need) {
			x.need = need
		}
		h.hear(s.Peer, words.Since(s.Peer), owed)
		if !x.heard.IsZero() {
			heard[s.Peer] = x.heard
		}
		need, hops := x.next()
		pause := min(max(now.Sub(x.latest())/10, askPause), longestPause)
		if x.heard.After(need) || now.Sub(x.asked) < pause || len(question.Ask) == mostAsked {
			continue
		}
		x.asked = now
		question.Ask, question.After = append(question.Ask, s.Peer), append(question.After, now.Sub(need).Milliseconds())
		question.Hops = append(question.Hops, hops)
	}
	for q, list := range owed {
		h.tell(q, list)
	}
	m := h.mesh.Load()
	if m == nil || len(question.Ask) == 0 || len(reached) == 0 { // nearly always there is nothing to ask
		return heard
	}
	h.round++
	send, turn := m.SendAnyway, h.round/byStream // either has turns of its own
	if question.Packet = h.round%byStream != 0; question.Packet {
		send, turn = m.SendPacket, h.round-turn
	}
	said := encode(question)
	for _, p := range inTurn(reached, turn) {
		send(p.ID, h.Name(), said)
	}
	return heard
}

// inTurn are those who are asked in a turn: after some turns all have been, since it
// may be only one who knows.
func inTurn(reached []topology.Peer, turn int) (out []topology.Peer) {
	for i := range min(askedAtOnce, len(reached)) {
		out = append(out, reached[(turn*askedAtOnce+i)%len(reached)])
	}
	return out
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
	now, atLeast := d.now(), steady+d.prober.Load().Interval()
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
