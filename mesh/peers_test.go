package mesh

import (
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/hashicorp/memberlist"
)

func TestListOfPeersIsMadeOnceForEachChange(t *testing.T) {
	m := bare(t)
	m.lostAt = map[uuid.UUID]time.Time{}
	m.cfg.Token.MeshID = meshA
	names := func() (out []string) {
		for _, p := range m.Peers() {
			out = append(out, p.Record.Name)
		}
		return out
	}
	a := newIdentity(t)
	node := &memberlist.Node{Name: a.ID.String()}
	states := func(want State) {
		t.Helper()
		if got := m.Peers()[0].State; got != want {
			t.Errorf("a is %s; want %s", got, want)
		}
	}
	gone := sign(t, newIdentity(t), 2, Body{Name: "gone", Departed: true, DepartedAt: time.Now().Unix(), Protocol: ProtocolVersion})
	for _, step := range []struct {
		what string
		do   func()
		want []string
	}{
		{"nothing is known", func() {}, nil},
		{"this peer hears what an earlier life of it has said", func() {
			m.mergeRecords([]signed{sign(t, m.cfg.Identity, 1, Body{Name: "self", Protocol: ProtocolVersion}).signed})
		}, []string{"self"}},
		{"a peer is heard of", func() {
			m.mergeRecords([]signed{sign(t, a, 1, Body{Name: "a", Protocol: ProtocolVersion}).signed})
		}, []string{"a", "self"}},
		{"one has left", func() { m.mergeRecords([]signed{gone.signed}) }, []string{"a", "gone", "self"}},
		{"that is long ago", func() { m.bury(time.Now().Add(2 * tombstoneTime)) }, []string{"a", "self"}},
	} {
		step.do()
		if got := names(); !slices.Equal(got, step.want) {
			t.Errorf("after %s: %v; want %v", step.what, got, step.want)
		}
	}
	m.memberUp(node)
	states(StateAlive)
	m.memberDown(node)
	states(StateFailed)
	if one, two := m.Peers(), m.Peers(); &one[0] != &two[0] {
		t.Error("the list is made anew where nothing has changed")
	}
}
