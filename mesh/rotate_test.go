package mesh

import (
	"bytes"
	"context"
	crand "crypto/rand"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/hashicorp/memberlist"
	"golang.org/x/crypto/nacl/box"
	"pgregory.net/rapid"
)

func TestRotatedTokenReachesAllAndTheOldOneLetsNobodyIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, peers := meshOf(t, 5, 2)
		old := peers[0].Tokens().Use
		if away, err := peers[2].Rotate(t.Context()); err != nil || len(away) != 0 {
			t.Fatalf("Rotate = %v, %v", away, err)
		}
		fresh := peers[2].Tokens().Use
		if fresh == old || fresh.MeshID != old.MeshID {
			t.Error("the token is the old one, or of another mesh")
		}
		all(t, 10*time.Second, "uses the new token and no other", peers, func(p *testPeer) bool {
			have := p.Tokens()
			return have.Use == fresh && have.Old == nil && have.Next == nil && len(p.keyring.GetKeys()) == 1
		})
		for _, p := range peers {
			for _, o := range peers {
				if s := p.see(o.id()); s.State != StateAlive {
					t.Errorf("%s sees %s %s", p.cfg.Name, o.cfg.Name, s.State)
				}
			}
		}
		target := []string{peers[0].at.Addr.String()}
		stranger := start(t, w.Hosts[5], Config{Token: old, Name: "p-old", Targets: target})
		var refused *RefusedError
		if _, err := stranger.Join(t.Context()); !errors.As(err, &refused) || refused.Code != CodeBadToken {
			t.Errorf("with the old token: %v", err)
		}
		guest := start(t, w.Hosts[6], Config{Token: fresh, Name: "p-new", Targets: target})
		if n, err := guest.Join(t.Context()); n != 1 || err != nil {
			t.Errorf("with the new token: %d, %v", n, err)
		}
		eventually(t, 10*time.Second, "the guest learns how often it was changed", func() bool { return guest.Tokens().Epoch == 1 })
		if _, err := guest.Rotate(t.Context()); err != nil {
			t.Errorf("Rotate by the guest = %v", err)
		}
		all(t, 10*time.Second, "uses the guest's token", peers, func(p *testPeer) bool { return p.Tokens().Use == guest.Tokens().Use })
	})
}

func TestRotationWaitsForNobodyWhoIsAwayAndTellsWho(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, peers := meshOf(t, 3, 0)
		gone := peers[2]
		gone.Close()
		eventually(t, time.Minute, "it is missed", func() bool {
			return peers[0].see(gone.id()).State == StateFailed && peers[1].see(gone.id()).State == StateFailed
		})
		away, err := peers[0].Rotate(t.Context())
		if err != nil || !slices.Equal(away, []uuid.UUID{gone.id()}) {
			t.Fatalf("Rotate = %v, %v", away, err)
		}
	})
}

func TestRemovedPeerIsNotGivenTheNewToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newNetwork(t, 3)
		tok := newToken(t)
		var peers []*testPeer
		for i, h := range w.Hosts {
			p := start(t, h, Config{Token: tok, Name: "p", Targets: []string{w.Hosts[0].Addr.String()}})
			if _, err := p.Join(t.Context()); err != nil && i > 0 {
				t.Fatal(err)
			}
			peers = append(peers, p)
		}
		all(t, time.Minute, "knows every other", peers, knowsAlive(peers))
		if _, err := peers[0].Rotate(t.Context(), peers[2].id()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if peers[2].Tokens().Use != tok || peers[1].Tokens().Use == tok {
			t.Error("the removed one has the new token, or another has not")
		}
		eventually(t, time.Minute, "it is out", func() bool { return peers[0].see(peers[2].id()).State == StateFailed })
	})
}

func TestTokensOfAChangeOutliveARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newNetwork(t, 3)
		tok := newToken(t)
		kept := make([]Tokens, 3)
		var peers []*testPeer
		launch := func(i int, tokens *Tokens, snapshot []byte, id Identity) *testPeer {
			cfg := Config{Token: tok, Tokens: tokens, Name: "p", Snapshot: snapshot, Identity: id, Targets: []string{w.Hosts[0].Addr.String()}}
			cfg.KeepTokens = func(now Tokens) error {
				b, err := now.MarshalBinary()
				if err != nil {
					return err
				}
				return kept[i].UnmarshalBinary(b)
			}
			p := start(t, w.Hosts[i], cfg)
			_, _ = p.Join(t.Context()) // the first one is alone
			return p
		}
		for i := range w.Hosts {
			peers = append(peers, launch(i, nil, nil, newIdentity(t)))
		}
		all(t, time.Minute, "knows every other", peers, knowsAlive(peers))
		// One holds the new token and ends before it is used; the others go on.
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { _, err := peers[0].Rotate(ctx); done <- err }()
		eventually(t, 10*time.Second, "it holds the new token", func() bool { return peers[2].Tokens().Next != nil })
		snapshot := peers[2].Snapshot()
		peers[2].Close()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		cancel()
		if kept[2].Next == nil {
			t.Fatal("the token that it holds was not kept")
		}
		again := launch(2, &kept[2], snapshot, peers[2].cfg.Identity)
		eventually(t, 2*time.Minute, "it is back with the new token", func() bool {
			return again.Tokens().Use == peers[0].Tokens().Use && peers[0].see(again.id()).State == StateAlive
		})
	})
}

// Whatever the order in which peers look at each other: nobody uses a token that
// somebody does not hold, nobody forgets one that somebody uses, and at the end
// all use the same one and no other.
func TestAChangeNeverSeparatesPeers(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 6).Draw(t, "peers")
		mesh := uuid.New()
		token := func(secret byte) Token { return Token{MeshID: mesh, Secret: [32]byte{secret}} }
		peers, seen := make([]turn, n), make([][]Standing, n) // what each has heard of the others
		for i := range peers {
			peers[i].Tokens = Tokens{Use: token(0)}
			seen[i] = make([]Standing, n)
			for j := range seen[i] {
				seen[i][j] = peers[i].standing()
			}
		}
		makers := rapid.IntRange(1, 2).Draw(t, "makers")
		for i := range min(makers, n) {
			next := token(byte(i + 1))
			peers[i].Next = &next
		}
		now := time.Unix(0, 0)
		act := func(i, j int) {
			switch now = now.Add(time.Second); {
			case i == j:
				var others []Standing
				for k, s := range seen[i] {
					if k != i {
						others = append(others, s)
					}
				}
				peers[i].step(now, others)
			default:
				seen[i][j] = peers[j].standing()
				if peers[i].wants(seen[i][j]) {
					tok, epoch := peers[j].newest()
					peers[i].take(tok, epoch, nil)
				}
			}
			for a := range peers {
				for b := range peers {
					if !slices.Contains(peers[b].all(), peers[a].Use) {
						t.Fatalf("peer %d uses a token that peer %d does not understand", a, b)
					}
				}
			}
		}
		anew := rapid.IntRange(0, 3).Draw(t, "begun anew")
		for range rapid.IntRange(0, 200).Draw(t, "steps") {
			if i := rapid.IntRange(0, 20*n).Draw(t, "who begins anew"); i < n && anew > 0 && peers[i].underWay() {
				peers[i].begin(token(byte(10+anew)), nil)
				anew--
			}
			act(rapid.IntRange(0, n-1).Draw(t, "i"), rapid.IntRange(0, n-1).Draw(t, "j"))
		}
		for range 20 {
			for i := range n {
				for j := range n {
					act(i, j)
				}
			}
		}
		for i := range peers {
			if p := peers[i]; p.Next != nil || p.Old != nil || p.Use != peers[0].Use || p.Use == token(0) {
				t.Fatalf("peer %d ends with %d tokens", i, len(p.all()))
			}
		}
	})
}

func TestTokensThatCannotBeKeptAreTriedSeldomAndToldOnce(t *testing.T) {
	m := bare(t)
	var log bytes.Buffer
	m.log = slog.New(slog.NewTextHandler(&log, nil))
	tries, why := 0, "the disk is full"
	m.cfg.KeepTokens = func(Tokens) error { tries++; return errors.New(why) }
	m.turn.begin(newToken(t), nil)
	now := time.Now()
	for range 240 {
		m.turnOn(now, true)
		now = now.Add(turnEvery)
	}
	if lines := strings.Count(log.String(), "does not go on"); tries != 6 || lines != 1 {
		t.Errorf("in a minute it was tried %d times and told %d times", tries, lines)
	}
	why = "the disk is gone"
	for range 60 {
		m.turnOn(now, true)
		now = now.Add(turnEvery)
	}
	if lines := strings.Count(log.String(), "does not go on"); lines != 2 {
		t.Errorf("another reason makes %d lines", lines)
	}
}

func TestOnlyATokenThatWasAskedForIsTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, peers := meshOf(t, 2, 0)
		a, b := peers[0], peers[1]
		old := a.Tokens().Use
		given := newToken(t)
		given.MeshID = old.MeshID
		give := func(epoch uint64) {
			t.Helper()
			sealed, err := box.SealAnonymous(nil, []byte(given.String()), (*[32]byte)(a.cfg.Identity.sealKey().PublicKey().Bytes()), crand.Reader)
			if err != nil {
				t.Fatal(err)
			}
			b.Send(a.id(), tokenChannel, encode(tokenMessage{Epoch: epoch, Sealed: sealed}))
			time.Sleep(time.Second)
		}
		ask := func() {
			a.mu.Lock()
			defer a.mu.Unlock()
			a.tokenAsked[b.id()] = time.Now()
		}
		want := func(when string, taken bool) {
			t.Helper()
			have := a.Tokens()
			if got := slices.Contains(have.all(), given); got != taken {
				t.Fatalf("%s: taken %v, want %v", when, got, taken)
			}
		}
		give(1)
		want("unasked", false)
		ask()
		give(maxVersion + 1)
		want("with an epoch after which there is none", false)
		a.SetRemoved(map[uuid.UUID]bool{b.id(): true})
		give(1)
		want("from one that was removed", false)
		a.SetRemoved(nil)
		ask()
		time.Sleep(answerTime + time.Second)
		give(1)
		want("too late", false)
		ask()
		give(1)
		want("as it was asked for", true)
	})
}

func TestConcurrentRevocationsBothHold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, peers := meshOf(t, 4, 0)
		old := peers[0].Tokens().Use
		done := make(chan error, 2)
		for i := range 2 {
			go func() { _, err := peers[i].Rotate(t.Context(), peers[2+i].id()); done <- err }()
		}
		if err := errors.Join(<-done, <-done); err != nil {
			t.Fatal(err)
		}
		fresh := peers[0].Tokens().Use
		if peers[1].Tokens().Use != fresh || fresh == old {
			t.Error("those that revoked do not use one new token")
		}
		for _, p := range peers[2:] {
			if have := p.Tokens(); slices.Contains(have.all(), fresh) {
				t.Errorf("%s is revoked and has the new token", p.cfg.Name)
			}
		}
	})
}

func TestAPeerThatCannotTakeTheTokenIsLeftOutOfAChangeThatWaitsForIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newNetwork(t, 3)
		tok := newToken(t)
		var peers []*testPeer
		for i, h := range w.Hosts {
			cfg := Config{Token: tok, Name: "p", Targets: []string{w.Hosts[0].Addr.String()}}
			if i == 2 {
				cfg.KeepTokens = func(Tokens) error { return errors.New("the disk is full") }
			}
			p := start(t, h, cfg)
			if _, err := p.Join(t.Context()); err != nil && i > 0 {
				t.Fatal(err)
			}
			peers = append(peers, p)
		}
		all(t, time.Minute, "knows every other", peers, knowsAlive(peers))
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		var waits *RotateError
		if _, err := peers[0].Rotate(ctx); !errors.As(err, &waits) || !slices.Equal(waits.Waiting, []uuid.UUID{peers[2].id()}) {
			t.Fatalf("Rotate = %v", err)
		}
		if _, err := peers[1].Rotate(t.Context()); !errors.Is(err, ErrRotating) {
			t.Errorf("a second change that is not another: %v", err)
		}
		if _, err := peers[1].Rotate(t.Context(), peers[2].id()); err != nil {
			t.Fatalf("a change without who cannot take the token: %v", err)
		}
		all(t, 10*time.Second, "uses the new token and no other", peers[:2], func(p *testPeer) bool {
			return p.Tokens().Use == peers[1].Tokens().Use && len(p.keyring.GetKeys()) == 1
		})
		if peers[1].Tokens().Use == tok {
			t.Error("the old token still lets hosts in")
		}
	})
}

func TestTokensOfAChangeThatIsBegunAnewAreReadBackAsWritten(t *testing.T) {
	mesh := uuid.New()
	token := func(secret byte) Token { return Token{MeshID: mesh, Secret: [32]byte{secret}} }
	was := turn{Tokens: Tokens{Use: token(0)}}
	for i := range 3 {
		was.begin(token(byte(i+1)), nil)
	}
	var again Tokens
	if err := again.UnmarshalBinary(was.bytes()); err != nil || !slices.Equal(again.all(), was.all()) || len(again.Old) != 2 {
		t.Errorf("%d tokens were written, and %d read: %v", len(was.all()), len(again.all()), err)
	}
}

func TestWhoHoldsANewerTokenIsAskedAsSoonAsItIsThereAndUntilItIsGiven(t *testing.T) {
	m := bare(t)
	m.cfg.Token = Token{MeshID: meshA}
	m.turn.Use = m.cfg.Token
	peer := newIdentity(t)
	node := &memberlist.Node{Name: peer.ID.String(), Addr: []byte{192, 0, 2, 1}, Port: 6783}
	now := time.Now()
	asked := func(when string, may bool, want uuid.UUID) {
		t.Helper()
		if got := m.turnOn(now, may); got != want {
			t.Errorf("%s: %v is asked, want %v", when, got, want)
		}
	}
	m.mergeRecords([]signed{sign(t, peer, 1, Body{}).signed})
	m.memberUp(node)
	asked("before there is a newer token", true, uuid.Nil)
	m.mergeRecords([]signed{sign(t, peer, 2, Body{Token: Standing{Held: 1, Hash: []byte{1}}}).signed})
	asked("when it says so", true, peer.ID)
	asked("when somebody was asked just now", false, uuid.Nil)
	asked("when nothing came of that", true, peer.ID)
	m.members = map[uuid.UUID]*member{}
	asked("when it is gone", true, uuid.Nil)
	m.memberUp(node)
	asked("when it is back", true, peer.ID)
}

func TestATokenThatIsNotUsedAnyMoreLetsInWhoIsInTheMeshOnly(t *testing.T) {
	used, old, known := newToken(t), newToken(t), newIdentity(t).ID
	m := &Mesh{records: records{known: &Record{Version: 1}}}
	m.turn.Use, m.turn.Old = used, []Token{old}
	for _, c := range []struct {
		tok  Token
		id   uuid.UUID
		want bool
	}{{used, newIdentity(t).ID, false}, {old, known, false}, {old, newIdentity(t).ID, true}} {
		if got := m.isOutdated(c.tok, c.id); got != c.want {
			t.Errorf("token is used %v, peer is known %v: outdated = %v", c.tok == used, c.id == known, got)
		}
	}
}
