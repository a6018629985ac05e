package mesh

import (
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/hashicorp/memberlist"
)

const (
	// maxPacket is what surely fits a gossip packet with all of memberlist's
	// headers; what is larger goes over TCP.
	maxPacket = 1200
	// maxSpreading bounds what waits to be gossiped.
	maxSpreading = 4096
	// thorough makes gossip tell everybody. memberlist passes each piece of news on
	// 4·⌈log10 n⌉ times, to peers drawn by chance, so that in a mesh of 99 one of 33
	// pieces would miss somebody until the next exchange; with n ten times as large it
	// is one of 1,600 at most.
	thorough = 10
	// While more than muchNews waits, as when many hosts start at once, each piece is
	// passed on eight times only, as in a mesh of inBrief: it misses one of 3,000 peers,
	// who sees by the metadata that he lacks a record and asks for it, or is told of
	// another piece in his next exchange.
	muchNews = 64
	inBrief  = 99
	// headStart is to how many peers this one's own news goes straight away, so
	// that a small mesh need not wait for the next rounds of gossip.
	headStart = 32
	// Bounds of the reliable sends that wait and that are under way.
	outboxMessages = 4096
	senders        = 64
	// stuckAfter is how long nothing has come through to a peer that is sent
	// nothing more until something has, or has failed.
	stuckAfter = time.Second
	// slowAfter is how long nothing has come through to a peer that others are
	// preferred to, and that is sent no more than slowLetters at once.
	slowAfter   = 300 * time.Millisecond
	slowLetters = 4
)

// recordBroadcast is an entry of memberlist's queue that the next of the same
// peer replaces.
type recordBroadcast struct {
	peer string
	msg  []byte
}

func (b *recordBroadcast) Name() string                          { return b.peer }
func (b *recordBroadcast) Message() []byte                       { return b.msg }
func (b *recordBroadcast) Finished()                             {}
func (b *recordBroadcast) Invalidates(memberlist.Broadcast) bool { return false } // by Name

// deltaBroadcast is one that nothing replaces.
type deltaBroadcast []byte

func (b deltaBroadcast) UniqueBroadcast()                      {}
func (b deltaBroadcast) Message() []byte                       { return b }
func (b deltaBroadcast) Finished()                             {}
func (b deltaBroadcast) Invalidates(memberlist.Broadcast) bool { return false }

// tooLarge fits no packet.
var tooLarge = make(deltaBroadcast, 1<<16)

// audience is for how many peers gossip makes sure that they hear each piece of news.
func (m *Mesh) audience() int {
	n := thorough * m.count()
	if m.spreading.Load() > muchNews {
		n = min(n, inBrief)
	}
	return n
}

// newQueue makes a queue that never becomes empty: it holds an entry that is too
// large for any packet. memberlist v0.7.0 numbers entries anew when its queue
// runs empty, which a replacement can make it do while an entry with an old
// number is on its way in; a later one of the same length and number then
// silently overwrites it (hashicorp/memberlist#263).
func newQueue(audience func() int, retransmitMult int) *memberlist.TransmitLimitedQueue {
	q := &memberlist.TransmitLimitedQueue{NumNodes: audience, RetransmitMult: retransmitMult}
	q.QueueBroadcast(tooLarge)
	return q
}

// utterance is own news of late.
type utterance struct {
	at   time.Time
	msg  []byte
	told int // newcomers
}

// Bounds of own news that is told again to who has just come: a newcomer has
// fetched the state from one peer before the others count it as a member.
const (
	recentTime = 10 * time.Second
	recentKept = 64
	recentTold = 64 // newcomers; when more come at once, exchanges tell the rest
)

// remember keeps own news for newcomers; mu is held.
func (m *Mesh) remember(msg []byte, now time.Time) {
	m.recent = append(m.recent, utterance{at: now, msg: msg})
	m.recent = slices.Delete(m.recent, 0, max(0, len(m.recent)-recentKept))
	m.forget(now)
}

func (m *Mesh) forget(now time.Time) {
	m.recent = slices.DeleteFunc(m.recent, func(u utterance) bool { return now.Sub(u.at) > recentTime })
}

// announce tells everybody of this peer's own news.
func (m *Mesh) announce(msg []byte, peer string) {
	m.mu.Lock()
	m.remember(msg, time.Now())
	m.mu.Unlock()
	if len(msg) <= maxPacket {
		for _, n := range m.some(headStart) { // gossip goes on to tell
			m.packet(n, msg)
		}
	}
	m.spread(msg, peer, toAll)
}

// To how many peers news goes over TCP that does not fit a packet. What its
// writer has sent to all need not be passed on. What an exchange has brought may
// be new to others as well, but when parts of a mesh come together many bring
// the same; whom that leaves out is told by the next exchanges.
const (
	toNobody = 0
	toMany   = 64
	toAll    = math.MaxInt
)

// spread passes news on: by gossip, or, where it does not fit a packet, over TCP
// to that many. Who is alone keeps nothing for whoever comes: that one gets
// everything in an exchange.
func (m *Mesh) spread(msg []byte, peer string, reach int) {
	switch {
	case m.count() == 1:
	case len(msg) > maxPacket:
		for _, n := range m.some(reach) {
			m.post(n, msg)
		}
	case peer != "":
		m.queue.QueueBroadcast(&recordBroadcast{peer, msg})
		m.queue.Prune(maxSpreading)
	default:
		m.queue.QueueBroadcast(deltaBroadcast(msg))
		m.queue.Prune(maxSpreading)
	}
}

// some are so many of the live members but this one, by chance, or all. To whom
// something has been under way for a while comes last: gossip may go on to take
// for alive whom this host does not reach.
func (m *Mesh) some(n int) []*memberlist.Node {
	others := m.others()
	rand.Shuffle(len(others), func(i, j int) { others[i], others[j] = others[j], others[i] })
	m.sendMu.Lock()
	late := func(n *memberlist.Node) int {
		if s := m.sending[n.Name]; s.n > 0 && time.Since(s.since) > slowAfter {
			return 1
		}
		return 0
	}
	slices.SortStableFunc(others, func(a, b *memberlist.Node) int { return late(a) - late(b) })
	m.sendMu.Unlock()
	return others[:min(n, len(others))]
}

// letter is a message on its way to one peer.
type letter struct {
	to  *memberlist.Node
	msg []byte
}

// post sends reliably, without waiting. What is too much is dropped, since
// every message is either repeated or repaired.
func (m *Mesh) post(n *memberlist.Node, msg []byte) {
	select {
	case m.outbox <- letter{n, msg}:
	default:
		m.counts.dropped.Add(1)
	}
}

// packet sends in a packet, which may be lost, what fits one, and posts the rest.
func (m *Mesh) packet(n *memberlist.Node, msg []byte) {
	if len(msg) > maxPacket {
		m.post(n, msg)
		return
	}
	if err := m.list.SendBestEffort(n, msg); err != nil {
		m.log.Debug("message not sent", "to", n.Name, "err", err)
	}
}

// sending is what is under way to one peer: how many, and since when none of
// them has ended.
type sending struct {
	n     int
	since time.Time
}

// begin takes note of a send, if the peer is not stuck: one that has lost its
// power lets each wait for many seconds, and would soon hold up all senders.
func (m *Mesh) begin(peer string) bool {
	m.sendMu.Lock()
	defer m.sendMu.Unlock()
	s := m.sending[peer]
	now := time.Now()
	if s.n == 0 {
		s.since = now
	} else if waits := now.Sub(s.since); waits > stuckAfter || s.n >= slowLetters && waits > slowAfter {
		return false
	}
	s.n++
	m.sending[peer] = s
	return true
}

// end is the other half of begin.
func (m *Mesh) end(peer string, sent bool) {
	m.sendMu.Lock()
	defer m.sendMu.Unlock()
	s := m.sending[peer]
	if s.n--; s.n == 0 {
		delete(m.sending, peer)
		return
	}
	if sent {
		s.since = time.Now()
	}
	m.sending[peer] = s
}

// send carries letters away, many at a time. One that takes long gives its turn to
// others: where half of a mesh is out of reach, letters that wait for an answer
// from there for many seconds must not hold up those to the hosts that are there.
func (m *Mesh) send() {
	turn := make(chan struct{}, senders)
	for {
		select {
		case <-m.ctx.Done():
			return
		case l := <-m.outbox:
			select {
			case <-m.ctx.Done():
				return
			case turn <- struct{}{}:
			}
			over := sync.OnceFunc(func() { <-turn })
			late := time.AfterFunc(slowAfter, over)
			m.wg.Go(func() {
				m.deliver(l)
				late.Stop()
				over()
			})
		}
	}
}

func (m *Mesh) deliver(l letter) {
	if !m.begin(l.to.Name) {
		m.counts.dropped.Add(1)
		return
	}
	err := m.list.SendReliable(l.to, l.msg)
	m.end(l.to.Name, err == nil)
	if err != nil {
		m.counts.unsent.Add(1)
		m.log.Debug("message not sent", "to", l.to.Name, "err", err)
	}
}

// Broadcast tells every peer's channel of a change that this peer made.
func (m *Mesh) Broadcast(channel string, delta []byte) {
	m.announce(encode(channelMessage(kindDelta, channel, delta)), "")
}

// Send gives a message to one peer's channel over TCP, signed by this peer and
// valid for that one only. It does not wait, and tells nobody if it is lost:
// whose message has to arrive repeats it until it is answered.
func (m *Mesh) Send(to uuid.UUID, channel string, data []byte) {
	m.sendTo(m.node(to), to, channel, data, m.post)
}

// SendAnyway is Send to a peer of which the caller knows that it is there, even if
// gossip holds it for failed still.
func (m *Mesh) SendAnyway(to uuid.UUID, channel string, data []byte) {
	m.sendTo(m.nodeOrLast(to), to, channel, data, m.post)
}

// SendPacket is SendAnyway in a packet, where the message fits one: it costs a small
// part of a connection, may be lost more easily, and is for who asks again soon.
func (m *Mesh) SendPacket(to uuid.UUID, channel string, data []byte) {
	m.sendTo(m.nodeOrLast(to), to, channel, data, m.packet)
}

// nodeOrLast is a member, or as what it was one last.
func (m *Mesh) nodeOrLast(peer uuid.UUID) *memberlist.Node {
	if n := m.node(peer); n != nil {
		return n
	}
	return m.lastSeen(peer)
}

func (m *Mesh) sendTo(n *memberlist.Node, to uuid.UUID, channel string, data []byte, by func(*memberlist.Node, []byte)) {
	m.wantLine(to)
	if n == nil {
		m.counts.unsent.Add(1)
		m.log.Debug("message not sent: no such member", "to", to)
		return
	}
	by(n, directMessage(m.cfg.Token.MeshID, m.cfg.Identity, to, m.Advertise(), channel, data))
}
