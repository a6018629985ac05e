package mesh

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/uuid"
	"pgregory.net/rapid"
)

// Two peers that compare what they have end with the newest of everything, and
// send nothing that the other has.
func TestComparedRecordsBecomeTheSameAndNothingTravelsTwice(t *testing.T) {
	const writers, versions = 6, 4
	written := make([][]*Record, writers)
	for i := range written {
		id := newIdentity(t)
		for v := range versions {
			written[i] = append(written[i], sign(t, id, uint64(v+1), Body{Name: fmt.Sprint(i, v)}))
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		a, b, newest := records{}, records{}, records{}
		for i := range written {
			for _, side := range []records{a, b} {
				if v := rapid.IntRange(0, versions).Draw(t, "version"); v > 0 {
					side.merge(written[i][v-1])
					newest.merge(written[i][v-1])
				}
			}
		}
		take := func(into records, list []signed) {
			for _, s := range list {
				i := slices.IndexFunc(written, func(w []*Record) bool {
					return slices.ContainsFunc(w, func(r *Record) bool { return slices.Equal(r.signed.Payload, s.Payload) })
				})
				r := written[i][slices.IndexFunc(written[i], func(r *Record) bool { return slices.Equal(r.signed.Payload, s.Payload) })]
				if !into.merge(r) {
					t.Fatal("a record travelled to somebody who has it")
				}
			}
		}
		// b has heard a's sums, and asks.
		parts := b.differing(a.sums())
		lacks, want := a.answer(recordSync{Parts: parts, Rows: b.rows(parts)})
		take(b, lacks)
		take(a, b.pick(want))
		for id, r := range newest {
			if a[id].digest() != r.digest() || b[id].digest() != r.digest() {
				t.Fatalf("peer %s: versions %d and %d, the newest is %d", id, a[id].Version, b[id].Version, r.Version)
			}
		}
		if parts := b.differing(a.sums()); len(parts) > 0 {
			t.Fatalf("parts %v differ still", parts)
		}
	})
}

func FuzzRecordSync(f *testing.F) {
	f.Add(encode(recordSync{Parts: []uint8{1, 70}, Rows: []row{{ID: uuid.New(), Version: 3, Hash: []byte{1}}}, Want: []uuid.UUID{uuid.Nil}}))
	f.Add(encode(sumsOf{Peer: uuid.New(), Sums: make([]byte, syncParts*sumLen)}))
	f.Fuzz(func(t *testing.T, b []byte) {
		var msg recordSync
		if decoder.Unmarshal(b, &msg) == nil {
			known := records{}
			known.answer(msg)
			known.pick(msg.Want)
		}
		var s sumsOf
		if decoder.Unmarshal(b, &s) == nil {
			known := records{}
			known.differing(s.Sums)
		}
	})
}
