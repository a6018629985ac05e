package mesh

import (
	"errors"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

// living is one process of a peer, with the record that it publishes.
type living struct {
	life   Life
	table  records
	copied bool
}

func (l *living) publish(t *rapid.T, self Identity, name string) {
	own := l.table.of(self.ID)
	r, err := self.sign(meshA, own.Version+1, Body{Name: name}.seenBy(l.life, own.Body))
	if err != nil {
		t.Fatal(err)
	}
	l.table[self.ID] = r
}

func (l *living) hear(t *rapid.T, self Identity, r *Record) {
	_, copied, err := l.table.hear(self, meshA, l.life, r)
	if err != nil {
		t.Fatal(err)
	}
	l.copied = l.copied || copied
}

// Records of one peer, by processes that ran one after the other and by copies
// that run now, come in any order and again.
func TestOfCopiesTheYoungestGiveWayAndNeverForAnEarlierLife(t *testing.T) {
	identity := newIdentity(t)
	rapid.Check(t, func(t *rapid.T) {
		self := identity
		at := time.Unix(1000, 0)
		var said []*Record
		store := records{}
		begin := func() *living {
			at = at.Add(time.Duration(rapid.IntRange(0, 2000).Draw(t, "pause")) * time.Millisecond)
			l := &living{life: NewLife(at), table: records{}}
			if rapid.Bool().Draw(t, "with what the store has") {
				l.table.merge(store.of(self.ID))
			}
			l.publish(t, self, "begin")
			return l
		}
		// Earlier lives, each with a store that may have been set back.
		for range rapid.IntRange(0, 4).Draw(t, "earlier") {
			l := begin()
			for range rapid.IntRange(0, 3).Draw(t, "changes") {
				l.publish(t, self, "change")
			}
			said = append(said, l.table.of(self.ID))
			store.merge(l.table.of(self.ID))
		}
		now := []*living{begin()}
		for range rapid.IntRange(0, 2).Draw(t, "copies") {
			now = append(now, begin())
		}
		oldest := slices.MinFunc(now, func(a, b *living) int {
			if a.life.givesWay(b.life) {
				return 1
			}
			return -1
		})
		running := func() []*living {
			return slices.DeleteFunc(slices.Clone(now), func(l *living) bool { return l.copied })
		}
		step := func() {
			list := running()
			l := list[rapid.IntRange(0, len(list)-1).Draw(t, "who")]
			said = append(said, l.table.of(self.ID))
			list[rapid.IntRange(0, len(list)-1).Draw(t, "hearer")].hear(t, self, said[rapid.IntRange(0, len(said)-1).Draw(t, "what")])
		}
		for range rapid.IntRange(0, 30).Draw(t, "steps") {
			step()
		}
		// In the end all hear the latest of all, in an order that chance decides: three
		// that speak in turn for ever may each miss that another has seen them.
		r := rand.New(rand.NewPCG(1, 2))
		for range 40 {
			list := running()
			for range len(list) * len(list) {
				if l, o := list[r.IntN(len(list))], list[r.IntN(len(list))]; !l.copied {
					l.hear(t, self, o.table[self.ID])
				}
			}
		}
		if left := running(); len(left) != 1 || left[0] != oldest {
			t.Fatalf("%d of %d are left, the oldest gave way: %v", len(left), len(now), oldest.copied)
		}
	})
}

func TestHelloFindsThePeerThatRunsElsewhere(t *testing.T) {
	tok := newToken(t)
	a := start(t, nil, Config{Token: tok, Name: "pa"})
	b := start(t, nil, Config{Token: tok, Name: "pb", Targets: []string{a.Advertise().String()}})
	if _, err := b.Join(t.Context()); err != nil {
		t.Fatal(err)
	}
	peers := []*testPeer{a, b}
	all(t, 30*time.Second, "knows the other", peers, knowsAlive(peers))
	younger, older := NewLife(time.Now().Add(time.Hour)), Life{Nonce: 2, Since: 1}
	ask := func(of *testPeer, self HelloSelf) string {
		_, err := Hello(t.Context(), of.Advertise().String(), tok, self)
		var refused *RefusedError
		if errors.As(err, &refused) {
			return refused.Code
		}
		if err != nil {
			t.Fatal(err)
		}
		return ""
	}
	for name, tc := range map[string]struct {
		of   *testPeer
		self HelloSelf
		want string
	}{
		"a copy asks a third":                    {a, HelloSelf{ID: b.id(), Life: younger}, CodeCopy},
		"a copy asks the other":                  {b, HelloSelf{ID: b.id(), Life: younger}, CodeCopy},
		"who was there first asks its copy":      {b, HelloSelf{ID: b.id(), Life: older}, CodeSelf},
		"who was there first asks a third":       {a, HelloSelf{ID: b.id(), Life: older}, CodeCopy},
		"and knows of the other":                 {a, HelloSelf{ID: b.id(), Life: older, rival: b.Mesh.cfg.Life.Nonce}, ""},
		"a copy that knows of the other":         {a, HelloSelf{ID: b.id(), Life: younger, rival: b.Mesh.cfg.Life.Nonce}, CodeCopy},
		"a restart in the same place asks":       {a, HelloSelf{ID: b.id(), Life: younger, Advertise: b.Advertise()}, ""},
		"one that does not say which life it is": {a, HelloSelf{ID: b.id()}, ""},
		"another peer":                           {a, HelloSelf{ID: newIdentity(t).ID, Life: younger}, ""},
		"the same life, by another of its ways":  {a, HelloSelf{ID: b.id(), Life: b.Mesh.cfg.Life}, ""},
	} {
		if got := ask(tc.of, tc.self); got != tc.want {
			t.Errorf("%s: refused with %q, want %q", name, got, tc.want)
		}
	}
	// Where the peer runs no more, whoever has its key is that peer.
	b.Close()
	if got := ask(a, HelloSelf{ID: b.id(), Life: younger}); got != "" {
		t.Errorf("a peer that moved is refused with %q", got)
	}
}

// Two halves of a mesh each have one of a peer's copies as a member, and meet.
func TestOfCopiesInTwoHalvesTheElderStaysWhoeverGreetsFirst(t *testing.T) {
	identity := newIdentity(t)
	for name, dials := range map[string]struct{ elder, younger bool }{
		"the elder":           {elder: true},
		"the younger":         {younger: true},
		"both, at one moment": {elder: true, younger: true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tok, w := newToken(t), newNetwork(t, 4)
				half := func(name string, copied, member *host, life Life) (one, other *testPeer) {
					one = start(t, copied, Config{Token: tok, Name: "pc", Identity: identity, Life: life})
					other = start(t, member, Config{Token: tok, Name: name, Targets: []string{copied.Addr.String()}})
					if _, err := other.Join(t.Context()); err != nil {
						t.Fatal(err)
					}
					both := []*testPeer{one, other}
					all(t, time.Minute, "knows the other", both, knowsAlive(both))
					return one, other
				}
				now := time.Now()
				elder, of1 := half("p1", w.Hosts[0], w.Hosts[1], NewLife(now))
				younger, of2 := half("p2", w.Hosts[2], w.Hosts[3], NewLife(now.Add(time.Second)))
				if dials.elder {
					if err := elder.SetTargets([]string{of2.Advertise().String()}); err != nil {
						t.Fatal(err)
					}
				}
				if dials.younger {
					if err := younger.SetTargets([]string{of1.Advertise().String()}); err != nil {
						t.Fatal(err)
					}
				}
				select {
				case <-younger.Copied():
				case <-time.After(5 * time.Minute):
					t.Error("the younger does not give way")
				}
				younger.Close()
				if err := of2.SetTargets([]string{of1.Advertise().String()}); err != nil {
					t.Fatal(err)
				}
				eventually(t, 5*time.Minute, "the other half has the elder", func() bool {
					s := of2.see(identity.ID)
					return s.State == StateAlive && s.Record.Life == elder.Mesh.cfg.Life
				})
				select {
				case why := <-elder.Copied():
					t.Errorf("the elder gives way: %s", why)
				default:
				}
			})
		})
	}
}
