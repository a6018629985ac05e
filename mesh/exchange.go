package mesh

import (
	"math/rand/v2"
	"time"

	"github.com/google/uuid"
)

// Two peers compare what they know in an exchange of ours, in which only sums
// travel, whatever the size of the mesh. In memberlist's own everybody's state
// travels, 150 bytes for each member; it repairs what gossip of members has
// lost, which is rare, so it is rare, too. memberlist itself makes it rarer still
// in a mesh of more than 32.
const (
	exchangeEvery = 30 * time.Second // on average
	pushPullEvery = 5 * time.Minute
)

// exchange compares with one peer after the other. Who knows something else
// answers with it or asks for it.
func (m *Mesh) exchange() {
	for {
		select {
		case <-m.ctx.Done():
			return
		case <-time.After(exchangeEvery/2 + rand.N(exchangeEvery)):
		}
		m.compare()
	}
}

// Compare tells a peer of which the caller knows that it is there, in short, what
// this one knows of the others. It is for who has seen that much is changing, and
// waits for nothing.
func (m *Mesh) Compare(peer uuid.UUID) {
	if n := m.nodeOrLast(peer); n != nil {
		m.post(n, m.state(false))
	}
}

// compare tells some peer, in short, what this one knows.
func (m *Mesh) compare() {
	for _, n := range m.some(1) {
		m.post(n, m.state(false))
	}
}

// state is what this peer tells in an exchange: all records, for somebody who
// joins, or their sums; and what the channels say.
func (m *Mesh) state(all bool) []byte {
	out := message{Protocol: ProtocolVersion, Kind: kindState}
	m.mu.Lock()
	if all {
		for _, r := range m.told() {
			out.Records = append(out.Records, r.signed)
		}
	} else {
		sums := encode(sumsOf{Peer: m.cfg.Identity.ID, Sums: m.told().sums()})
		out.Channels = append(out.Channels, channelData{Name: recordsChannel, Data: sums})
	}
	m.mu.Unlock()
	for _, c := range m.cfg.Channels {
		out.Channels = append(out.Channels, channelData{Name: c.Name(), Data: c.State()})
	}
	return encode(out)
}
