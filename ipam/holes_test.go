package ipam

import (
	"errors"
	"maps"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/weft-net/weft/ipam/council"
)

// Each of these schedules broke an earlier form of the protocol.

func TestNewcomerThatTheLeaderNeverHeardOfIsShutOutWithItsSponsor(t *testing.T) {
	s := newScene(t, 4, 3)
	a, b, d, n := s.hosts[0], s.hosts[1], s.hosts[2], s.hosts[3]
	sponsor := b.core.self
	s.part(b, n)
	s.join(n, b)
	addr := s.run(n, "web", "")
	s.seal(a, sponsor)
	s.settle(40)
	if !s.inherited(a, sponsor) || a.core.table.at(a.core.blockOf(addr)).Owner == n.core.self {
		t.Fatal("what the sponsor had was not given away")
	}
	if n.active[addr] != true || s.isIn(a.core.domain, n.core.self, n.core) {
		t.Fatal("the newcomer should go on in its part, where nobody else hears it")
	}
	s.mend()
	s.settle(5)
	if n.active[addr] {
		t.Error("the newcomer still uses an address that is another's")
	}
	s.rejoin()
	s.quiet()
	_ = d
}

func TestGiftThatArrivesAfterTheGiversSealIsNotUsed(t *testing.T) {
	s := newScene(t, 4, 4)
	a, b, c, d := s.hosts[0], s.hosts[1], s.hosts[2], s.hosts[3]
	giver, before := b.core.self, count(c.core.own)
	s.hold = func(f flight) bool { return f.to == a.n || f.to == c.n } // of the gift only d hears
	s.nonce++
	c.do(c.core.Request(b.peer, 1, s.nonce), nil)
	s.deliverAll()
	s.late, s.hold = nil, nil
	if d.core.table.at(d.core.table.owned(c.core.self)[0].first).Owner != c.core.self || count(d.core.table.owned(c.core.self)) == before {
		t.Fatal("nothing was given")
	}
	s.part(d)
	s.goes(b)
	s.seal(a, giver)
	s.hold = func(f flight) bool { return f.m.Kind == kindAck }
	s.settle(12)
	if !c.core.isSealed(giver) {
		t.Fatal("host c has not heard of the seal")
	}
	s.mend()
	s.settle(5)
	if owned := count(c.core.table.owned(c.core.self)); owned == before || s.inherited(a, giver) {
		t.Fatalf("host c has not heard of the gift: it owns %d blocks", owned)
	}
	if got := count(c.core.own); got != before {
		t.Errorf("host c uses %d blocks after a gift of one that is shut out, %d before", got, before)
	}
	s.arrive()
	s.quiet()
}

func TestTwoReclaimsFromDifferentWordsDoNotBothCount(t *testing.T) {
	founder, x := council.Member{Nonce: 1}, council.Member{Nonce: 2, Sponsor: council.Member{Nonce: 1}.ID()}
	s := council.Found(simMesh, founder)
	s, _ = s.Apply(2, council.Command{Kind: council.Admit, Member: x})
	s, _ = s.Apply(3, council.Command{Kind: council.Seal, ID: x.ID()})
	one := council.Estate{Base: 3, Shares: []council.Share{{First: 0, Count: 4, Heir: founder.ID()}}}
	other := council.Estate{Base: 3, Shares: []council.Share{{First: 4, Count: 4, Heir: founder.ID()}}}
	s, ok := s.Apply(4, council.Command{Kind: council.Reclaim, Estate: one})
	if !ok {
		t.Fatal("the first does not count")
	}
	if _, ok := s.Apply(5, council.Command{Kind: council.Reclaim, Estate: other}); ok {
		t.Error("a second counts that was made up before the first was decided")
	}
}

func TestRegisterOfAnotherSealedMemberIsInheritedToo(t *testing.T) {
	s := newScene(t, 4, 4)
	a, b, c, d := s.hosts[0], s.hosts[1], s.hosts[2], s.hosts[3]
	// b gives to c, and only d hears of it before both are gone.
	s.hold = func(f flight) bool { return f.to == a.n }
	s.nonce++
	c.do(c.core.Request(b.peer, 1, s.nonce), nil)
	s.deliverAll()
	s.late, s.hold = nil, nil
	gone := []ID{b.core.self, c.core.self}
	s.goes(b)
	s.goes(c)
	for _, id := range gone {
		s.seal(a, id)
	}
	if !a.core.leads() || len(a.core.view.Voters) != 1 {
		s.force(a, d)
	}
	s.quiet()
}

func TestHeirKnowsTheLeasesOfWhatItInherits(t *testing.T) {
	s := newScene(t, 3, 3)
	a, b, c := s.hosts[0], s.hosts[1], s.hosts[2]
	addr := s.leased(b, c)
	gone := b.core.self
	s.goes(b)
	s.removed(a, gone)
	heir := a
	if c.core.ownsBlock(c.core.blockOf(addr)) {
		if h := c.core.held[addr]; h.use != useOwn {
			t.Errorf("the holder inherits the block, and its lease is %v", h)
		}
		return
	}
	if _, err := heir.core.Claim("other", addr); !errors.Is(err, ErrTaken) {
		t.Errorf("the heir gives an address that is leased: %v", err)
	}
}

// leased has a host lease an address in use of its own to another.
func (s *scene) leased(by, to *host) (addr netip.Addr) {
	s.t.Helper()
	// The first keeps the block in use, so that the second is leased.
	first := s.run(by, "first", "")
	for o := by.core.offset(first) + 1; ; o++ {
		if by.core.blockOf(by.core.addr(o)) == by.core.blockOf(first) {
			addr = by.core.addr(o)
			break
		}
	}
	s.run(to, "guest", addr.String())
	s.settle(8)
	if h := to.core.held[addr]; h.use != useLeased {
		s.t.Fatalf("%s is not leased: %+v", addr, h)
	}
	return addr
}

// removed seals a member and waits until what it had is given away.
func (s *scene) removed(by *host, id ID) {
	s.t.Helper()
	s.seal(by, id)
	for range 60 {
		if s.settle(5); s.inherited(by, id) {
			return
		}
	}
	s.t.Fatalf("what %s had is not given away\n%s", s.who(id), s.state())
}

func TestLeaseIsNotFreedBeforeItsHolderIsShutOutEverywhere(t *testing.T) {
	s := newScene(t, 4, 4)
	a, b, c, d := s.hosts[0], s.hosts[1], s.hosts[2], s.hosts[3]
	addr := s.leased(a, c)
	holder := c.core.self
	s.part(c, d) // d still hears c
	s.seal(a, holder)
	s.settle(20)
	if !a.core.isSealed(holder) {
		t.Fatal("the holder is not sealed: its voters are needed in this part")
	}
	if s.inherited(a, holder) {
		t.Fatal("given away without the word of host d")
	}
	if _, err := a.core.Claim("other", addr); !errors.Is(err, ErrTaken) {
		t.Fatalf("the address is free while host d hears its holder: %v", err)
	}
	s.mend()
	s.rejoin()
	s.quiet()
	_ = b
}

func TestWardIsNotAdmittedAfterItsSponsorsSeal(t *testing.T) {
	founder := council.Member{Nonce: 1}
	x := council.Member{Nonce: 2, Sponsor: founder.ID()}
	ward := council.Member{Nonce: 3, Sponsor: x.ID()}
	s := council.Found(simMesh, founder)
	s, _ = s.Apply(2, council.Command{Kind: council.Admit, Member: x})
	s, _ = s.Apply(3, council.Command{Kind: council.Seal, ID: x.ID()})
	if _, ok := s.Apply(4, council.Command{Kind: council.Admit, Member: ward}); ok {
		t.Error("the ward of one who is shut out is admitted")
	}
}

func TestReclaimIsVoidForWhomItDidNotHear(t *testing.T) {
	founder := council.Member{Nonce: 1}
	x, late := council.Member{Nonce: 2, Sponsor: founder.ID()}, council.Member{Nonce: 3, Sponsor: founder.ID()}
	s := council.Found(simMesh, founder)
	s, _ = s.Apply(2, council.Command{Kind: council.Admit, Member: x})
	s, _ = s.Apply(3, council.Command{Kind: council.Seal, ID: x.ID()})
	e := council.Estate{Base: 3, Shares: []council.Share{{Count: 1, Heir: founder.ID()}}}
	s, _ = s.Apply(4, council.Command{Kind: council.Admit, Member: late})
	if _, ok := s.Apply(5, council.Command{Kind: council.Reclaim, Estate: e}); ok {
		t.Error("it counts though one was admitted since who told nothing")
	}
	e.Wards = []ID{late.ID()}
	if _, ok := s.Apply(5, council.Command{Kind: council.Reclaim, Estate: e}); !ok {
		t.Error("it does not count though all have told")
	}
}

func TestDonorThatWasSetBackIsFoundOutThoughItHasCommittedMoreSince(t *testing.T) {
	s := newScene(t, 3, 2)
	a, n := s.hosts[0], s.hosts[2]
	s.taint = true
	old, life := maps.Clone(a.disk), a.core.self
	s.join(n, a)
	s.run(n, "web", "")
	a.crash()
	a.disk = old
	s.part(a)
	a.start()
	for range 2 { // more transactions than anybody has heard of, and another start
		for i := range 40 {
			addr, e, err := a.core.Allocate("x")
			s.must(err)
			a.do(e, nil)
			if i > 0 {
				a.do(a.core.Release("x", addr), nil)
			}
		}
		a.crash()
		a.start()
	}
	s.mend()
	s.settle(30)
	if a.core.self == life {
		t.Error("a store that was set back goes on as the same member")
	}
}

func TestReleaseOfAnEarlierUseDoesNotFreeALaterOne(t *testing.T) {
	s := newScene(t, 3, 3)
	a, c := s.hosts[0], s.hosts[2]
	addr := s.leased(a, c)
	s.hold = func(f flight) bool { return f.m.Kind == kindRelease }
	s.stop(c, "guest")
	s.deliverAll()
	s.run(c, "again", addr.String())
	s.settle(10)
	if c.core.held[addr].use != useLeased {
		t.Fatal("the second use is not granted")
	}
	s.arrive()
	s.settle(4)
	if !a.core.isLeasedOut(addr) || !c.active[addr] {
		t.Error("a late release freed the address of the next use")
	}
	s.quiet()
}

func TestOfTwoForcedMeshesOneStays(t *testing.T) {
	s := newScene(t, 4, 4)
	a, b, c, d := s.hosts[0], s.hosts[1], s.hosts[2], s.hosts[3]
	s.part(a, b)
	s.force(a, b)
	s.force(c, d)
	s.settle(30)
	if a.core.domain != b.core.domain || c.core.domain != d.core.domain || a.core.domain == c.core.domain {
		t.Fatal("there should be two meshes")
	}
	kept := map[ID]bool{a.core.self: true, b.core.self: true, c.core.self: true, d.core.self: true}
	s.mend()
	s.settle(10)
	stayed := 0
	for _, h := range s.hosts {
		if kept[h.core.self] {
			stayed++
		}
	}
	if stayed == 0 {
		t.Fatal("all begin anew, and nobody is left to let them in")
	}
	s.rejoin()
	s.quiet()
}

func TestSurvivorOfTwoForcesEndsUpInOne(t *testing.T) {
	s := newScene(t, 4, 4)
	a, b, c, d := s.hosts[0], s.hosts[1], s.hosts[2], s.hosts[3]
	s.part(a, b)
	s.force(a, b)
	s.settle(10)
	s.part(a) // b comes over to the others, who force a mesh with it of the same origin
	s.hold = func(f flight) bool { return true }
	s.force(c, b, d)
	s.arrive()
	s.settle(20)
	if b.core.domain != c.core.domain || b.core.node != nil && b.core.node.State().Domain.Hash() != b.core.domain {
		t.Error("the survivor of two keeps a vote in what it left, or did not come over")
	}
	s.mend()
	s.rejoin()
	s.quiet()
}

func TestVoterThatLostItsDiskNeverVotesUnderItsOldName(t *testing.T) {
	s := newScene(t, 3, 3)
	s.settle(60)
	var v *host
	for _, h := range s.hosts {
		if h.core.node != nil && !h.core.leads() {
			v = h
		}
	}
	if v == nil {
		t.Fatalf("there is but one voter\n%s", s.state())
	}
	old := v.core.self
	v.crash()
	v.disk = map[[2]string]Write{}
	v.start()
	s.settle(3)
	if v.core.node != nil || v.core.self == old {
		t.Error("it votes again")
	}
	s.rejoin()
	s.quiet()
	if v.core.self == old || v.core.self == uuid.Nil {
		t.Error("it is not a new member")
	}
}

func TestTwoFoundersOfOneMeshNeverMix(t *testing.T) {
	s := &scene{world: newWorld(faults{hosts: 3}, 1), t: t}
	a, b, c := s.hosts[0], s.hosts[1], s.hosts[2]
	s.story = &strings.Builder{}
	s.part(b)
	for n, h := range []*host{a, b} {
		h.start()
		e, err := h.core.Found(uint64(n + 1))
		s.must(err)
		h.do(e, nil)
		s.run(h, "web", "")
	}
	c.start()
	s.join(c, a)
	s.mend()
	s.settle(30)
	for _, h := range s.hosts {
		want := a
		if h == b {
			want = b
		}
		if h.core.domain != want.core.domain || h.core.table.at(0).Owner != want.core.self {
			t.Errorf("host %s took in what another mesh says", h)
		}
	}
	if !strings.Contains(s.story.String(), ErrStrangers.Error()) {
		t.Error("nobody says so")
	}
	b.crash()
	b.disk = map[[2]string]Write{}
	delete(b.containers, "web")
	b.start()
	s.rejoin()
	s.quiet()
}

func TestMeshCanBeFoundedOnceOnly(t *testing.T) {
	s := newScene(t, 2, 2)
	for _, h := range s.hosts {
		if _, err := h.core.Found(9); err == nil {
			t.Errorf("host %s founds what is there already", h)
		}
	}
}
