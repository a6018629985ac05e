package mesh

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"
)

// A peer is confined if others cannot connect to it: it is behind NAT or a
// firewall, and dials out. Whom it greets tries to connect back, and says whether
// that worked. A confined peer keeps lines to some of the others, and to those
// that it has asked something: without address space it cannot be answered by
// any other way.
const (
	backTime   = 1500 * time.Millisecond // for the attempt to connect back
	backEnough = 3                       // peers that got through, after which nobody else is asked
	backAgain  = 5 * time.Second         // between two that are asked, while nobody has said anything
	lineCount  = 8                       // lines that are kept while nothing is asked
	lineIdle   = time.Minute             // since the last question to a peer
	lineLife   = 10 * time.Minute        // after which a line is made anew, which tries again to connect back
	lineBeat   = 10 * time.Second        // of TCP's keepalive, which also keeps the NAT's mapping
)

// confinement is what a peer has heard of how it is reached.
type confinement struct {
	through map[uuid.UUID]bool      // who tried to connect back, and whether that worked
	from    netip.Addr              // from where it was heard last
	asked   map[uuid.UUID]time.Time // to whom a message went that may want an answer
	held    map[uuid.UUID]bool      // lines that are kept, or tried
	asking  bool                    // somebody is asked to connect back
}

// Reachability is how others get to this peer.
type Reachability struct {
	Confined bool       // they cannot connect to it
	From     netip.Addr // as one of them sees it; zero if none has said
	Tried    int        // how many have tried
}

// Reachability says how others get to this peer, as far as they have told it.
func (m *Mesh) Reachability() Reachability {
	m.mu.Lock()
	defer m.mu.Unlock()
	return Reachability{m.confinedLocked(), m.confinement.from, len(m.confinement.through)}
}

// confinedLocked: one who cannot connect is enough, since there will be others. mu
// is held.
func (m *Mesh) confinedLocked() bool {
	for _, through := range m.confinement.through {
		if !through {
			return true
		}
	}
	return false
}

// asksBack tells whether the next one that is greeted should try to connect back.
func (m *Mesh) asksBack() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.confinement.through) < backEnough || m.confinedLocked()
}

// noteBack takes note of what a peer says in its welcome.
func (m *Mesh) noteBack(w Welcome) {
	if w.Back == backUnasked {
		return
	}
	m.mu.Lock()
	was := m.confinedLocked()
	m.confinement.through[w.ID] = w.Back == backThrough
	m.confinement.from = w.From
	is := m.confinedLocked()
	m.mu.Unlock()
	if was != is {
		m.log.Info("whether others can connect to this host", "confined", is, "seen from", w.From, "peer", w.ID)
		m.relook()
		m.poke()
	}
}

// connectBack tries whether a peer is reached where it says.
func (m *Mesh) connectBack(ctx context.Context, open helloOpen) bool {
	ctx, cancel := context.WithTimeout(ctx, backTime)
	defer cancel()
	if !open.Advertise.IsValid() {
		return false
	}
	return m.isAt(ctx, open.Advertise.String(), open.ID)
}

// isAt tells whether it is this peer that answers at an address.
func (m *Mesh) isAt(ctx context.Context, addr string, id uuid.UUID) bool {
	w, _, err := hello(ctx, m.dial, addr, m.Tokens().Use, m.helloSelf())
	return err == nil && w.ID == id
}

// dialTo opens a stream to an address; see network.
func (m *Mesh) dialTo(ctx context.Context, addr, verify string) (net.Conn, error) {
	if verify != "" {
		known := path{WayDirect, addr}
		if p, ok := m.reached.get(verify); !ok || p != known {
			if id, err := uuid.Parse(verify); err != nil || !m.isAt(ctx, addr, id) {
				return nil, &UnreachableError{addr, errors.New("it is not the peer that is meant")}
			}
		}
	}
	return m.dial(ctx, addr)
}

// wantLine notes that a peer may have to answer.
func (m *Mesh) wantLine(id uuid.UUID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.confinedLocked() {
		m.confinement.asked[id] = time.Now()
		if !m.confinement.held[id] {
			m.relook()
		}
	}
}

// relook has the lines looked at soon.
func (m *Mesh) relook() {
	select {
	case m.relines <- struct{}{}:
	default:
	}
}

// linesDue are the peers to which a line has to be opened now, with where they
// are reached.
func (m *Mesh) linesDue(now time.Time) map[uuid.UUID][]path {
	m.mu.Lock()
	defer m.mu.Unlock()
	var order []uuid.UUID
	for id := range m.members {
		if !m.records[id].Body.Confined {
			order = append(order, id)
		}
	}
	out := map[uuid.UUID][]path{}
	for i, id := range nearest(m.cfg.Identity.ID, order) {
		if m.lineWanted(id, i < lineCount, now) && !m.confinement.held[id] {
			out[id] = m.withoutOverlay(id)
		}
	}
	return out
}

// lineWanted tells whether there should be a line to a peer. mu is held.
func (m *Mesh) lineWanted(id uuid.UUID, near bool, now time.Time) bool {
	return m.confinedLocked() && (near || now.Sub(m.confinement.asked[id]) < lineIdle)
}

// nearest sorts peers so that each host has another order, which does not change.
func nearest(self uuid.UUID, peers []uuid.UUID) []uuid.UUID {
	distance := func(id uuid.UUID) (d uuid.UUID) {
		for i := range d {
			d[i] = id[i] ^ self[i]
		}
		return d
	}
	slices.SortFunc(peers, func(a, b uuid.UUID) int {
		x, y := distance(a), distance(b)
		return bytes.Compare(x[:], y[:])
	})
	return peers
}

// keepLines opens the lines that are due, while this peer is confined.
func (m *Mesh) keepLines() {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-m.ctx.Done():
			return
		case <-m.relines:
		case <-tick.C:
		}
		if id, paths, ok := m.backDue(); ok {
			m.wg.Go(func() { m.askBack(id, paths) })
		}
		for id, paths := range m.linesDue(time.Now()) {
			m.startLine(id, paths)
		}
	}
}

// startLine opens a line to a peer, unless there is one, and keeps it. Open is
// closed when there is a line, or none can be had.
func (m *Mesh) startLine(id uuid.UUID, paths []path) (open <-chan struct{}) {
	done := make(chan struct{})
	m.mu.Lock()
	held := m.confinement.held[id]
	m.confinement.held[id] = true
	m.mu.Unlock()
	if held {
		close(done)
		return done
	}
	m.wg.Go(func() {
		opened := sync.OnceFunc(func() { close(done) })
		err := m.keepLine(id, paths, opened)
		opened()
		m.log.Debug("line ends", "peer", id, "err", err)
		select { // one that fails at once is not tried at once
		case <-time.After(time.Second):
		case <-m.ctx.Done():
		}
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.confinement.held, id)
	})
	return done
}

// backDue is a peer to be asked whether it can connect back, if nobody who was
// greeted has said so. It is asked once at a time.
func (m *Mesh) backDue() (id uuid.UUID, paths []path, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.confinement.through) > 0 || m.confinement.asking {
		return id, nil, false
	}
	for _, id = range nearest(m.cfg.Identity.ID, slices.Collect(maps.Keys(m.members))) {
		if !m.records[id].Body.Confined && m.records[id].Version > 0 {
			m.confinement.asking = true
			return id, m.withoutOverlay(id), true
		}
	}
	return id, nil, false
}

// askBack greets a peer for its word whether it can connect back.
func (m *Mesh) askBack(id uuid.UUID, paths []path) {
	if conn, _, err := m.greetPeer(m.ctx, id, paths, m.helloSelf()); err == nil {
		conn.Close()
	}
	select {
	case <-time.After(backAgain):
	case <-m.ctx.Done():
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.confinement.asking = false
}

// withoutOverlay are the ways to a peer that do not need the overlay. mu is held.
func (m *Mesh) withoutOverlay(id uuid.UUID) []path {
	own, peer := m.records[m.cfg.Identity.ID].Body, m.records[id].Body
	own.Gateway = netip.Addr{}
	return pathsTo(own, peer, m.members[id].node.Address(), false)
}

// greetPeer says hello to a peer, which is asked to connect back, and keeps the
// connection.
func (m *Mesh) greetPeer(ctx context.Context, id uuid.UUID, paths []path, self HelloSelf) (net.Conn, path, error) {
	self.Back = true
	return race(ctx, paths, func(ctx context.Context, p path) (net.Conn, error) {
		conn, w, err := openHello(ctx, m.dial, p.addr, m.Tokens().Use, self)
		if err != nil {
			return nil, err
		}
		if w.ID != id {
			conn.Close()
			return nil, fmt.Errorf("greet peer %s: at %s is another", id, p.addr)
		}
		m.noteBack(w)
		return conn, nil
	})
}

// keepLine opens a line to a peer, says so, and serves it until it ends or its time
// is over.
func (m *Mesh) keepLine(id uuid.UUID, paths []path, opened func()) error {
	ctx, cancel := context.WithTimeout(m.ctx, lineLife)
	defer cancel()
	self := m.helloSelf()
	self.line = m.cfg.Identity.Key
	conn, by, err := m.greetPeer(ctx, id, paths, self)
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	if tcp, ok := conn.(*net.TCPConn); ok {
		beat := net.KeepAliveConfig{Enable: true, Idle: lineBeat, Interval: lineBeat / 2, Count: 3}
		if err := tcp.SetKeepAliveConfig(beat); err != nil {
			return err
		}
	}
	if err := conn.SetDeadline(time.Time{}); err != nil {
		return err
	}
	opened()
	for {
		kind, content, err := readLine(conn)
		if err != nil {
			return err
		}
		switch kind {
		case linePacket:
			m.transport.inject(content, conn.RemoteAddr())
		case lineCall:
			m.wg.Go(func() { m.answerCall(by.addr, content) })
		}
	}
}

// answerCall opens the connection that a peer has called for, which is then as
// one that the peer has opened.
func (m *Mesh) answerCall(addr string, number []byte) {
	ctx, cancel := context.WithTimeout(m.ctx, helloTime)
	defer cancel()
	conn, err := m.dial(ctx, addr)
	if err != nil {
		m.log.Debug("call not answered", "addr", addr, "err", err)
		return
	}
	if _, err := conn.Write(append([]byte(callMagic), number...)); err != nil {
		conn.Close()
		return
	}
	m.transport.sort(conn)
}

// lineProof is what the keeper of a line signs: whose packets it gets.
func lineProof(said1, said2 []byte) []byte {
	b := binary.BigEndian.AppendUint32([]byte("weft line\x00"), uint32(len(said1)))
	return append(append(b, said1...), said2...)
}

// mayHoldLine tells whether a line is its peer's.
func mayHoldLine(id uuid.UUID, p helloProof, said1, said2 []byte) bool {
	return len(p.Key) == ed25519.PublicKeySize && IDOf(p.Key) == id && ed25519.Verify(p.Key, lineProof(said1, said2), p.Signature)
}
