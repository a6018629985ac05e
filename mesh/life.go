package mesh

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
)

// Life is one start of a peer's process. Two lives of one peer at the same time
// are two copies of it, of which one has to become another peer.
//
// A copy is found out in two ways. Whoever is greeted by a peer that answers
// elsewhere, by another life, does not let it in; that is before the copy has
// said anything in the mesh. One that runs, and is the older, says so when it greets
// again, and is let in: the other hears of it by gossip. And a life that hears a
// record of its own peer by another life says so in its next one (Body.Rival). Who
// reads there of itself knows that the other is no earlier life: none of those could
// know of it. Both then know, and the younger gives way.
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

// elsewhere finds out whether a peer that says hello lives somewhere else already; it
// returns where. One that knows of that life, and is the older of the two, does not
// have to stay out: the other will give way.
func (m *Mesh) elsewhere(open helloOpen) (where string, other Life, ok bool) {
	m.mu.Lock()
	known, up := m.records.of(open.ID).Body, m.members[open.ID] != nil
	m.mu.Unlock()
	if !up || !open.Life.other(known.Life) || slices.Contains(known.Gossip, open.Advertise) {
		return "", Life{}, false
	}
	ctx, cancel := context.WithTimeout(m.ctx, elsewhereTime)
	defer cancel()
	self := HelloSelf{ID: m.cfg.Identity.ID, Name: m.cfg.Name, Advertise: m.Advertise(), Settings: m.cfg.Settings, Life: m.cfg.Life}
	for _, at := range known.Gossip[:min(len(known.Gossip), 2)] {
		w, _, err := hello(ctx, m.dial, at.String(), m.Tokens().Use, self)
		if err == nil && w.ID == open.ID && open.Life.other(w.Life) {
			return at.String(), w.Life, open.Rival != w.Life.Nonce || open.Life.givesWay(w.Life)
		}
	}
	return "", Life{}, false
}

// staysIn tells whether a hello was refused because of a younger life, which is the
// one that has to give way. Who does not say which life it means is believed.
func (l Life) staysIn(err error) (younger Life, ok bool) {
	var refused *RefusedError
	if errors.As(err, &refused) && refused.Code == CodeCopy && l.other(refused.Life) {
		return refused.Life, !l.givesWay(refused.Life)
	}
	return Life{}, false
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
