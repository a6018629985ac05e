package daemon

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/weft-net/weft/api"
	"github.com/weft-net/weft/mesh"
)

func peerCalled(id, name string, state mesh.State) mesh.Peer {
	return mesh.Peer{ID: uuid.MustParse(id + "-0000-8000-8000-000000000000"), State: state, Record: mesh.Body{Name: name}}
}

func TestPeersAreFoundByNameAndIDAndAnAmbiguousNameIsOneError(t *testing.T) {
	peers := []mesh.Peer{peerCalled("aaaaaaaa", "web", mesh.StateAlive), peerCalled("bbbbbbbb", "web", mesh.StateFailed),
		peerCalled("cccccccc", "db", mesh.StateAlive), peerCalled("dddddddd", "db", mesh.StateDeparted), peerCalled("eeeeeeee", "gone", mesh.StateDeparted),
		peerCalled("abababab", "db", mesh.StateRemoved), peerCalled("cdcdcdcd", "lost", mesh.StateRemoved),
		{ID: uuid.MustParse("ffffffff-0000-8000-8000-000000000000"), State: mesh.StateAlive}}
	for ref, want := range map[string]string{
		"aaaaaaaa": "aaaaaaaa", peers[1].ID.String(): "bbbbbbbb", "db": "cccccccc", "dddddddd": "dddddddd", "gone": "eeeeeeee", "ffffffff-0000": "ffffffff", "abababab": "abababab", "lost": "cdcdcdcd",
	} {
		if p, err := findAmong(peers, ref); err != nil || p.ID.String()[:8] != want {
			t.Errorf("%s: %s, %v", ref, p.ID, err)
		}
	}
	for ref, want := range map[string]struct {
		code api.Code
		says []string
	}{
		"web":  {api.CodeConflict, []string{peers[0].ID.String(), peers[1].ID.String(), "alive", "failed", "first 8 digits"}},
		"none": {api.CodeNotFound, []string{"weft status peers"}}, "aaaa": {api.CodeNotFound, nil}, "": {api.CodeNotFound, nil},
	} {
		_, err := findAmong(peers, ref)
		var known *api.Error
		if !errors.As(err, &known) || known.Code != want.code || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: %v", ref, err)
			continue
		}
		for _, s := range want.says {
			if !strings.Contains(err.Error(), s) {
				t.Errorf("%q: %v; want %s", ref, err, s)
			}
		}
	}
	for i, want := range []string{"web (aaaaaaaa)", "web (bbbbbbbb)", "db", "db (dddddddd)", "gone", "db (abababab)", "lost", peers[7].ID.String()} {
		if got := nameAmong(peers, peers[i].ID); got != want {
			t.Errorf("%s is called %s; want %s", peers[i].ID, got, want)
		}
	}
}
