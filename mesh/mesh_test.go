package mesh

import (
	"bytes"
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// The meshes of these tests live in virtual time: a minute takes a moment.

func TestEveryPeerKnowsEveryOtherAndChannelsReachAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, peers := meshOf(t, 20, 0)
		large := strings.Repeat("x", 5000)
		peers[3].say("news")
		peers[2].say(large)
		all(t, 10*time.Second, "a broadcast reaches all, whatever its size", peers, func(p *testPeer) bool {
			return p.board.has("news") && p.board.has(large)
		})
		peers[1].Send(peers[4].id(), "board", []byte("psst"))
		eventually(t, 10*time.Second, "a message reaches its peer with its sender's id", func() bool {
			got := peers[4].board.messages()
			return len(got) == 1 && got[0] == peers[1].id().String()+" psst"
		})
		for _, p := range peers {
			if c := p.Counters(); c.Dropped != 0 || len(c.RecordsRefused) != 0 {
				t.Errorf("%s: %+v", p.cfg.Name, c)
			}
		}
	})
}

func TestRecordChangesReachAllAndTheSameAgainIsNone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, peers := meshOf(t, 5, 0)
		for range 2 {
			peers[1].publish(t, "p1-renamed")
		}
		all(t, 10*time.Second, "sees version 2", peers, func(p *testPeer) bool {
			s := p.see(peers[1].id())
			return s.Version == 2 && s.Record.Name == "p1-renamed"
		})
	})
}

func TestMissedRecordIsAskedForByAPacketAndThenByConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, peers := meshOf(t, 2, 0)
		a, b := peers[0], peers[1]
		eventually(t, 2*time.Minute, "its metadata has arrived", func() bool {
			b.mu.Lock()
			defer b.mu.Unlock()
			return b.members[a.id()].claim.version == 1
		})
		// Now and then there is an exchange just then, which takes a connection, too.
		for again, want := range map[bool]func(connections []int) bool{
			false: func(n []int) bool { return slices.Contains(n, 0) },
			true:  func(n []int) bool { return !slices.Contains(n, 0) },
		} {
			var connections []int
			for range 5 {
				time.Sleep(3 * time.Second) // it has been seen that nothing is missing
				b.lose(a)
				b.mu.Lock()
				b.members[a.id()].asked = again
				b.mu.Unlock()
				before := w.DialsTo(w.Hosts[0])
				eventually(t, lateAfter+2*time.Second, "the record is there again", func() bool { return b.see(a.id()).Record.Name == "p0" })
				connections = append(connections, w.DialsTo(w.Hosts[0])-before)
			}
			if !want(connections) {
				t.Errorf("asked before %t: %v connections", again, connections)
			}
		}
	})
}

// lose has a peer forget another's record, as if every packet with it had been lost.
func (p *testPeer) lose(of *testPeer) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.records, of.id())
	p.changes.Add(1)
}

func TestComparisonOfRecordsTakesPacketsAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, peers := meshOf(t, 3, 0)
		a, b, c := peers[0], peers[1], peers[2]
		knows := func(p, of *testPeer, name string) func() bool {
			return func() bool { return p.see(of.id()).Record.Name == name }
		}
		dials := func() (n int) {
			for _, h := range w.Hosts {
				n += w.DialsTo(h)
			}
			return n
		}
		time.Sleep(recentTime) // newcomers are told no more
		for who, p := range map[string]*testPeer{"who compares": a, "who is compared with": b} {
			p.lose(c)
			before := dials()
			a.CompareRecords(b.id())
			eventually(t, 100*time.Millisecond, who+" has what it lacked", knows(p, c, "p2"))
			if n := dials() - before; n != 0 {
				t.Errorf("%s lacked one record, which took %d connections", who, n)
			}
		}
	})
}

func TestKilledPeerIsKeptAsFailedAndComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, peers := meshOf(t, 3, 0)
		gone := peers[2]
		gone.publish(t, "p2-second")
		all(t, 10*time.Second, "sees version 2", peers, func(p *testPeer) bool { return p.see(gone.id()).Version == 2 })
		gone.Close()
		all(t, time.Minute, "sees it fail and keeps its record", peers[:2], func(p *testPeer) bool {
			s := p.see(gone.id())
			return s.State == StateFailed && s.Record.Name == "p2-second"
		})
		again := gone.restart(t, gone.at)
		peers[2] = again
		all(t, 10*time.Second, "all are alive again, the version goes on", peers, func(p *testPeer) bool {
			return knowsAlive(peers)(p) && p.see(gone.id()).Version == 3
		})
	})
}

func TestPeerThatIsRestartedAtOnceIsNeverMissedForLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, peers := meshOf(t, 3, 0)
		peers[2] = peers[2].restart(t, peers[2].at)
		peers[2].say("back")
		all(t, 5*time.Second, "hears it", peers, func(p *testPeer) bool { return knowsAlive(peers)(p) && p.board.has("back") })
		time.Sleep(time.Minute)
		all(t, 0, "it stays alive", peers, knowsAlive(peers))
	})
}

func TestPeerThatComesBackAtAnotherAddressIsAccepted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, peers := meshOf(t, 3, 1)
		peers[2].Close()
		all(t, time.Minute, "sees it fail", peers[:2], func(p *testPeer) bool { return p.see(peers[2].id()).State == StateFailed })
		time.Sleep(2 * reclaimAfter)
		moved := peers[2].restart(t, w.Hosts[3])
		peers[2] = moved
		all(t, 10*time.Second, "sees it at its new address", peers, func(p *testPeer) bool {
			s := p.see(moved.id())
			return knowsAlive(peers)(p) && s.Record.Gossip[0] == w.Hosts[3].Addr
		})
		peers[0].Send(moved.id(), "board", []byte("hello there"))
		eventually(t, time.Minute, "a message finds it", func() bool { return len(moved.board.messages()) == 1 })
	})
}

func TestLostMemoryDoesNotSilenceAPeer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, peers := meshOf(t, 2, 0)
		p := peers[1]
		for _, name := range []string{"p1-a", "p1-b", "p1-c"} {
			p.publish(t, name)
		}
		eventually(t, time.Minute, "the other heard it", func() bool { return peers[0].see(p.id()).Version == 4 })
		p.Close()
		cfg := p.cfg
		cfg.Name = "p1-new"
		again := start(t, p.at, cfg) // without a snapshot it begins at version 1
		if _, err := again.Join(t.Context()); err != nil {
			t.Fatal(err)
		}
		eventually(t, time.Minute, "the other hears what it says now", func() bool {
			s := peers[0].see(p.id())
			return s.Record.Name == "p1-new" && s.Version > 4
		})
	})
}

func TestPartitionHealsByItselfAndBothSidesLearnWhatTheyMissed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, peers := meshOf(t, 6, 0)
		w.Cut(3)
		all(t, 2*time.Minute, "the other side has failed", peers[:3], func(p *testPeer) bool {
			return p.see(peers[3].id()).State == StateFailed && p.see(peers[5].id()).State == StateFailed
		})
		time.Sleep(30 * time.Minute) // longer than memberlist remembers
		peers[0].say("left")
		peers[5].say("right")
		peers[4].publish(t, "p4-renamed")
		w.Cut(0)
		all(t, 2*lastWait, "one mesh again", peers, func(p *testPeer) bool {
			return knowsAlive(peers)(p) && p.board.has("left") && p.board.has("right") && p.see(peers[4].id()).Record.Name == "p4-renamed"
		})
	})
}

func TestWhoIsOutOfReachHoldsNobodyElseUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, peers := meshOf(t, 40, 0)
		w.Cut(20)
		for n := range 10 {
			for _, p := range peers[20:] {
				peers[0].Send(p.id(), "board", []byte(strings.Repeat("lost", n)))
			}
			time.Sleep(100 * time.Millisecond)
		}
		peers[0].Send(peers[1].id(), "board", []byte("found"))
		eventually(t, time.Second, "a message reaches who is there", func() bool {
			return slices.ContainsFunc(peers[1].board.messages(), func(m string) bool { return strings.HasSuffix(m, "found") })
		})
	})
}

func TestDepartedPeerIsKnownAsSuchAndNeverDialledAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, peers := meshOf(t, 4, 0)
		gone, rest := peers[0], peers[1:] // the target of all the others
		if err := gone.Depart(t.Context()); err != nil {
			t.Fatal(err)
		}
		if last := gone.see(gone.id()).Version; last != 2 {
			t.Errorf("the tombstone is version %d", last)
		}
		gone.publish(t, "p0 again")
		if got := gone.see(gone.id()); got.Version != 2 || got.State != StateDeparted {
			t.Errorf("after its farewell it says %+v", got)
		}
		gone.Close()
		all(t, 10*time.Second, "knows", rest, func(p *testPeer) bool { return p.see(gone.id()).State == StateDeparted })
		time.Sleep(2 * time.Second) // probes under way
		before := w.DialsTo(gone.at)
		time.Sleep(30 * time.Minute)
		if n := w.DialsTo(gone.at) - before; n != 0 {
			t.Errorf("it was dialled %d times", n)
		}
		if ts := rest[0].Targets(); ts[0].Connected || ts[0].LastError == "" || !ts[0].NextTry.IsZero() {
			t.Errorf("target of a peer that has left: %+v", ts[0])
		}
		// A late newcomer hears of it as well.
		if late := rest[2].restart(t, rest[2].at); late.see(gone.id()).State != StateDeparted {
			t.Error("the tombstone is not remembered")
		}
		// Its old identity is refused, and nobody can make it speak again.
		cfg := gone.cfg
		cfg.Targets = []string{rest[0].at.Addr.String()}
		back := start(t, gone.at, cfg)
		_, err := back.Join(t.Context())
		var refused *RefusedError
		if !errors.As(err, &refused) || refused.Code != CodeDeparted {
			t.Errorf("join of the departed: %v", err)
		}
		if err := rest[0].try(t.Context(), gone.at.Addr.String()); !errors.As(err, &refused) || refused.Code != CodeDeparted {
			t.Errorf("dialling the departed: %v", err)
		}
	})
}

func TestHostThatWasResetIsFoundAgainAtItsOldAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, peers := meshOf(t, 2, 0)
		old, other := peers[0], peers[1]
		if err := old.Depart(t.Context()); err != nil {
			t.Fatal(err)
		}
		old.Close()
		anew := start(t, old.at, Config{Token: old.cfg.Token, Name: "p-anew", Targets: []string{other.at.Addr.String()}})
		if _, err := anew.Join(t.Context()); err != nil {
			t.Fatal(err)
		}
		eventually(t, 10*time.Second, "its address counts as connected", func() bool { return other.Targets()[0].Connected })
	})
}

func TestTargetThatIsDownIsJoinedOnceItIsUpAndLoggedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newNetwork(t, 2)
		tok := newToken(t)
		_ = w.Hosts[1].Shutdown()
		var out bytes.Buffer
		p := start(t, w.Hosts[0], Config{Token: tok, Name: "p-early", Targets: []string{w.Hosts[1].Addr.String()},
			Logger: slog.New(slog.NewTextHandler(&out, nil))})
		if _, err := p.Join(t.Context()); err == nil {
			t.Fatal("joined nobody without an error")
		}
		if ts := p.Targets(); len(ts) != 1 || ts[0].Connected || ts[0].LastError == "" || ts[0].NextTry.IsZero() {
			t.Errorf("targets: %+v", ts)
		}
		time.Sleep(20 * time.Minute)
		if n := strings.Count(out.String(), "cannot join"); n != 1 {
			t.Errorf("%d lines about the same failure:\n%s", n, out.String())
		}
		if n := w.DialsTo(w.Hosts[1]); n > 60 {
			t.Errorf("%d attempts in 20 minutes: no back-off", n)
		}
		late := start(t, w.Hosts[1], Config{Token: tok, Name: "p-late"})
		eventually(t, 2*lastWait, "they find each other", func() bool {
			return late.see(p.id()).State == StateAlive && p.Targets()[0].Connected
		})
	})
}

func TestLargeNewsIsSentToEachPeerOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 40 // more than are sent to at a time
		w, peers := meshOf(t, n, 0)
		time.Sleep(time.Minute)
		count := func() (sum int) {
			for _, h := range w.Hosts {
				sum += w.DialsTo(h)
			}
			return sum
		}
		large, before := strings.Repeat("x", 5000), count()
		peers[7].say(large)
		time.Sleep(time.Second)
		for _, p := range peers {
			if !p.board.has(large) {
				t.Errorf("%s has not heard it", p.cfg.Name)
			}
		}
		if got := count() - before; got > 2*n { // the rest is memberlist's own
			t.Errorf("%d streams to tell %d peers", got, n)
		}
	})
}

func TestNewsSaidWhileSomebodyJoinsReachesTheNewcomerSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newNetwork(t, 2)
		tok := newToken(t)
		a := start(t, w.Hosts[0], Config{Token: tok, Name: "pa"})
		b := start(t, w.Hosts[1], Config{Token: tok, Name: "pb"})
		large := strings.Repeat("x", 5000)
		a.Broadcast("board", []byte("small")) // and not merged: no exchange will bring it
		a.Broadcast("board", []byte(large))
		if _, err := b.list.Join([]string{a.at.Addr.String()}); err != nil {
			t.Fatal(err)
		}
		eventually(t, recentTime, "it hears both", func() bool { return b.board.has("small") && b.board.has(large) })
	})
}

func TestLonelyPeerKeepsNothingToSpread(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newNetwork(t, 1)
		p := start(t, w.Hosts[0], Config{Token: newToken(t), Name: "p"})
		empty := p.queue.NumQueued()
		for range 1000 {
			p.Broadcast("board", []byte("nobody hears it"))
		}
		if n := p.queue.NumQueued() - empty; n != 0 {
			t.Errorf("%d messages wait for nobody", n)
		}
	})
}

func TestCloseDoesNotWaitForStrangersWithoutAWord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newNetwork(t, 2)
		p := start(t, w.Hosts[0], Config{Token: newToken(t), Name: "p"})
		for range maxPeeking {
			c, err := w.Hosts[1].DialTimeout(p.at.Addr.String(), time.Second)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
		}
		synctest.Wait()
		begin := time.Now()
		if err := p.Close(); err != nil {
			t.Error(err)
		}
		if took := time.Since(begin); took >= peekTime {
			t.Errorf("it waited %v", took)
		}
	})
}

func TestOwnRecordOverTheLimitsIsAnErrorHereAndNotSilenceThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newNetwork(t, 1)
		p := start(t, w.Hosts[0], Config{Token: newToken(t), Name: "p"})
		err := p.Publish(Body{Name: "p", Prefixes: make([]netip.Prefix, maxPrefixes+1)})
		if !errors.Is(err, errOversized) || p.see(p.id()).Version != 1 {
			t.Errorf("Publish: %v", err)
		}
	})
}
