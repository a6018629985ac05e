package mesh

import (
	"time"

	"github.com/google/uuid"
	"github.com/hashicorp/memberlist"
)

// member is a peer that memberlist thinks is up.
type member struct {
	node  *memberlist.Node // our own copy
	since time.Time
	claim digest    // of the record that it says it has
	late  time.Time // since when we have not that record; zero if we have it
	asked bool      // whether it was asked for that
}

// The owner is asked for a record that it announces and that has not come by itself for
// a while, as a lost packet would otherwise cost half a minute: by a packet, and where
// that is of no use by connections, more rarely.
const (
	lateAfter = 2 * time.Second
	askAgain  = 10 * time.Second
	// wantsAtOnce bounds how many are asked in a second: where more are late many
	// have come at once, and one exchange brings what each would be asked for.
	wantsAtOnce = 8
)

func (m *Mesh) memberUp(n *memberlist.Node) {
	id, err := uuid.Parse(n.Name)
	if err != nil || id == m.cfg.Identity.ID {
		return
	}
	m.mu.Lock()
	m.members[id] = &member{node: copyNode(n), since: time.Now(), claim: decodeDigest(n.Meta)}
	delete(m.lostAt, id)
	name := m.records.of(id).Body.Name
	m.noteOffer(m.records.of(id))
	m.forget(time.Now())
	for i := range m.recent {
		if u := &m.recent[i]; u.told < recentTold {
			u.told++
			m.post(m.members[id].node, u.msg)
		}
	}
	m.mu.Unlock()
	m.log.Info("peer is up", "peer", id, "name", name, "addr", n.Address())
	m.poke()
}

func (m *Mesh) memberUpdated(n *memberlist.Node) {
	id, err := uuid.Parse(n.Name)
	if err != nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if have, ok := m.members[id]; ok {
		have.node, have.claim = copyNode(n), decodeDigest(n.Meta)
		m.changes.Add(1)
	}
}

func (m *Mesh) memberDown(n *memberlist.Node) {
	id, err := uuid.Parse(n.Name)
	if err != nil || id == m.cfg.Identity.ID {
		return
	}
	m.mu.Lock()
	delete(m.members, id)
	m.lostAt[id] = time.Now()
	body := m.records.of(id).Body
	m.mu.Unlock()
	if body.Departed {
		m.log.Info("peer has left", "peer", id, "name", body.Name, "addr", n.Address())
	} else {
		m.log.Warn("peer does not answer", "peer", id, "name", body.Name, "addr", n.Address())
	}
	m.poke()
}

// others are the live members but this one.
func (m *Mesh) others() []*memberlist.Node {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := make([]*memberlist.Node, 0, len(m.members))
	for _, o := range m.members {
		out = append(out, o.node)
	}
	return out
}

// isUp tells whether a peer is a live member.
func (m *Mesh) isUp(id uuid.UUID) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.members[id] != nil
}

// count is the number of live members, this peer included.
func (m *Mesh) count() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.members) + 1
}

// node is where a peer is reached: as a member, else as it said itself; nil
// if neither is known.
func (m *Mesh) node(id uuid.UUID) *memberlist.Node {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.nodeLocked(id)
}

func (m *Mesh) nodeLocked(id uuid.UUID) *memberlist.Node {
	if o, ok := m.members[id]; ok {
		return o.node
	}
	if at, ok := m.heardFrom[id]; ok && at.IsValid() {
		return &memberlist.Node{Name: id.String(), Addr: at.Addr().AsSlice(), Port: at.Port()}
	}
	return nil
}

// lastSeen is where a peer that is no member says that its gossip is; nil if it is
// not known, or has left.
func (m *Mesh) lastSeen(id uuid.UUID) *memberlist.Node {
	m.mu.Lock()
	defer m.mu.Unlock()
	body := m.records.of(id).Body
	if body.Departed || len(body.Gossip) == 0 {
		return nil
	}
	return &memberlist.Node{Name: id.String(), Addr: body.Gossip[0].Addr().AsSlice(), Port: body.Gossip[0].Port()}
}

// asking is a member that is to be asked for its record, maybe not for the first time.
type asking struct {
	id    uuid.UUID
	node  *memberlist.Node
	again bool
}

// askLate asks those members for their record who are to be asked now.
func (m *Mesh) askLate(now time.Time) {
	ask, more := m.late(now)
	for _, a := range ask {
		if a.again {
			m.post(a.node, wantMessage(m.cfg.Identity.ID))
		} else {
			m.sendSync(a.id, recordSync{Want: []uuid.UUID{a.id}, Packets: true})
		}
	}
	if more {
		m.compare()
	}
}

// late are the members to be asked for their record now, and whether there are
// more of them than can be asked.
func (m *Mesh) late(now time.Time) (ask []asking, more bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	changes := m.changes.Load() + 1 // never 0
	if changes == m.lateAt {
		return nil, false // and nobody was late when all were looked at
	}
	any := false
	for id, o := range m.members {
		if !o.claim.ahead(m.records.of(id)) {
			o.late, o.asked = time.Time{}, false
			continue
		}
		any = true
		switch {
		case o.late.IsZero():
			o.late = now
		case now.Sub(o.late) < lateAfter:
		case len(ask) == wantsAtOnce:
			more = true
		default:
			ask = append(ask, asking{id, o.node, o.asked})
			if o.late = now; o.asked {
				o.late = now.Add(askAgain - lateAfter)
			}
			o.asked = true
		}
	}
	if !any {
		m.lateAt = changes
	}
	return ask, more
}
