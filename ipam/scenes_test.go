package ipam

import (
	"testing"

	"github.com/google/uuid"
)

func TestPoisonedMemberIsShutOutAndComesBackAsAnother(t *testing.T) {
	s := newScene(t, 3, 3)
	a, b, c := s.hosts[0], s.hosts[1], s.hosts[2]
	s.taint = true
	old, addr := c.core.self, s.run(c, "web", "")
	a.core.poison(old)
	a.do(a.core.finish(), nil)
	s.settle(2)
	if c.core.self == old || c.active[addr] {
		t.Error("it goes on as it was")
	}
	s.rejoin()
	s.quiet()
	if _, sealed := b.core.view.Sealed[old]; !sealed {
		t.Error("its former life is not shut out")
	}
	if !c.active[addr] {
		t.Errorf("it did not get its address back: %+v", c.core.held[addr])
	}
}

func TestWhoIsShutOutCountsAsRemovedUntilItIsAMemberAgain(t *testing.T) {
	s := newScene(t, 3, 3)
	a, c := s.hosts[0], s.hosts[2]
	s.taint = true
	if out := a.core.Removed(); len(out) > 0 {
		t.Errorf("removed before anybody was: %v", out)
	}
	s.seal(a, c.core.self)
	s.settle(20)
	if out := a.core.Removed(); len(out) != 1 || !out[c.peer] {
		t.Errorf("removed: %v; want %s", out, c.peer)
	}
	if out := c.core.Removed(); len(out) > 0 {
		t.Errorf("a peer counts itself: %v", out)
	}
	if a.start(); !a.core.Removed()[c.peer] {
		t.Error("after a restart it is not known")
	}
	s.rejoin()
	if out := a.core.Removed(); len(out) > 0 {
		t.Errorf("removed when it is back: %v", out)
	}
}

func TestWhoIsShutOutBeforeItWasAdmittedCountsAsRemoved(t *testing.T) {
	s, sponsor, n := newcomerWithoutWelcome(t)
	ward := n.core.self
	s.goes(n)
	s.removed(sponsor, ward)
	s.settle(30)
	sponsor.core.forget() // as with the next decision
	sponsor.core.removed = nil
	if _, known := sponsor.core.member(ward); known {
		t.Error("it is remembered as a member")
	}
	if out := sponsor.core.Removed(); len(out) != 1 || !out[n.peer] {
		t.Errorf("removed: %v; want %s", out, n.peer)
	}
}

func TestPacketsFromAnAddressAreTakenFromItsHolderOnly(t *testing.T) {
	s := newScene(t, 3, 3)
	a, b, c := s.hosts[0], s.hosts[1], s.hosts[2]
	addr := s.leased(b, c)
	s.settle(6)
	for _, o := range []*host{a, b, c} {
		if id, ok := o.plane.core.holder(addr); !ok || id != c.core.self {
			t.Errorf("host %s takes packets from %s of %s", o, addr, s.who(id))
		}
	}
	old := c.core.self
	s.goes(c)
	s.removed(a, old)
	s.settle(6)
	for _, o := range []*host{a, b} {
		if id, ok := o.plane.core.holder(addr); ok && id == old {
			t.Errorf("host %s still takes packets of who is shut out", o)
		}
	}
}

func TestTwoThatRunFromOneMemoryDoNotBothStayTheSameMember(t *testing.T) {
	s := &scene{world: newWorld(faults{hosts: 3, clones: true}, 3), t: t}
	for _, h := range s.hosts[:3] {
		h.start()
	}
	a, b, copied := s.hosts[0], s.hosts[1], s.hosts[3]
	e, err := a.core.Found(1)
	s.nonce = 1
	s.must(err)
	a.do(e, nil)
	s.join(b, a)
	s.join(s.hosts[2], a)
	s.run(b, "web", "")
	s.settle(20)
	s.clone(b)
	if s.fine(); len(s.doubled) == 0 {
		t.Error("the copy's container does not use what the other one's does")
	}
	s.settle(40)
	if copied.core.self == b.core.self && b.core.self != uuid.Nil {
		t.Errorf("both are %s still", s.who(b.core.self))
	}
	if len(s.doubled) > 0 {
		t.Errorf("%d addresses are in use twice still", len(s.doubled))
	}
	s.scrap()
	s.rejoin()
	s.quiet()
}

func TestReclaimWaitsForWardsThatOnlyTheirSponsorKnows(t *testing.T) {
	s := newScene(t, 4, 3)
	a, sponsor, x, n := s.hosts[0], s.hosts[1], s.hosts[2], s.hosts[3]
	gone := x.core.self
	s.exchange(n, sponsor)
	s.settle(2)
	// The sponsor never hears that the newcomer is in, and so it is not admitted.
	s.hold = func(f flight) bool { return f.from == n.n && f.to != x.n && f.m.Kind != kindRequest }
	s.cut[[2]int{a.n, n.n}] = true
	s.nonce++
	e, err := n.core.Join(sponsor.peer, 0, s.nonce, s.nonce)
	s.must(err)
	n.do(e, nil)
	s.deliverAll()
	s.part(x, n)
	s.exchange(x, n)
	s.deliverAll()
	s.nonce++
	n.do(n.core.Request(x.peer, 1, s.nonce), nil)
	s.deliverAll()
	if !n.core.Lodged() || n.core.view.IsAdmitted(n.core.self) {
		t.Fatalf("the newcomer is not as it should be\n%s", s.state())
	}
	gift := n.core.own
	s.goes(x)
	s.seal(a, gone)
	s.settle(40)
	if !a.core.isSealed(gone) || s.inherited(a, gone) {
		t.Error("what was sealed is given away without the word of the newcomer")
	}
	s.late, s.hold = nil, nil
	s.mend()
	s.quiet()
	if len(minus(gift, n.core.own)) > 0 {
		t.Error("the newcomer lost what it was given")
	}
}

func TestAnswerToAnEarlierLifeIsNotTaken(t *testing.T) {
	s := newScene(t, 3, 3)
	a, c := s.hosts[0], s.hosts[2]
	addr := s.leased(a, c)
	late := &Msg{Kind: kindLeased, To: c.core.self, Addr: addr}
	c.crash()
	c.disk = map[[2]string]Write{}
	c.start()
	s.hold = func(f flight) bool { return f.from == a.n && (f.m.Kind == kindLeased || f.m.Kind == kindNoLease) }
	s.exchange(a, c)
	s.settle(2)
	s.run(c, "again", addr.String())
	s.nonce++
	e, err := c.core.Join(a.peer, 0, s.nonce, s.nonce)
	s.must(err)
	c.do(e, nil)
	s.settle(3)
	h := c.core.held[addr]
	if h.use != useWanted || h.token == 0 {
		t.Fatalf("the new life should claim the address: %+v", h)
	}
	late.Token = h.token // as it may happen: the disk that counted is lost
	a.core.stamp(late)
	s.deliver(flight{a.n, c.n, late, false})
	if c.core.held[addr].use != useWanted {
		t.Error("an answer to who this host was before counts")
	}
	s.late, s.hold = nil, nil
	s.rejoin()
	s.quiet()
}
