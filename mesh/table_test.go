package mesh

import (
	"maps"
	"net/netip"
	"testing"

	"pgregory.net/rapid"
)

func sameRecord(a, b *Record) bool { return string(a.signed.Payload) == string(b.signed.Payload) }

// drawRecords makes records of two peers, with conflicts and tombstones.
func drawRecords(t *testing.T, ids []Identity) *rapid.Generator[[]*Record] {
	return rapid.SliceOfN(rapid.Custom(func(rt *rapid.T) *Record {
		return sign(t, ids[rapid.IntRange(0, len(ids)-1).Draw(rt, "peer")], rapid.Uint64Range(1, 3).Draw(rt, "version"),
			Body{Name: rapid.SampledFrom([]string{"a", "b"}).Draw(rt, "name"), Departed: rapid.Bool().Draw(rt, "departed")})
	}), 0, 6)
}

func tableOf(lists ...[]*Record) records {
	t := records{}
	for _, l := range lists {
		for _, r := range l {
			t.merge(r)
		}
	}
	return t
}

func listOf(t records) []*Record {
	var out []*Record
	for _, r := range t {
		out = append(out, r)
	}
	return out
}

func TestMergingTablesIsCommutativeAssociativeAndIdempotent(t *testing.T) {
	ids := []Identity{newIdentity(t), newIdentity(t)}
	rapid.Check(t, func(rt *rapid.T) {
		a, b, c := drawRecords(t, ids).Draw(rt, "a"), drawRecords(t, ids).Draw(rt, "b"), drawRecords(t, ids).Draw(rt, "c")
		same := func(law string, x, y records) {
			if !maps.EqualFunc(x, y, sameRecord) {
				rt.Fatalf("not %s: %v and %v", law, x, y)
			}
		}
		same("commutative", tableOf(a, b), tableOf(b, a))
		same("associative", tableOf(listOf(tableOf(a, b)), c), tableOf(a, listOf(tableOf(b, c))))
		same("idempotent", tableOf(a, a), tableOf(a))
		whole := tableOf(a, b, c)
		for _, r := range append(append(a, b...), c...) {
			if known, outdated := whole.stale(r.signed); !known && !outdated && !sameRecord(whole[r.ID], r) && !whole[r.ID].newer(r) {
				rt.Fatal("a record that lost is neither known nor older")
			}
			if whole.merge(r) {
				rt.Fatal("a record that is known is news")
			}
		}
	})
}

func TestStaleRecordsAreKnownWithoutTheirSignature(t *testing.T) {
	id := newIdentity(t)
	old, now, next := sign(t, id, 1, Body{}), sign(t, id, 2, Body{}), sign(t, id, 3, Body{})
	table := tableOf([]*Record{now})
	if known, outdated := table.stale(old.signed); known || !outdated {
		t.Error("an older record is not recognised")
	}
	if known, outdated := table.stale(now.signed); !known || outdated {
		t.Error("what is known is not recognised")
	}
	for name, s := range map[string]signed{"newer": next.signed, "other of the same version": sign(t, id, 2, Body{Name: "x"}).signed,
		"of another": sign(t, newIdentity(t), 1, Body{}).signed, "garbage": {Payload: []byte("x")}, "huge": {Payload: make([]byte, maxRecord+1)}} {
		if known, outdated := table.stale(s); known || outdated {
			t.Errorf("%s: taken as known", name)
		}
	}
}

func TestPeerContradictsItsEarlierLivesButNotItsTombstone(t *testing.T) {
	self := newIdentity(t)
	body := func(name string) Body { return Body{Name: name} }
	departed := Body{Name: "gone", Departed: true}
	for name, tc := range map[string]struct {
		own, heard  *Record
		wantNews    bool
		wantVersion uint64
		wantName    string
	}{
		"older":                      {sign(t, self, 5, body("now")), sign(t, self, 4, body("then")), false, 5, "now"},
		"the same":                   {sign(t, self, 5, body("now")), sign(t, self, 5, body("now")), false, 5, "now"},
		"same version, smaller":      {sign(t, self, 5, body("b")), sign(t, self, 5, body("a")), true, 6, "b"},
		"same version, larger":       {sign(t, self, 5, body("a")), sign(t, self, 5, body("b")), true, 6, "a"},
		"newer":                      {sign(t, self, 5, body("now")), sign(t, self, 9, body("then")), true, 10, "now"},
		"newer tombstone":            {sign(t, self, 5, body("now")), sign(t, self, 9, departed), true, 9, "gone"},
		"older tombstone":            {sign(t, self, 5, body("now")), sign(t, self, 4, departed), false, 5, "now"},
		"anything after having left": {sign(t, self, 5, departed), sign(t, self, 9, body("then")), false, 5, "gone"},
		"before the first word":      {unknown, sign(t, self, 7, body("then")), false, 7, "then"},
	} {
		table := records{}
		if tc.own.Version > 0 {
			table[self.ID] = tc.own
		}
		news, copied, err := table.hear(self, meshA, Life{Nonce: 1}, tc.heard)
		got := table[self.ID]
		if err != nil || copied || news != tc.wantNews || got.Version != tc.wantVersion || got.Body.Name != tc.wantName {
			t.Errorf("%s: news %v, version %d of %q, %v", name, news, got.Version, got.Body.Name, err)
		}
		if _, err := verify(meshA, got.signed); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if again, _, _ := table.hear(self, meshA, Life{Nonce: 1}, tc.heard); again {
			t.Errorf("%s: contradicted twice", name)
		}
	}
}

func TestDigestTellsWhatIsMissing(t *testing.T) {
	id := newIdentity(t)
	old, now, other := sign(t, id, 1, Body{}), sign(t, id, 2, Body{}), sign(t, id, 2, Body{Gateway: netip.MustParseAddr("10.32.0.1")})
	for name, tc := range map[string]struct {
		claim []byte
		have  *Record
		want  bool
	}{
		"nothing said": {nil, old, false}, "other format": {[]byte("12345678"), old, false}, "nothing published": {unknown.digest().encode(), unknown, false},
		"known": {now.digest().encode(), now, false}, "newer": {now.digest().encode(), old, true}, "unknown peer": {now.digest().encode(), unknown, true},
		"older": {old.digest().encode(), now, false}, "same version, other content": {other.digest().encode(), now, true},
	} {
		if got := decodeDigest(tc.claim).ahead(tc.have); got != tc.want {
			t.Errorf("%s: ahead = %v", name, got)
		}
	}
}
