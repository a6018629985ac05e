package mesh

import (
	"bytes"
	"cmp"
	"slices"
	"time"

	"github.com/google/uuid"
)

// A tombstone, the record of a peer that has left, keeps a host that was away
// from bringing that peer's last record back. It is kept for so long, and the
// latest so many. All peers go by the time that is in it, so that none gives
// another back what that one has buried.
const (
	tombstoneTime = 30 * 24 * time.Hour
	maxTombstones = 4096
)

// isOld tells that a record is a tombstone whose time is over.
func (r *Record) isOld(now time.Time) bool {
	return r.Body.Departed && r.Body.DepartedAt != 0 && now.Sub(time.Unix(r.Body.DepartedAt, 0)) > tombstoneTime
}

// laterLeft orders tombstones, the latest first.
func laterLeft(a, b *Record) int {
	return cmp.Or(cmp.Compare(b.Body.DepartedAt, a.Body.DepartedAt), bytes.Compare(a.ID[:], b.ID[:]))
}

// isBuried tells that a record is a tombstone which is not to be kept, whether or
// not it was.
func (t records) isBuried(r *Record, now time.Time) bool {
	if !r.Body.Departed {
		return false
	}
	return r.isOld(now) || len(t) >= maxTombstones && t.lastTombstone(r)
}

// lastTombstone tells that there are as many tombstones as are kept, all of peers
// that left later.
func (t records) lastTombstone(r *Record) bool {
	n := 0
	for id, o := range t {
		if id != r.ID && o.Body.Departed && laterLeft(o, r) < 0 {
			n++
		}
	}
	return n >= maxTombstones
}

// bury forgets the tombstones that are not to be kept. Who has left does not
// forget that of itself.
func (t records) bury(self uuid.UUID, now time.Time) (buried []uuid.UUID) {
	var left []*Record
	for id, r := range t {
		switch {
		case id == self:
		case r.isOld(now):
			buried = append(buried, id)
		case r.Body.Departed:
			left = append(left, r)
		}
	}
	if len(left) > maxTombstones {
		slices.SortFunc(left, laterLeft)
		for _, r := range left[maxTombstones:] {
			buried = append(buried, r.ID)
		}
	}
	for _, id := range buried {
		delete(t, id)
	}
	return buried
}

// bury forgets tombstones, and when those peers were lost.
func (m *Mesh) bury(now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, id := range m.records.bury(m.cfg.Identity.ID, now) {
		delete(m.lostAt, id)
	}
}
