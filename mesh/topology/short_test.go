package topology

import (
	"slices"
	"testing"

	"github.com/google/uuid"
)

func TestShortenedIdsAreFoundAgainAndOthersAreNot(t *testing.T) {
	twin := id(3)
	twin[15]++
	known, all := Directory{}, []uuid.UUID{id(1), id(2), id(3)}
	for _, i := range append(all, twin) {
		known.Add(i)
	}
	if got := known.Whole(Shorten(all[:2])); !slices.Equal(got, all[:2]) {
		t.Errorf("%v; want %v", got, all[:2])
	}
	if got := known.Whole(Shorten([]uuid.UUID{id(3), id(4)})); !slices.Equal(got, []uuid.UUID{id(3), twin}) {
		t.Errorf("of two that begin alike and one that is unknown: %v", got)
	}
	if got := known.Whole([]byte{1, 2}); got != nil {
		t.Errorf("of what is too short: %v", got)
	}
}

func TestHalvesOfALargeMeshThatOneLinkJoinsReachEachOther(t *testing.T) {
	const half = 60
	var peers []Peer
	for i := range 2 * half {
		p := Peer{ID: id(i)}
		for j := range 2 * half {
			if (i < half) != (j < half) && (i != 0 || j != half) && (i != half || j != 0) {
				p.Broken = append(p.Broken, id(j))
			}
		}
		peers = append(peers, p)
	}
	for i := range 2 * half {
		ways := Detours(id(i), peers)
		for j := range 2 * half {
			if (i < half) == (j < half) || i%half == 0 && j%half == 0 {
				continue
			}
			if path := ways[id(j)].Path; len(path) == 0 || path[len(path)-1] != id(j) {
				t.Fatalf("from %d to %d: %v", i, j, path)
			}
		}
	}
}
