package mesh

import (
	"bytes"
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"
)

// A peer that was removed, which only the daemon can know, and does not answer is
// gone. Mostly that is for ever, but it may only have been out of reach, so it is
// remembered, and looked for ever more rarely, for a while; after that it is for
// itself to come back. Each peer counts from when it saw that by itself, so nobody is
// told of those that are gone: else the last to forget would remind the first.
const (
	goneTime = 7 * 24 * time.Hour
	// maxGone bounds them where hosts come and go all the time.
	maxGone = 4096
	// lastGoneWait is lastWait for those that are gone.
	lastGoneWait = time.Hour
)

// SetRemoved says which peers are shut out of the mesh: all of them, known here or
// not. The map must not be changed after.
func (m *Mesh) SetRemoved(peers map[uuid.UUID]bool) {
	m.mu.Lock()
	same := maps.Equal(m.removed, peers)
	m.removed = peers
	m.mu.Unlock()
	if !same {
		m.poke()
	}
}

// isGone tells that a peer was removed and does not answer. Who has left is not one
// of those. mu is held.
func (m *Mesh) isGone(id uuid.UUID) bool {
	return m.removed[id] && m.members[id] == nil && id != m.cfg.Identity.ID && !m.records.of(id).Body.Departed
}

// told are the records that others are told: of all but those that are gone. mu is held.
func (m *Mesh) told() records {
	if len(m.removed) == 0 {
		return m.records
	}
	out := make(records, len(m.records))
	for id, r := range m.records {
		if !m.isGone(id) {
			out[id] = r
		}
	}
	return out
}

// forgetGone forgets those that have been gone for long, and of too many those that
// were so first.
func (m *Mesh) forgetGone(now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.removed) == 0 {
		m.goneSince = nil
		return
	}
	var gone []uuid.UUID
	since := map[uuid.UUID]time.Time{}
	for id := range m.records {
		if !m.isGone(id) {
			continue
		}
		gone = append(gone, id)
		if since[id] = now; !m.goneSince[id].IsZero() {
			since[id] = m.goneSince[id]
		}
	}
	m.goneSince = since
	slices.SortFunc(gone, func(a, b uuid.UUID) int {
		return cmp.Or(since[b].Compare(since[a]), bytes.Compare(a[:], b[:]))
	})
	kept := 0
	for kept < min(len(gone), maxGone) && now.Sub(since[gone[kept]]) < goneTime {
		kept++
	}
	m.drop(gone[kept:])
}

// drop forgets peers, and where they were. mu is held.
func (m *Mesh) drop(peers []uuid.UUID) {
	for _, id := range peers {
		delete(m.records, id)
		delete(m.lostAt, id)
		delete(m.goneSince, id)
		delete(m.farewells, id)
	}
	if len(peers) > 0 {
		m.retarget()
		m.changes.Add(1)
	}
}
