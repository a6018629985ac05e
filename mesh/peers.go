package mesh

import (
	"bytes"
	"cmp"
	"slices"
	"time"

	"github.com/google/uuid"
)

// State of a peer as this host sees it.
type State string

// States of a peer.
const (
	StateAlive    State = "alive"
	StateFailed   State = "failed"   // does not answer; its record and its routes stay
	StateDeparted State = "departed" // has left for good
	StateRemoved  State = "removed"  // was removed and does not answer; it is forgotten after a while
)

// Peer is a peer that this host knows of.
type Peer struct {
	ID      uuid.UUID
	Self    bool
	State   State
	Since   time.Time // of alive, failed or removed; zero if it was never seen to change
	Version uint64    // of its record
	Record  Body
}

// IsOut tells that a peer has left or was removed: nobody waits for it, and another
// may have its name.
func (p Peer) IsOut() bool { return p.State == StateDeparted || p.State == StateRemoved }

// Peers are all that are known, this one included, by name and id. The list is shared
// by all who ask until something changes, and must not be changed.
func (m *Mesh) Peers() []Peer {
	m.mu.Lock()
	defer m.mu.Unlock()
	if changes := m.changes.Load() + 1; m.peersAt != changes { // never 0
		m.peers, m.peersAt = m.peersLocked(), changes
	}
	return m.peers
}

func (m *Mesh) peersLocked() []Peer {
	out := make([]Peer, 0, len(m.records))
	for id, r := range m.records {
		p := Peer{ID: id, Self: id == m.cfg.Identity.ID, Version: r.Version, Record: r.Body, State: StateFailed, Since: m.lostAt[id]}
		up, isUp := m.members[id]
		switch {
		case r.Body.Departed:
			p.State = StateDeparted
		case p.Self:
			p.State = StateAlive
		case isUp:
			p.State, p.Since = StateAlive, up.since
		case m.isGone(id):
			p.State = StateRemoved
		}
		out = append(out, p)
	}
	slices.SortFunc(out, func(a, b Peer) int {
		return cmp.Or(cmp.Compare(a.Record.Name, b.Record.Name), bytes.Compare(a.ID[:], b.ID[:]))
	})
	return out
}
