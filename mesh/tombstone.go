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
// another back what that one has buried. Where that time is over when it is heard, a
// clock is wrong, or it was long on its way: who knows the peer takes it all the same,
// and keeps it as long from then on. Who does not know the peer never takes it, so
// that it ends all the same.
const (
	tombstoneTime = 30 * 24 * time.Hour
	maxTombstones = 4096
)

// wrongClock is how far clocks may be apart. Who says that it leaves later than
// that has not said when.
const wrongClock = 24 * time.Hour

// leftAt is when the owner of a tombstone left, in Unix time; 0 if that is not known.
func (r *Record) leftAt(now time.Time) int64 {
	if at := r.Body.DepartedAt; at > 0 && at <= now.Add(wrongClock).Unix() {
		return at
	}
	return 0
}

// isOld tells that a record is a tombstone whose time is over.
func (r *Record) isOld(now time.Time) bool {
	if !r.Body.Departed {
		return false
	}
	at := r.leftAt(now)
	return at != 0 && now.Sub(time.Unix(at, 0)) > tombstoneTime
}

// laterLeft orders tombstones, the latest first, and last those that do not say.
func laterLeft(now time.Time) func(a, b *Record) int {
	return func(a, b *Record) int {
		return cmp.Or(cmp.Compare(b.leftAt(now), a.leftAt(now)), bytes.Compare(a.ID[:], b.ID[:]))
	}
}

// isBuried tells that a record is a tombstone which is not to be kept, whether or
// not it was.
func (t records) isBuried(r *Record, now time.Time) bool {
	if !r.Body.Departed {
		return false
	}
	_, known := t[r.ID]
	return r.isOld(now) && !known || len(t) >= maxTombstones && t.lastTombstone(r, now)
}

// lastTombstone tells that there are as many tombstones as are kept, all of peers
// that left later.
func (t records) lastTombstone(r *Record, now time.Time) bool {
	n, later := 0, laterLeft(now)
	for id, o := range t {
		if id != r.ID && o.Body.Departed && later(o, r) < 0 {
			n++
		}
	}
	return n >= maxTombstones
}

// bury forgets the tombstones that are not to be kept; late is when those were heard
// whose time was over by then. Who has left does not forget that of itself.
func (t records) bury(self uuid.UUID, now time.Time, late map[uuid.UUID]time.Time) (buried []uuid.UUID) {
	var left []*Record
	for id, r := range t {
		switch {
		case id == self:
		case r.isOld(now) && now.Sub(late[id]) > tombstoneTime:
			buried = append(buried, id)
		case r.Body.Departed:
			left = append(left, r)
		}
	}
	if len(left) > maxTombstones {
		slices.SortFunc(left, laterLeft(now))
		for _, r := range left[maxTombstones:] {
			buried = append(buried, r.ID)
		}
	}
	for _, id := range buried {
		delete(t, id)
	}
	return buried
}

// bury forgets tombstones.
func (m *Mesh) bury(now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.drop(m.records.bury(m.cfg.Identity.ID, now, m.farewells))
}
