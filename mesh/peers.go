package mesh

import (
	"bytes"
	"cmp"
	"fmt"
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

// Peers are all that are known, this one included, by name and id.
func (m *Mesh) Peers() []Peer {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []Peer
	for id, r := range m.records {
		p := Peer{ID: id, Self: id == m.cfg.Identity.ID, Version: r.Version, Record: r.Body, State: StateFailed, Since: m.lostAt[id]}
		since, up := m.alive[id]
		switch {
		case r.Body.Departed:
			p.State = StateDeparted
		case p.Self:
			p.State = StateAlive
		case up:
			p.State, p.Since = StateAlive, since
		}
		out = append(out, p)
	}
	slices.SortFunc(out, func(a, b Peer) int {
		return cmp.Or(cmp.Compare(a.Record.Name, b.Record.Name), bytes.Compare(a.ID[:], b.ID[:]))
	})
	return out
}

// snapshotVersion of what Snapshot writes.
const snapshotVersion = 1

type snapshot struct {
	_       struct{} `cbor:",toarray"`
	Version int
	Records []signed
}

// Snapshot is what this peer should remember of the others, for the store.
func (m *Mesh) Snapshot() []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := snapshot{Version: snapshotVersion}
	for _, r := range m.records {
		s.Records = append(s.Records, r.signed)
	}
	slices.SortFunc(s.Records, func(a, b signed) int { return bytes.Compare(a.Payload, b.Payload) })
	return encode(s)
}

// restore reads what Snapshot wrote; nil is nothing.
func restore(meshID uuid.UUID, b []byte) (records, error) {
	known := records{}
	if b == nil {
		return known, nil
	}
	var s snapshot
	if err := decoder.Unmarshal(b, &s); err != nil {
		return nil, fmt.Errorf("read remembered peers: %w", err)
	}
	if s.Version != snapshotVersion {
		return nil, fmt.Errorf("remembered peers are of version %d, this weft knows %d", s.Version, snapshotVersion)
	}
	for _, sr := range s.Records {
		r, err := verify(meshID, sr)
		if err != nil {
			return nil, fmt.Errorf("read remembered peers: %w", err)
		}
		known.merge(r)
	}
	return known, nil
}

// Remembered counts the other peers in a snapshot that have not left.
func Remembered(snapshot []byte, t Token, self uuid.UUID) (int, error) {
	known, err := restore(t.MeshID, snapshot)
	n := 0
	for id, r := range known {
		if id != self && !r.Body.Departed {
			n++
		}
	}
	return n, err
}
