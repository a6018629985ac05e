package mesh

import (
	"maps"
	"slices"
	"time"
)

// Target is a host that this one was told to join.
type Target struct {
	Addr      string
	Connected bool
	LastError string    // of the latest attempt; "" if it succeeded or there was none
	NextTry   time.Time // zero if there is none
}

// Targets are the hosts that this one was told to join, by address.
func (m *Mesh) Targets() []Target {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []Target
	for _, addr := range slices.Sorted(maps.Keys(m.targets)) {
		a := m.targets[addr]
		if !a.target {
			continue
		}
		t := Target{Addr: addr, Connected: m.members[a.peer] != nil || a.peer == m.cfg.Identity.ID}
		switch {
		case t.Connected:
		case m.records[a.peer].Body.Departed:
			t.LastError = "the peer there has left the mesh"
		default:
			t.LastError, t.NextTry = a.err, a.next
		}
		out = append(out, t)
	}
	return out
}
