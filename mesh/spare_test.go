package mesh

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"github.com/weft-net/weft/internal/simnet"
)

// given starts a peer that has these tokens and tries the first n hosts.
func given(t *testing.T, w *simnet.Network, at, n int, tokens Tokens, doubtful ...Token) *testPeer {
	t.Helper()
	var targets []string
	for _, h := range w.Hosts[:n] {
		targets = append(targets, h.Addr.String())
	}
	p := start(t, w.Hosts[at], Config{Token: tokens.Use, Tokens: &tokens, Given: doubtful, Name: "p-given", Targets: targets})
	_, _ = p.Join(t.Context()) // some tests have nobody who answers
	return p
}

func another(t *testing.T, tok Token) Token {
	t.Helper()
	other := newToken(t)
	other.MeshID = tok.MeshID
	return other
}

func TestOfATokenGivenByHandAndTheOneThatWasHeldPeersDecide(t *testing.T) {
	fresh := newToken(t)
	old, older := another(t, fresh), another(t, fresh)
	for name, tc := range map[string]struct {
		mesh     []Token // of two peers that answer, each with its own
		tokens   Tokens
		doubtful []Token
		want     Token
	}{
		"an old one is given to who never had it":      {[]Token{fresh, fresh}, Tokens{Use: fresh}.Renewed(old), nil, fresh},
		"the one that was missed is given":             {[]Token{fresh, fresh}, Tokens{Use: old}.Renewed(fresh), nil, fresh},
		"it is given after a wrong one":                {[]Token{fresh, fresh}, Tokens{Use: fresh}.Renewed(old).Renewed(older), nil, fresh},
		"it is given though it was past":               {[]Token{fresh, fresh}, Tokens{Use: old, Past: [][]byte{fresh.hint()}}, []Token{fresh}, fresh},
		"a past one is given, as by a unit file":       {[]Token{fresh, fresh}, Tokens{Use: fresh, Past: [][]byte{old.hint()}}, []Token{old}, fresh},
		"a past one is given, and somebody still uses": {[]Token{old, fresh}, Tokens{Use: fresh, Past: [][]byte{old.hint()}}, []Token{old}, fresh},
		"that of one half is given in the other":       {[]Token{old, fresh}, Tokens{Use: old}.Renewed(fresh), nil, fresh},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newNetwork(t, 3)
				for i, tok := range tc.mesh {
					start(t, w.Hosts[i], Config{Token: tok, Name: "p"})
				}
				p := given(t, w, 2, 2, tc.tokens, tc.doubtful...)
				have := p.Tokens()
				if have.Use != tc.want || len(have.Spare) != 0 || len(p.others()) == 0 {
					t.Errorf("ends with the right token %v, %d spare ones and %d peers", have.Use == tc.want, len(have.Spare), len(p.others()))
				}
				if have.WasUsed(tc.want) || !have.WasUsed(old) && !have.WasUsed(fresh) {
					t.Error("the token that is used is past, or the other one is not")
				}
			})
		})
	}
}

func TestTokensThatNobodyCouldBeAskedAboutAreTriedWhenSomebodyAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newNetwork(t, 2)
		fresh := newToken(t)
		other := start(t, w.Hosts[0], Config{Token: fresh, Name: "p"})
		w.Cut(1)
		p := given(t, w, 1, 1, Tokens{Use: fresh}.Renewed(another(t, fresh)))
		if have := p.Tokens(); have.Use == fresh || !slices.Contains(have.Spare, fresh) {
			t.Fatal("a token that was given was passed over, or the one before it is lost, and nobody had answered")
		}
		stored, kept := Tokens{}, p.Tokens()
		if err := stored.UnmarshalBinary(kept.bytes()); err != nil || !slices.Equal(stored.Spare, kept.Spare) {
			t.Errorf("the store has %d spare tokens: %v", len(stored.Spare), err)
		}
		w.Cut(0)
		eventually(t, 2*time.Minute, "it is in", func() bool { return p.Tokens().Use == fresh && other.see(p.id()).State == StateAlive })
	})
}

func TestAPeerThatTheTokenIsKeptFromDoesNotBringBackAnOldOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newNetwork(t, 2)
		fresh := newToken(t)
		old := another(t, fresh)
		out := start(t, w.Hosts[0], Config{Token: old, Name: "p"})
		p := given(t, w, 1, 1, Tokens{Use: fresh, Past: [][]byte{old.hint()}, Without: []uuid.UUID{out.id()}}, old)
		if p.Tokens().Use != fresh || len(p.others()) > 0 {
			t.Error("a host that was shut out of the mesh has taken this one along")
		}
	})
}
