package mesh

import (
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/hashicorp/memberlist"
)

func set(ids ...uuid.UUID) map[uuid.UUID]bool {
	out := map[uuid.UUID]bool{}
	for _, id := range ids {
		out[id] = true
	}
	return out
}

func TestRemovedPeerThatIsSilentIsLookedForEverMoreRarelyAndForgottenAndMayComeBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, peers := meshOf(t, 3, 0)
		gone, rest := peers[2], peers[:2]
		gone.Close()
		all(t, time.Minute, "sees it fail", rest, func(p *testPeer) bool { return p.see(gone.id()).State == StateFailed })
		for _, p := range rest {
			p.SetRemoved(set(gone.id()))
			if s := p.see(gone.id()); s.State != StateRemoved || !s.IsOut() || s.Record.Name == "" {
				t.Errorf("one that was removed is %+v", s)
			}
		}
		if _, away := rest[0].behind(rest[0].turn.standing()); len(away) > 0 {
			t.Errorf("a change of the token tells of %v", away)
		}
		time.Sleep(time.Hour)
		before := w.DialsTo(gone.at)
		time.Sleep(lastGoneWait)
		if n := w.DialsTo(gone.at) - before; n == 0 || n > 2*3 {
			t.Errorf("it was dialled %d times by two in an hour", n)
		}
		// Who begins anew counts anew, and reminds nobody.
		rest[1] = rest[1].restart(t, rest[1].at)
		rest[1].SetRemoved(set(gone.id()))
		time.Sleep(time.Minute)
		for i, p := range rest {
			p.forgetGone(time.Now().Add(goneTime - time.Hour))
			if known := p.see(gone.id()).Version > 0; known != (i == 1) {
				t.Errorf("%s: known after a week: %v", p.cfg.Name, known)
			}
		}
		rest[1].forgetGone(time.Now().Add(goneTime))
		before = w.DialsTo(gone.at)
		time.Sleep(lastGoneWait)
		if n := w.DialsTo(gone.at) - before; n != 0 || rest[1].see(gone.id()).State != "" {
			t.Errorf("one that is forgotten is dialled %d times; %+v", n, rest[1].see(gone.id()))
		}
		rest[1].publish(t, "p1-again")
		peers[2] = gone.restart(t, gone.at)
		all(t, 10*time.Second, "sees it alive again", peers, func(p *testPeer) bool {
			return knowsAlive(peers)(p) && p.see(rest[1].id()).Record.Name == "p1-again"
		})
	})
}

func TestRemovedPeersAreNotToldOfAndDoNotFillTheTable(t *testing.T) {
	now := time.Unix(1<<31, 0)
	m := bare(t)
	m.cfg.Token.MeshID = meshA
	of := func(name string) *Record {
		return sign(t, newIdentity(t), 1, Body{Name: name, Protocol: ProtocolVersion})
	}
	gone, back, left, here := of("gone"), of("back"), sign(t, newIdentity(t), 1, Body{Departed: true, Protocol: ProtocolVersion}), of("here")
	for _, r := range []*Record{gone, back, left, here} {
		m.records.merge(r)
	}
	m.members[back.ID] = &member{node: &memberlist.Node{}}
	m.SetRemoved(set(gone.ID, back.ID, left.ID))
	if told := m.told(); len(told) != 3 || told[gone.ID] != nil {
		t.Errorf("%d of four are told, the one that is gone %v", len(told), told[gone.ID] != nil)
	}
	m.forgetGone(now)
	m.forgetGone(now.Add(goneTime))
	if len(m.records) != 3 || m.records[gone.ID] != nil {
		t.Error("it is not forgotten, or others are")
	}
	if news := m.mergeRecords([]signed{gone.signed}); len(news) > 0 {
		t.Error("it is taken back from another who has not forgotten it yet")
	}
	delete(m.members, back.ID)
	m.forgetGone(now.Add(goneTime))
	m.members[back.ID] = &member{node: &memberlist.Node{}}
	m.forgetGone(now.Add(2 * goneTime))
	delete(m.members, back.ID)
	if m.forgetGone(now.Add(2*goneTime + time.Second)); m.records[back.ID] == nil {
		t.Error("one that was back meanwhile is forgotten as if it had not been")
	}
	removed := set()
	for i := range maxGone + 10 {
		u := uuid.UUID{byte(i), byte(i >> 8), 1}
		m.records[u], removed[u] = &Record{ID: u}, true
	}
	m.SetRemoved(removed)
	if m.forgetGone(now.Add(3 * goneTime)); len(m.records) != 3+maxGone {
		t.Errorf("%d are kept", len(m.records))
	}
}

func TestMemberAtTheAddressOfOneThatIsGoneIsNotGreeted(t *testing.T) {
	at := netip.MustParseAddrPort("192.0.2.7:6783")
	for range 20 { // in whichever order the records come
		m := bare(t)
		old, now := sign(t, newIdentity(t), 1, Body{Gossip: []netip.AddrPort{at}}), sign(t, newIdentity(t), 1, Body{Gossip: []netip.AddrPort{at}})
		m.records.merge(old)
		m.records.merge(now)
		m.members[now.ID] = &member{node: &memberlist.Node{}}
		for range 3 {
			m.changes.Add(1)
			if list := m.missing(time.Unix(1000, 0), false); slices.Contains(list, at.String()) {
				t.Fatal("where a member is, another that was there before is looked for")
			}
		}
	}
}

func TestRemovedPeersAreNoneOfThoseRemembered(t *testing.T) {
	m := bare(t)
	tok := newToken(t)
	r := func(b Body) *Record {
		b.Protocol = ProtocolVersion
		s, err := newIdentity(t).sign(tok.MeshID, 1, b)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	gone := r(Body{Name: "gone"})
	for _, o := range []*Record{gone, r(Body{Name: "here"}), r(Body{Departed: true})} {
		m.records.merge(o)
	}
	for removed, want := range map[*Record]int{unknown: 2, gone: 1} {
		if n, err := Remembered(m.Snapshot(), tok, m.cfg.Identity.ID, set(removed.ID)); err != nil || n != want {
			t.Errorf("%d are remembered where %q was removed, %v; want %d", n, removed.Body.Name, err, want)
		}
	}
}
