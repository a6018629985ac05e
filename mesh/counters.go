package mesh

import (
	"maps"
	"sync"
	"sync/atomic"
	"time"
)

// Counters say what was refused or lost since this Mesh was made.
type Counters struct {
	// RecordsRefused counts foreign records by reason: oversized, malformed,
	// bad-signature, foreign-mesh, version, too-many; and Outdated, which a late
	// packet is as well as a replayed one.
	RecordsRefused map[string]uint64
	// MessagesRefused counts the messages that could not be taken in, by reason:
	// malformed, bad-signature, version; and Untimely, of or for a peer that is not
	// known here.
	MessagesRefused map[string]uint64
	// LastRefused is when any of those was refused, but for Outdated and Untimely;
	// zero for never.
	LastRefused time.Time
	// Dropped messages found a full queue, in or out; the periodic exchange
	// repairs what they said.
	Dropped uint64
	// Unsent messages to one peer could not be given to it.
	Unsent uint64
	// Spreading is how many pieces of news wait at present to be gossiped, maybe
	// for the second time or more.
	Spreading int
}

// Reasons of what is refused that an honest peer sends, too: records that are
// older than what is known, and messages that came too early or too late.
const (
	Outdated = "outdated"
	Untimely = "untimely"
)

type counts struct {
	dropped, unsent   atomic.Uint64
	mu                sync.Mutex
	records, messages map[string]uint64 // refused, by reason
	last              time.Time
}

func (c *counts) refuse(reason string)        { c.count(&c.records, reason) }
func (c *counts) refuseMessage(reason string) { c.count(&c.messages, reason) }

func (c *counts) count(in *map[string]uint64, reason string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if *in == nil {
		*in = map[string]uint64{}
	}
	(*in)[reason]++
	if reason != Outdated && reason != Untimely {
		c.last = time.Now()
	}
}

// Counters are the counts up to now.
func (m *Mesh) Counters() Counters {
	c := &m.counts
	spreading := m.queue.NumQueued() - 1 // see newQueue; its lock is taken before the mesh's, and the counts' after that
	c.mu.Lock()
	defer c.mu.Unlock()
	return Counters{
		RecordsRefused: maps.Clone(c.records), MessagesRefused: maps.Clone(c.messages), LastRefused: c.last,
		Dropped: c.dropped.Load(), Unsent: c.unsent.Load(), Spreading: spreading,
	}
}
