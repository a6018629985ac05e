package mesh

import (
	"context"
	"crypto/ed25519"
	"encoding/binary"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/google/uuid"
)

// A confined peer keeps lines to some of the others, and to those that it has asked
// something: without address space it cannot be answered in any other way. What a
// line is says callers.go, which is its other end.
const (
	lineCount = 8                // lines that are kept while nothing is asked
	lineIdle  = time.Minute      // since the last question to a peer
	lineLife  = 10 * time.Minute // after which a line is made anew, which tries again to connect back
	lineBeat  = 10 * time.Second // of TCP's keepalive, which also keeps the NAT's mapping
	maxCalls  = 16               // of one peer that are being answered; more than that it has no use for
)

// keepLines opens the lines that are due, while this peer is confined.
func (m *Mesh) keepLines() {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-m.ctx.Done():
			return
		case <-m.relines:
		case now := <-tick.C:
			m.forgetBack(now)
		}
		if id, paths, ok := m.backDue(time.Now()); ok {
			m.wg.Go(func() { m.askBack(id, paths) })
		}
		for id, paths := range m.linesDue(time.Now()) {
			m.startLine(id, paths)
		}
	}
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
// are reached; none while this peer is not confined.
func (m *Mesh) linesDue(now time.Time) map[uuid.UUID][]path {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.confinedLocked() {
		return nil
	}
	var order []uuid.UUID
	for id := range m.members {
		if !m.records.of(id).Body.Confined {
			order = append(order, id)
		}
	}
	out := map[uuid.UUID][]path{}
	for i, id := range Nearest(m.cfg.Identity.ID, order) {
		if wanted := i < lineCount || now.Sub(m.confinement.asked[id]) < lineIdle; wanted && !m.confinement.held[id] {
			out[id] = m.withoutOverlay(id)
		}
	}
	return out
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

// keepLine opens a line to a peer, says so, and keeps it until it ends or its time is
// over.
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
	return m.serveLine(conn, by.addr)
}

// serveLine takes in what comes by a line to the peer at an address, until it ends.
func (m *Mesh) serveLine(conn net.Conn, addr string) error {
	calls := make(chan struct{}, maxCalls)
	for {
		kind, content, err := readLine(conn)
		if err != nil {
			return err
		}
		switch kind {
		case linePacket:
			m.transport.inject(content, conn.RemoteAddr())
		case lineCall:
			if len(content) != callLen {
				return fmt.Errorf("call with a number of %d bytes", len(content))
			}
			select {
			case calls <- struct{}{}:
				m.wg.Go(func() {
					m.answerCall(addr, content)
					<-calls
				})
			default: // who has called tries again
			}
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
