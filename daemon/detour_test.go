package daemon

import (
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/weft-net/weft/encap"
	"github.com/weft-net/weft/encap/probe"
	"github.com/weft-net/weft/mesh"
	"github.com/weft-net/weft/mesh/topology"
)

func TestSightIsOfAllPathsTogether(t *testing.T) {
	id, now := uuid.UUID{1}, time.Now()
	at := func(seconds int) time.Time { return now.Add(time.Duration(seconds) * time.Second) }
	paths := []encap.Path{{Device: "vx"}, {Device: "wg"}}
	look := func(vx, wg probe.Quality) topology.Sight {
		return sight(id, paths, map[probe.Path]probe.Quality{{Peer: id, Device: "vx"}: vx, {Peer: id, Device: "wg"}: wg}, at(13))
	}
	dead := func(heard, sent int) probe.Quality {
		return probe.Quality{Heard: at(heard), RTT: 1, Sent: sent, Since: at(heard + 2)}
	}
	for what, tc := range map[string]struct{ got, want topology.Sight }{
		"both silent":            {look(dead(1, 20), dead(3, 20)), topology.Sight{Peer: id, Paths: true, Silent: true, Heard: at(3)}},
		"one not asked enough":   {look(dead(1, 20), dead(3, 5)), topology.Sight{Peer: id, Paths: true, Heard: at(3)}},
		"one works":              {look(dead(1, 20), probe.Quality{Works: true, Since: at(5), Heard: at(9), RTT: 1, Sent: 20}), topology.Sight{Peer: id, Paths: true, Works: true, Since: at(5), Heard: at(9)}},
		"never answered":         {look(probe.Quality{Since: at(0), Sent: 20}, probe.Quality{Since: at(1), Sent: 20}), topology.Sight{Peer: id, Paths: true, Silent: true, Heard: at(1)}},
		"not answered yet":       {look(probe.Quality{Since: at(0), Sent: 20}, probe.Quality{Since: at(3), Sent: 20}), topology.Sight{Peer: id, Paths: true, Heard: at(3)}},
		"both work, one earlier": {look(probe.Quality{Works: true, Since: at(7), Heard: at(8), RTT: 1}, probe.Quality{Works: true, Since: at(5), Heard: at(9), RTT: 1}), topology.Sight{Peer: id, Paths: true, Works: true, Since: at(5), Heard: at(9)}},
		"there is none":          {sight(id, nil, nil, now), topology.Sight{Peer: id}},
	} {
		if tc.got != tc.want {
			t.Errorf("%s: %+v; want %+v", what, tc.got, tc.want)
		}
	}
}

func TestLinkAddressIsBelievedOnlyOfItsOwner(t *testing.T) {
	self, other := uuid.UUID{1}, uuid.UUID{2}
	own := encap.LinkAddr(self)
	says := func(id, link uuid.UUID) mesh.Peer {
		return mesh.Peer{ID: id, Record: mesh.Body{Link: encap.LinkAddr(link), Broken: []uuid.UUID{self}}}
	}
	if got := linkTo(own, says(other, other)); got != encap.LinkAddr(other) {
		t.Errorf("%v", got)
	}
	if got := linkTo(own, says(other, self)); got.IsValid() {
		t.Errorf("one that claims this host's is given %v", got)
	}
	if got := linkTo(encap.LinkAddr(uuid.UUID{9}), says(other, self)); got.IsValid() {
		t.Errorf("one that claims another's is given %v", got)
	}
	if v := vertexOf(says(other, self), linkTo(own, says(other, self)), nil); !v.Leaf || len(v.Broken) != 0 {
		t.Errorf("%+v", v)
	}
	if v := vertexOf(says(other, other), linkTo(own, says(other, other)), nil); v.Leaf || !slices.Equal(v.Broken, []uuid.UUID{self}) {
		t.Errorf("%+v", v)
	}
}

func TestExceptionsAreReadAsTheyWereTold(t *testing.T) {
	peers := make([]mesh.Peer, 700)
	ids := make([]uuid.UUID, len(peers))
	for i := range peers {
		ids[i] = uuid.New()
		peers[i].ID = ids[i]
	}
	for _, tc := range []struct {
		broken, shaky int
		leaf          bool
	}{
		{0, 0, false}, {topology.Most, 3, false}, {topology.Most + 1, 0, false}, {3, 100, false},
		{topology.Most + topology.MostShort, topology.Most, false}, {topology.Most + topology.MostShort, topology.Most + 1, true},
	} {
		told := &peers[0].Record
		*told = mesh.Body{}
		setExceptions(told, ids[:tc.broken], ids[len(ids)-tc.shaky:], nil)
		broken, shaky, leaf := exceptionsOf(*told, directory(peers))
		if leaf != tc.leaf {
			t.Errorf("%d broken and %d shaky: leaf is %v", tc.broken, tc.shaky, leaf)
		}
		if older := tc.broken > topology.Most || tc.shaky > topology.Most; told.Leaf != older {
			t.Errorf("%d broken and %d shaky: an older weft takes it for a leaf: %v", tc.broken, tc.shaky, told.Leaf)
		}
		if !leaf && (!slices.Equal(broken, ids[:tc.broken]) || !slices.Equal(shaky, ids[len(ids)-tc.shaky:])) {
			t.Errorf("%d broken and %d shaky are read as %d and %d", tc.broken, tc.shaky, len(broken), len(shaky))
		}
	}
}
