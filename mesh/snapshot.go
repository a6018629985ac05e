package mesh

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/google/uuid"
)

// snapshotVersion of what Snapshot writes.
const snapshotVersion = 1

type snapshot struct {
	_       struct{} `cbor:",toarray"`
	Version int
	Records []signed
}

// Snapshot is what this peer should remember, for the store: every record with
// its signature, its own and those of peers that have left included. Where the
// peers are reached is in their records.
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

// restore reads what Snapshot wrote; nil is nothing. A record that this weft refuses
// is left out, and told: others have it, or have a newer one. This peer's own it
// must know, since it goes on from there.
func restore(verified *VerifyCache, t Token, self uuid.UUID, b []byte, now time.Time, leftOut func(error)) (records, error) {
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
		r, err := verified.verify(t, sr)
		if errors.Is(err, errVersion) {
			continue // it was another weft that remembered it
		}
		if err != nil && sr.isOf(self) {
			return nil, fmt.Errorf("read remembered peers: this one's own: %w", err)
		}
		if err != nil {
			leftOut(err)
			continue
		}
		known.merge(r)
	}
	known.bury(self, now, nil)
	return known, nil
}

// Whereabouts are where the other peers in a snapshot that have not left are
// reached, and where this one was.
func Whereabouts(snapshot []byte, t Token, self uuid.UUID) (others, own []netip.AddrPort, err error) {
	known, err := restore(nil, t, self, snapshot, time.Now(), func(error) {})
	for id, r := range known {
		switch {
		case id == self:
			own = r.Body.Gossip
		case !r.Body.Departed:
			others = append(others, r.Body.Gossip...)
		}
	}
	return others, own, err
}

// Remembered counts the other peers in a snapshot that have not left and were not
// removed.
func Remembered(snapshot []byte, t Token, self uuid.UUID, removed map[uuid.UUID]bool) (int, error) {
	known, err := restore(nil, t, self, snapshot, time.Now(), func(error) {})
	n := 0
	for id, r := range known {
		if id != self && !r.Body.Departed && !removed[id] {
			n++
		}
	}
	return n, err
}
