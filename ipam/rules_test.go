package ipam

import (
	"errors"
	"testing"

	"github.com/google/uuid"

	"github.com/weft-net/weft/ipam/council"
)

// Rules that random schedules seldom or never break, one each.

func TestNobodyJoinsAnewBeforeItsOldLifeIsCutOff(t *testing.T) {
	s := newScene(t, 3, 3)
	a, c := s.hosts[0], s.hosts[2]
	s.taint = true
	s.run(c, "web", "")
	c.core.poison(c.core.self)
	c.do(c.core.finish(), nil)
	if _, err := c.core.Join(a.peer, 0, 900, 900); !errors.Is(err, ErrNotEnforced) {
		t.Errorf("it begins anew: %v", err)
	}
	c.enforce()
	if _, err := c.core.Join(a.peer, 0, 900, 900); err != nil {
		t.Errorf("when the old life is cut off: %v", err)
	}
}

// newcomerWithoutWelcome has asked, and was let in, and does not know.
func newcomerWithoutWelcome(t *testing.T) (s *scene, sponsor, n *host) {
	s = newScene(t, 3, 2)
	sponsor, n = s.hosts[0], s.hosts[2]
	s.exchange(n, sponsor)
	s.settle(2)
	s.hold = func(f flight) bool { return f.to == n.n && f.m.Kind == kindGrant }
	s.nonce++
	e, err := n.core.Join(sponsor.peer, 0, s.nonce, s.nonce)
	s.must(err)
	n.do(e, nil)
	s.settle(6)
	if len(sponsor.core.wards) == 0 || n.core.Lodged() {
		t.Fatal("the sponsor has not let it in, or it knows already")
	}
	return s, sponsor, n
}

func TestWardThatNeverHeardIsNotAdmitted(t *testing.T) {
	s, sponsor, n := newcomerWithoutWelcome(t)
	for _, cmd := range sponsor.core.proposals() {
		if cmd.Kind == council.Admit {
			t.Error("the council is to count on one who does not know that it is in")
		}
	}
	s.arrive()
	s.settle(12)
	if !sponsor.core.view.IsAdmitted(n.core.self) {
		t.Error("it is not admitted though it knows")
	}
}

func TestNewcomerIsSilentUntilItWasLetIn(t *testing.T) {
	_, _, n := newcomerWithoutWelcome(t)
	if m := n.core.State(); m.FromID != uuid.Nil || n.core.self == uuid.Nil {
		t.Error("it speaks as a member before it is one")
	}
}

func TestOlderClaimDoesNotReplaceANewerOne(t *testing.T) {
	s := newScene(t, 3, 3)
	a, c := s.hosts[0], s.hosts[2]
	addr := s.leased(a, c)
	old := &Msg{Kind: kindClaim, To: a.core.self, Addr: addr, Token: c.core.held[addr].token - 1}
	c.core.stamp(old)
	s.deliver(flight{c.n, a.n, old, false})
	i, found := a.core.books[a.core.self].find(addr)
	if !found || a.core.books[a.core.self].leases[i].Token == old.Token {
		t.Error("a late claim took the place of the one after it")
	}
}

func TestMemberThatTheLeaderHearsFromDoesNotExpire(t *testing.T) {
	s := newScene(t, 4, 4)
	a, b, d := s.hosts[0], s.hosts[1], s.hosts[3]
	s.settle(20)
	healthy := b.core.self
	s.part(d)
	e, err := d.core.Expire(healthy) // d has not heard of b for long
	s.must(err)
	d.do(e, nil)
	s.settle(10)
	// It hears of the leader first, and of b later.
	for _, o := range s.hosts[:3] {
		if o != b {
			s.cut[[2]int{d.n, o.n}], s.cut[[2]int{o.n, d.n}] = false, false
		}
	}
	s.settle(20)
	if a.core.isSealed(healthy) {
		t.Error("a member that the leader hears from was sealed")
	}
	s.goes(b)
	s.settle(40)
	if !a.core.isSealed(healthy) {
		t.Error("a member that nobody hears from was not sealed")
	}
}
