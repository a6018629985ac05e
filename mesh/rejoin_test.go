package mesh

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/hashicorp/memberlist"
)

// bare is a Mesh that knows things but runs nothing.
func bare(t *testing.T) *Mesh {
	t.Helper()
	return &Mesh{cfg: Config{Identity: newIdentity(t)}, log: quiet(), records: records{}, members: map[uuid.UUID]*member{}, farewells: map[uuid.UUID]time.Time{}, tokenAsked: map[uuid.UUID]time.Time{}, targets: map[string]*target{}, attempts: map[string]*attempt{}}
}

func TestWhichAddressesAreTried(t *testing.T) {
	at := func(i byte) netip.AddrPort { return netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, i}), 6783) }
	now := time.Unix(1000, 0)
	up, down, gone, successor := newIdentity(t), newIdentity(t), newIdentity(t), newIdentity(t)
	m := bare(t)
	for _, r := range []*Record{
		sign(t, m.cfg.Identity, 1, Body{Gossip: []netip.AddrPort{at(1)}}),
		sign(t, up, 1, Body{Gossip: []netip.AddrPort{at(2)}}),
		sign(t, down, 1, Body{Gossip: []netip.AddrPort{at(3), at(4)}}),
		sign(t, gone, 1, Body{Gossip: []netip.AddrPort{at(5), at(6)}, Departed: true}),
		sign(t, successor, 1, Body{Gossip: []netip.AddrPort{at(6)}}),
	} {
		m.records.merge(r)
	}
	m.members[up.ID] = &member{node: &memberlist.Node{}}
	m.attempts[at(5).String()] = &attempt{peer: gone.ID}
	m.attempts[at(6).String()] = &attempt{peer: gone.ID}
	m.attempts[at(7).String()] = &attempt{}
	m.attempts[at(8).String()] = &attempt{next: now.Add(time.Second)}
	want := func(list ...byte) (out []string) {
		for _, i := range list {
			out = append(out, at(i).String())
		}
		return out
	}
	if got := m.missing(now, false); !slices.Equal(got, want(3, 4, 6, 7)) {
		t.Errorf("tried: %v", got)
	}
	if got := m.missing(now, true); !slices.Equal(got, want(3, 4, 6, 7, 8)) {
		t.Errorf("tried by a join: %v", got)
	}
	m.records.merge(sign(t, m.cfg.Identity, 2, Body{Departed: true}))
	if got := m.missing(now, true); len(got) != 0 {
		t.Errorf("a peer that has left tries %v", got)
	}
}

func TestHostThatTookThePlaceOfOneThatLeftIsDialledWhenItIsConnectedTo(t *testing.T) {
	at := netip.MustParseAddrPort("192.0.2.9:6783")
	gone := newIdentity(t)
	m := bare(t)
	m.look, m.changed = make(chan struct{}, 1), make(chan struct{}, 1)
	m.records.merge(sign(t, gone, 1, Body{Gossip: []netip.AddrPort{at}, Departed: true}))
	m.targets["192.0.2.9"] = &target{addrs: []string{at.String()}}
	m.attempts[at.String()] = &attempt{peer: gone.ID}
	if got := m.missing(time.Now(), false); len(got) != 0 {
		t.Fatalf("who left is dialled at %v", got)
	}
	if err := m.SetTargets([]string{"192.0.2.9"}); err != nil {
		t.Fatal(err)
	}
	if got := m.missing(time.Now(), false); len(got) != 1 {
		t.Errorf("dialled at %v", got)
	}
}

func TestTargetsAreShownWhileAnotherIsStillBeingLookedUp(t *testing.T) {
	m := &Mesh{records: records{}, attempts: map[string]*attempt{}, targets: map[string]*target{"192.0.2.9": {addrs: []string{"192.0.2.9:6783"}}}}
	if got := m.Targets(); len(got) != 1 || got[0].Connected || got[0].LastError != "" {
		t.Errorf("targets: %+v", got)
	}
}

func TestWhoIsAMemberWhenItsTurnComesIsNotJoinedAgain(t *testing.T) {
	m := bare(t)
	m.joining = make(chan struct{}, 1)
	m.joining <- struct{}{} // an exchange is under way
	other := newIdentity(t).ID
	joined := make(chan error)
	go func() { joined <- m.joinThrough(t.Context(), other, "192.0.2.1:6783", "192.0.2.1:6783") }()
	m.mu.Lock()
	m.members[other] = &member{} // it has brought this one
	m.mu.Unlock()
	<-m.joining
	if err := <-joined; err != nil { // an exchange would need a memberlist, which there is none of
		t.Error(err)
	}
	m.joining <- struct{}{}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := m.joinThrough(ctx, other, "192.0.2.1:6783", "192.0.2.1:6783"); !errors.Is(err, context.Canceled) {
		t.Errorf("who is cancelled waits on: %v", err)
	}
}

func TestTargetOfWhichNobodyIsHereDoesNotWaitForItsTurn(t *testing.T) {
	m := bare(t)
	m.targets["silent"] = &target{addrs: []string{"192.0.2.1:1", "192.0.2.2:1"}}
	m.targets["answered"] = &target{addrs: []string{"192.0.2.3:1", "192.0.2.4:1"}}
	up := newIdentity(t)
	m.members[up.ID] = &member{node: &memberlist.Node{}}
	m.attempts["192.0.2.3:1"] = &attempt{peer: up.ID}
	var many []string
	for i := range 100 { // that others know, too
		many = append(many, netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 51, 100, byte(i)}), 1).String())
	}
	for _, addr := range append([]string{"192.0.2.1:1", "192.0.2.2:1", "192.0.2.4:1"}, many...) {
		m.attempts[addr] = &attempt{wait: lastWait}
	}
	own, rest := m.unanswered(m.missing(time.Unix(1000, 0), false))
	if !slices.Equal(own, []string{"192.0.2.1:1", "192.0.2.2:1"}) || len(rest) != 101 {
		t.Errorf("tried whatever the chance: %v, and %d wait", own, len(rest))
	}
	if due, _ := m.inTurn(rest, 0); len(due) != 0 {
		t.Errorf("the rest is tried out of turn: %v", due)
	}
	m.targets["list"] = &target{addrs: many}
	if own, rest := m.unanswered(m.missing(time.Unix(1000, 0), false)); len(own) != moreTries || len(own)+len(rest) != 103 {
		t.Errorf("of a long list %d are tried at once", len(own))
	}
}

func TestTargetIsTriedOnceAMinuteHoweverMuchElseIsMissing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, peers := meshOf(t, 2, 1)
		p, dead := peers[1], w.Hosts[2]
		_ = dead.Shutdown()
		p.mu.Lock()
		for i := range 120 { // each at more addresses than a record has, that are known to all
			id := uuid.UUID{byte(i), byte(i >> 8), 1}
			r := &Record{ID: id}
			for n := range 64 {
				r.places.direct = append(r.places.direct, netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 18 + byte(i>>8), byte(i), byte(n)}), 1).String())
			}
			p.records[id] = r
		}
		p.mu.Unlock()
		if err := p.SetTargets([]string{dead.Addr.String()}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		before := w.DialsTo(dead)
		time.Sleep(5 * time.Minute)
		if n := w.DialsTo(dead) - before; n < 4 {
			t.Errorf("a target was dialled %d times in five minutes", n)
		}
	})
}
