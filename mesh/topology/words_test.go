package topology

import (
	"testing"

	"github.com/google/uuid"
)

func TestAWordOfABrokenLinkIsAsOldAsItCame(t *testing.T) {
	says := func(broken ...uuid.UUID) []Peer {
		return []Peer{{ID: id(7)}, {ID: id(8), Broken: broken}}
	}
	w := Words{}.Next(says(id(1)), after(1))
	if got := w.Since(id(1)); !got.IsZero() {
		t.Errorf("what was said when this peer began is of %v", got)
	}
	w = w.Next(says(id(1), id(2)), after(2)).Next(says(id(1), id(2)), after(3))
	if got := w.Since(id(2)); !got.Equal(after(2)) {
		t.Errorf("a word that came later is of %v", got)
	}
	if got := w.Since(id(1)); !got.IsZero() {
		t.Errorf("what is said again is of %v", got)
	}
	if got := w.Since(id(3)); !got.IsZero() {
		t.Errorf("of one of whom nobody says so: %v", got)
	}
	// Who takes it back and says it again has heard of it again.
	w = w.Next(says(), after(4)).Next(says(id(1)), after(5))
	if got := w.Since(id(1)); !got.Equal(after(5)) {
		t.Errorf("said again, it is of %v", got)
	}
	w = w.Next([]Peer{{ID: id(7), Broken: []uuid.UUID{id(1)}}, {ID: id(8), Broken: []uuid.UUID{id(1)}}}, after(6))
	if got := w.Since(id(1)); !got.Equal(after(6)) {
		t.Errorf("of two who say it the last did at %v", got)
	}
}
