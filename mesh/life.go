package mesh

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/google/uuid"
)

// Life is one start of a peer's process. Two lives of one peer at the same time
// are two copies of it, of which one has to become another peer.
//
// A copy is found out in two ways. Whoever is greeted by a peer that answers
// elsewhere, by another life, does not let it in; that is before the copy has
// said anything in the mesh. And a life that hears a record of its own peer by
// another life says so in its next one (Body.Rival). Who reads there of itself
// knows that the other is no earlier life: none of those could know of it. Both
// then know, and the younger gives way.
type Life struct {
	Nonce uint64 `cbor:"1,keyasint"` // never 0
	Since int64  `cbor:"2,keyasint"` // when it began, in milliseconds of Unix time
}

// NewLife begins one.
func NewLife(now time.Time) Life {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	return Life{Nonce: binary.BigEndian.Uint64(b[:]) | 1, Since: now.UnixMilli()}
}

// other tells that both are known and not the same.
func (l Life) other(o Life) bool { return l.Nonce != 0 && o.Nonce != 0 && l.Nonce != o.Nonce }

// givesWay tells which of two lives of one peer becomes another peer: the younger.
func (l Life) givesWay(o Life) bool {
	if l.Since != o.Since {
		return l.Since > o.Since
	}
	return l.Nonce > o.Nonce
}

// seenBy is the body with who wrote it, and whom else that one has seen to write
// this peer's record, by the record that was the latest.
func (b Body) seenBy(l Life, latest Body) Body {
	b.Life, b.Rival = l, latest.Rival
	if l.other(latest.Life) {
		b.Rival = latest.Life.Nonce
	}
	return b
}

// elsewhereTime bounds the question whether a peer is somewhere else.
const elsewhereTime = 1500 * time.Millisecond

// elsewhere finds out whether a peer that says hello from an address lives
// somewhere else already; it returns where.
func (m *Mesh) elsewhere(id uuid.UUID, l Life, from netip.AddrPort) (where string, ok bool) {
	m.mu.Lock()
	known, up := m.records.of(id).Body, m.members[id] != nil
	m.mu.Unlock()
	if !up || !l.other(known.Life) || slices.Contains(known.Gossip, from) {
		return "", false
	}
	ctx, cancel := context.WithTimeout(m.ctx, elsewhereTime)
	defer cancel()
	self := HelloSelf{ID: m.cfg.Identity.ID, Name: m.cfg.Name, Advertise: m.Advertise(), Settings: m.cfg.Settings, Life: m.cfg.Life}
	for _, at := range known.Gossip[:min(len(known.Gossip), 2)] {
		w, _, err := hello(ctx, m.dial, at.String(), m.Tokens().Use, self)
		if err == nil && w.ID == id && l.other(w.Life) {
			return at.String(), true
		}
	}
	return "", false
}

// copyVerdict refuses a copy.
func copyVerdict(id uuid.UUID, where string) verdict {
	return verdict{CodeCopy, fmt.Sprintf("peer %s runs at %s: the host that asks has a copy of its store", id, where)}
}

// Copied tells, once, that another host is this peer, too, and that this one has
// to become another peer: where the other is, as far as is known.
func (m *Mesh) Copied() <-chan string { return m.copied }

func (m *Mesh) tellCopied(why string) {
	select {
	case m.copied <- why:
		m.log.Error("another host is this peer, too, and this one gives way", "why", why)
	default: // it is told already
	}
}
