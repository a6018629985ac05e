package ipam

import (
	"errors"
	"slices"

	"github.com/google/uuid"

	"github.com/weft-net/weft/ipam/council"
)

// ErrForked says that this peer's store was set back or copied.
var ErrForked = errors.New("this host's store was copied, or set back to an earlier state")

// life is one start of a member's process, as it was heard: the transactions
// from the first to the last.
type life struct {
	start       uint64
	first, last uint64
}

// said is how far the process of a start has come.
type said struct{ start, count uint64 }

// livesKept bounds what is kept of each member.
const livesKept = 8

// remember notes a member's start and transaction. Starts of one member follow
// each other: two that overlap are those of two copies, or of a store that was
// set back and knows nothing of what it said since.
func (c *Core) remember(m *Msg) {
	c.countSaid(m)
	lives := c.seen[m.FromID]
	i := slices.IndexFunc(lives, func(l life) bool { return l.start == m.Start })
	now := life{m.Start, m.Begun, m.Seq}
	if i >= 0 {
		now.first, now.last = min(now.first, lives[i].first), max(now.last, lives[i].last)
	}
	for j, o := range lives {
		if j == i || now.first > o.last {
			continue
		}
		// A late message of an earlier start, or a store that was set back to
		// before the other start began. Who sent it knows which, and may have
		// forgotten everybody who could tell it otherwise.
		c.send(m.Peer, &Msg{Kind: kindSeen, To: m.FromID, Token: o.start, Index: o.last})
		if o.first <= now.last {
			c.poison(m.FromID)
			return
		}
	}
	if i >= 0 && now == lives[i] {
		return
	}
	lives = slices.Clone(lives)
	if i >= 0 {
		lives[i] = now
	} else if lives = append(lives, now); len(lives) > livesKept {
		lives = lives[1:]
	}
	c.seen[m.FromID] = lives
	mark(&c.dirty.seen, m.FromID)
}

// countSaid notes how much a process has said. To a message from before, of
// which there are many kinds but few digests, it answers how much that is: two
// processes that run from one memory know nothing of each other but this.
func (c *Core) countSaid(m *Msg) {
	switch most := c.counts[m.FromID]; {
	case m.Start != most.start || m.Said > most.count:
		c.counts[m.FromID] = said{m.Start, m.Said}
	case m.Said < most.count && m.Kind == kindDigest:
		c.send(m.Peer, &Msg{Kind: kindSeen, To: m.FromID, Token: m.Start, Nonce: most.count})
	}
}

// forgotWard tells whether a member was let in by this one, which knows nothing
// of it: nobody else knows of a ward before its sponsor does.
func (c *Core) forgotWard(m council.Member) bool {
	id := m.ID()
	_, sealed := c.view.Sealed[id]
	return c.self != uuid.Nil && m.Sponsor == c.self && !c.wards[id] && !c.view.IsAdmitted(id) && !sealed
}

// isOutvoted tells whether somebody decided in the name of this member, whose
// vote alone decides.
func (c *Core) isOutvoted() bool {
	if c.node == nil {
		return false
	}
	s := c.node.State()
	return len(s.Voters) == 1 && s.Voters[0] == c.self && s.Index < c.view.Index && s.Domain.Hash() == c.domain
}

// onSeen compares what another heard of this member with what it knows itself.
// The other may be no member here: it is one of those that were forgotten.
func (c *Core) onSeen(m *Msg) {
	ahead := m.Index >= c.begun // of a start before this one
	if m.Token == c.start {
		ahead = m.Nonce > c.said
	}
	if m.To == c.self && ahead {
		c.poison(c.self)
	}
}

// poison marks a member that is in the world more than once. It is to be sealed,
// and each of its copies begins anew.
func (c *Core) poison(id ID) {
	if id == uuid.Nil || c.poisoned[id] || c.isSealed(id) {
		return
	}
	if _, known := c.member(id); !known {
		return
	}
	c.poisoned[id], c.dirty.poisoned = true, true
	c.news.Poisoned = append(c.news.Poisoned, id)
	if id == c.self {
		c.trouble(ErrForked)
		c.renounce()
	}
}
