package mesh

import (
	"context"
	"crypto/ed25519"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/hashicorp/memberlist"
)

func TestAConfinedPeerIsAMemberLikeAnyOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newNetwork(t, 4)
		w.Hosts[3].Confine()
		peers := meshIn(t, w, 4)
		gone := peers[3]
		eventually(t, 10*time.Second, "it knows that it is confined", func() bool { return gone.Reachability().Confined })
		gone.publish(t, "p3")
		all(t, 30*time.Second, "all know that it is confined", peers, func(p *testPeer) bool {
			return p.see(gone.id()).Record.Confined
		})
		for _, p := range peers[:3] {
			if p.see(p.id()).Record.Confined {
				t.Errorf("%s takes itself for confined", p.cfg.Name)
			}
		}
		all(t, 10*time.Second, "has its line", peers[:3], func(p *testPeer) bool { return p.callers.has(gone.id().String()) })
		peers[0].Send(gone.id(), "board", []byte("psst"))
		eventually(t, 10*time.Second, "a message reaches it", func() bool { return len(gone.board.messages()) == 1 })
		for range 120 {
			time.Sleep(time.Second)
			for _, p := range peers[:3] {
				if s := p.see(gone.id()).State; s != StateAlive {
					t.Fatalf("%s takes it for %s", p.cfg.Name, s)
				}
			}
		}
		if way, _, ok := peers[0].Reached(gone.id()); !ok || way != WayLine {
			t.Errorf("it is reached by %q", way)
		}
		// A line that breaks is opened again.
		peers[0].callers.line(gone.id().String()).conn.Close()
		eventually(t, 10*time.Second, "there is a line again", func() bool { return peers[0].callers.has(gone.id().String()) })
		// Who comes back is told by nobody but by what it dials itself.
		gone.Close()
		all(t, time.Minute, "sees it fail", peers[:3], func(p *testPeer) bool { return p.see(gone.id()).State == StateFailed })
		peers[3] = gone.restart(t, gone.at)
		all(t, time.Minute, "sees it again", peers, func(p *testPeer) bool { return p.see(gone.id()).State == StateAlive })
	})
}

func TestALineIsItsPeersAlone(t *testing.T) {
	a, b := newIdentity(t), newIdentity(t)
	said1, said2 := []byte("one"), []byte("two")
	sign := func(i Identity, first, second []byte) helloProof {
		return helloProof{Key: i.Key.Public().(ed25519.PublicKey), Signature: ed25519.Sign(i.Key, lineProof(first, second))}
	}
	if !mayHoldLine(a.ID, sign(a, said1, said2), said1, said2) {
		t.Error("a peer may not hold its own line")
	}
	for name, p := range map[string]helloProof{
		"another's key":        sign(b, said1, said2),
		"another conversation": sign(a, said1, said1),
		"cut at another place": sign(a, []byte("on"), []byte("etwo")),
		"nothing":              {},
		"a key of no length":   {Key: []byte{1}},
		"no signature":         {Key: a.Key.Public().(ed25519.PublicKey)},
	} {
		if mayHoldLine(a.ID, p, said1, said2) {
			t.Errorf("a line is held with %s", name)
		}
	}
}

func TestTheWordOfWhoIsGoneCountsForAWhileOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newNetwork(t, 3)
		w.Hosts[2].Confine()
		peers := meshIn(t, w, 3)
		eventually(t, 10*time.Second, "it knows that it is confined", func() bool { return peers[2].Reachability().Confined })
		all(t, 10*time.Second, "has its line", peers[:2], func(p *testPeer) bool { return p.callers.has(peers[2].id().String()) })
		peers[0].Close()
		w.Hosts[2].Free()
		eventually(t, 2*wordLife, "it is not confined any more", func() bool { return !peers[2].Reachability().Confined })
	})
}

func TestCallsByALineAreAnsweredFewAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var dials atomic.Int64
		m := &Mesh{ctx: ctx, log: quiet(), dial: func(ctx context.Context, _ string) (net.Conn, error) {
			dials.Add(1)
			<-ctx.Done()
			return nil, ctx.Err()
		}}
		mine, theirs := net.Pipe()
		ended := make(chan error, 1)
		go func() { ended <- m.serveLine(mine, "192.0.2.1:6783") }()
		for range 10 * maxCalls {
			if _, err := theirs.Write(lineFrame(lineCall, make([]byte, callLen))); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		if n := dials.Load(); n != maxCalls {
			t.Errorf("%d connections are opened at the same time", n)
		}
		if _, err := theirs.Write(lineFrame(lineCall, make([]byte, 1000))); err != nil {
			t.Fatal(err)
		}
		if err := <-ended; err == nil {
			t.Error("a call without a right number is taken in")
		}
		cancel()
		m.wg.Wait()
	})
}

func TestWhoCouldNotConnectBackIsAskedAgain(t *testing.T) {
	m, peer, now := bare(t), newIdentity(t), time.Now()
	m.records.merge(sign(t, peer, 1, Body{}))
	m.members[peer.ID] = &member{node: &memberlist.Node{}}
	m.confinement.through = map[uuid.UUID]word{peer.ID: {at: now}}
	if _, _, ok := m.backDue(now.Add(wordDoubt)); ok {
		t.Error("it is asked again at once")
	}
	if id, _, ok := m.backDue(now.Add(wordDoubt + 1)); !ok || id != peer.ID {
		t.Errorf("asked is %s, %v", id, ok)
	}
	if _, _, ok := m.backDue(now.Add(2 * wordDoubt)); ok {
		t.Error("it is asked while it is being asked")
	}
}
