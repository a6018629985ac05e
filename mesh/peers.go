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
)

// Peer is a peer that this host knows of.
type Peer struct {
	ID      uuid.UUID
	Self    bool
	State   State
	Since   time.Time // of alive or failed; zero if it was never seen to change
	Version uint64    // of its record
	Record  Body
}

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
		}
		out = append(out, p)
	}
	slices.SortFunc(out, func(a, b Peer) int {
		return cmp.Or(cmp.Compare(a.Record.Name, b.Record.Name), bytes.Compare(a.ID[:], b.ID[:]))
	})
	return out
}
