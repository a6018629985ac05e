package mesh

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/google/uuid"
)

// A peer is confined if others cannot connect to it: it is behind NAT or a
// firewall, and dials out. Whom it greets tries to connect back, and says whether
// that worked.
const (
	backTime   = 1500 * time.Millisecond // for the attempt to connect back
	backEnough = 3                       // peers that got through, after which nobody else is asked
	backAgain  = 5 * time.Second         // between two that are asked, while nobody has said anything
	// wordLife is how long the word of one who has tried counts: those to which lines
	// are kept give it anew with each line.
	wordLife = 2 * lineLife
	// wordDoubt is after how long who could not connect is asked again: it may only
	// have been busy.
	wordDoubt = time.Minute
)

// confinement is what a peer has heard of how it is reached.
type confinement struct {
	through map[uuid.UUID]word      // of who tried to connect back
	from    netip.Addr              // from where it was heard last
	asked   map[uuid.UUID]time.Time // to whom a message went that may want an answer
	held    map[uuid.UUID]bool      // lines that are kept, or tried
	asking  bool                    // somebody is asked to connect back
}

// word is what a peer says that tried to connect back.
type word struct {
	through bool // it worked
	at      time.Time
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
	for id, w := range m.confinement.through {
		if !w.through && !m.records.of(id).Body.Departed {
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
	m.learn(func(c *confinement) {
		c.through[w.ID] = word{through: w.Back == backThrough, at: time.Now()}
		c.from = w.From
	})
}

// forgetBack forgets what was said long ago, by peers that are gone maybe.
func (m *Mesh) forgetBack(now time.Time) {
	m.learn(func(c *confinement) {
		maps.DeleteFunc(c.through, func(_ uuid.UUID, w word) bool { return now.Sub(w.at) > wordLife })
	})
}

// learn changes what is known of how this peer is reached, and does what follows.
func (m *Mesh) learn(change func(*confinement)) {
	m.mu.Lock()
	was := m.confinedLocked()
	change(&m.confinement)
	is, from := m.confinedLocked(), m.confinement.from
	m.mu.Unlock()
	if was != is {
		m.log.Info("whether others can connect to this host", "confined", is, "seen from", from)
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

// dialTo opens a stream by a path; see network.
func (m *Mesh) dialTo(ctx context.Context, p path, verify string) (net.Conn, error) {
	if verify != "" && !m.reached.isSure(verify, p) {
		if id, err := uuid.Parse(verify); err != nil || !m.isAt(ctx, p.addr, id) {
			return nil, &UnreachableError{p.addr, errors.New("it is not the peer that is meant")}
		}
	}
	return m.dial(ctx, p.addr)
}

// backDue is a peer to be asked whether it can connect back: if nobody who was
// greeted has said so, or one that could not, a while ago. It is asked once at a time.
func (m *Mesh) backDue(now time.Time) (id uuid.UUID, paths []path, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.confinement.asking {
		return id, nil, false
	}
	for id, w := range m.confinement.through {
		if !w.through && now.Sub(w.at) > wordDoubt && m.members[id] != nil {
			m.confinement.asking = true
			return id, m.withoutOverlay(id), true
		}
	}
	if len(m.confinement.through) > 0 {
		return id, nil, false
	}
	for _, id = range Nearest(m.cfg.Identity.ID, slices.Collect(maps.Keys(m.members))) {
		if !m.records.of(id).Body.Confined && m.records.of(id).Version > 0 {
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

// withoutOverlay are the ways to a peer that do not need the overlay. mu is held.
func (m *Mesh) withoutOverlay(id uuid.UUID) []path {
	own, peer := m.records.of(m.cfg.Identity.ID).Body, m.records.of(id).Body
	own.Gateway = netip.Addr{}
	return pathsTo(own, peer, m.members[id].node.Address(), false)
}

// Nearest sorts peers so that each host has another order, which does not change.
func Nearest(self uuid.UUID, peers []uuid.UUID) []uuid.UUID {
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
