package mesh

import (
	"maps"
	"sync"
	"sync/atomic"
)

// Counters say what was refused or lost since this Mesh was made.
type Counters struct {
	// RecordsRefused counts foreign records by reason: oversized, malformed,
	// bad-signature, foreign-mesh.
	RecordsRefused map[string]uint64
	// Dropped messages found a full queue, in or out; the periodic exchange
	// repairs what they said.
	Dropped uint64
	// Unsent messages to one peer could not be given to it.
	Unsent uint64
}

type counts struct {
	dropped, unsent atomic.Uint64
	mu              sync.Mutex
	refused         map[string]uint64
}

func (c *counts) refuse(reason string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.refused == nil {
		c.refused = map[string]uint64{}
	}
	c.refused[reason]++
}

// Counters are the counts up to now.
func (m *Mesh) Counters() Counters {
	c := &m.counts
	c.mu.Lock()
	defer c.mu.Unlock()
	return Counters{RecordsRefused: maps.Clone(c.refused), Dropped: c.dropped.Load(), Unsent: c.unsent.Load()}
}
