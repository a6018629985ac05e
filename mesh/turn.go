package mesh

import (
	"bytes"
	"crypto/sha256"
	"slices"
	"time"

	"github.com/google/uuid"
)

// Tokens are those that a peer holds: one that it uses, and while the token of
// the mesh is changed another. They are what has to be durable of a change.
type Tokens struct {
	Use   Token
	Epoch uint64 // of Use: how often the token has been changed, as far as this peer knows
	// Next is held and not used yet. Old are understood until everybody uses the newest:
	// this peer used them, or has said that it holds them, so that others may use them.
	Next *Token
	Old  []Token
	// Without are the peers that the newest token is kept from.
	Without []uuid.UUID
	// Past are hints of tokens that are not used any more.
	Past [][]byte
	// Spare are tokens of which one may be the mesh's instead of Use, which was given
	// by hand and which no peer has accepted yet.
	Spare []Token
}

// maxWithout bounds Without: each is in everybody's record.
const maxWithout = 64

// Standing is what a peer tells the others of its tokens.
type Standing struct {
	Held uint64 `cbor:"1,keyasint,omitempty"` // epoch of the newest that it holds
	Used uint64 `cbor:"2,keyasint,omitempty"` // epoch of the one that it uses
	Hash []byte `cbor:"3,keyasint,omitempty"` // tells tokens of one epoch apart; says nothing of the secret
	// Without are the peers that it is kept from.
	Without []uuid.UUID `cbor:"4,keyasint,omitempty"`
}

// oldTime is how long an old token is understood after everybody has said that
// it uses the new one: what is on its way still arrives.
const oldTime = 5 * time.Second

// settledSince is since when everybody has used the new token. The methods of
// turn are the rules of a change, without clock or network: everybody that can be
// reached holds the new token before anybody uses it, and everybody uses it
// before anybody forgets the old one.
type turn struct {
	Tokens
	settledSince time.Time
}

func (t Token) standHash(epoch uint64) []byte {
	sum := sha256.Sum256(append(t.derive("standing"), byte(epoch)))
	return sum[:8]
}

// newest is the latest token that is held, and its epoch.
func (t *Tokens) newest() (Token, uint64) {
	if t.Next != nil {
		return *t.Next, t.Epoch + 1
	}
	return t.Use, t.Epoch
}

func (t *Tokens) standing() Standing {
	tok, epoch := t.newest()
	return Standing{Held: epoch, Used: t.Epoch, Hash: tok.standHash(epoch), Without: t.Without}
}

// all are the tokens that are understood, the one that is used first.
func (t *Tokens) all() []Token {
	out := []Token{t.Use}
	if t.Next != nil {
		out = append(out, *t.Next)
	}
	return append(out, t.Old...)
}

// wants tells whether another peer holds a token that this one has to have. Of
// two that were made at the same time the one with the smaller hash stays.
func (t *Tokens) wants(theirs Standing) bool {
	_, held := t.newest()
	switch {
	case theirs.Held != held:
		return theirs.Held > held
	case t.Next == nil:
		return false
	}
	return len(theirs.Hash) > 0 && bytes.Compare(theirs.Hash, t.standing().Hash) < 0
}

// keptFrom tells whether the newest token is kept from all of these peers.
func (t *Tokens) keptFrom(peers []uuid.UUID) bool {
	return !slices.ContainsFunc(peers, func(id uuid.UUID) bool { return !slices.Contains(t.Without, id) })
}

// underWay tells whether a change is.
func (t *Tokens) underWay() bool { return t.Next != nil || len(t.Old) > 0 }

// take is given a token by another peer, and tells whether it changes anything.
func (t *turn) take(tok Token, epoch uint64, without []uuid.UUID) bool {
	theirs := Standing{Held: epoch, Hash: tok.standHash(epoch)}
	if tok.MeshID != t.Use.MeshID || !t.wants(theirs) {
		return false
	}
	t.Without = without
	t.putOff()
	t.Epoch = epoch
	if tok != t.Use { // else it joined with this one, and did not know the number
		t.Next, t.Epoch = &tok, epoch-1
	}
	return true
}

// begin makes a new token the next one, in place of one that is not used yet.
func (t *turn) begin(tok Token, without []uuid.UUID) {
	_, t.Epoch = t.newest()
	t.putOff()
	t.Next, t.Without = &tok, without
}

// putOff makes the next token one that this peer will not use.
func (t *turn) putOff() {
	if t.Next != nil {
		t.Old, t.Next = t.older(*t.Next), nil
	}
}

// maxOld bounds how many tokens are understood besides those that are used.
const maxOld = 8

// older is Old with one more.
func (t *turn) older(tok Token) []Token {
	out := append(slices.Clone(t.Old), tok)
	return out[max(0, len(out)-maxOld):]
}

// use makes the next token the used one.
func (t *turn) use() {
	t.Past = t.past(t.Use)
	t.Use, t.Old, t.Next, t.Epoch = *t.Next, t.older(t.Use), nil, t.Epoch+1
	t.settledSince = time.Time{}
}

// step goes on with a change as far as the others have, and tells whether it did.
func (t *turn) step(now time.Time, others []Standing) bool {
	if !t.underWay() {
		return false
	}
	mine := t.standing()
	switch {
	case t.Next != nil:
		for _, o := range others {
			if o.Held != mine.Held || !bytes.Equal(o.Hash, mine.Hash) {
				return false
			}
		}
		t.use()
		return true
	default:
		for _, o := range others {
			if o.Used != mine.Used || !bytes.Equal(o.Hash, mine.Hash) {
				t.settledSince = time.Time{}
				return false
			}
		}
		if t.settledSince.IsZero() {
			t.settledSince = now
		}
		if now.Sub(t.settledSince) < oldTime {
			return false
		}
		t.Old = nil
		return true
	}
}

type tokensStored struct {
	Use, Next, Old string
	Epoch          uint64
	Without        []uuid.UUID
	Past           [][]byte
	// Older are those of Old but for the latest, and Spare, which an earlier weft has not.
	Older, Spare []string
}

// MarshalBinary is the tokens for the store. It holds the secrets.
func (t Tokens) MarshalBinary() ([]byte, error) { return t.bytes(), nil }

func (t Tokens) bytes() []byte {
	s := tokensStored{Use: t.Use.String(), Epoch: t.Epoch, Without: t.Without, Past: t.Past}
	if t.Next != nil {
		s.Next = t.Next.String()
	}
	s.Older, s.Spare = texts(t.Old), texts(t.Spare)
	if n := len(s.Older); n > 0 {
		s.Old, s.Older = s.Older[n-1], s.Older[:n-1]
	}
	return encode(s)
}

// UnmarshalBinary reads what MarshalBinary wrote.
func (t *Tokens) UnmarshalBinary(b []byte) (err error) {
	var s tokensStored
	if err := decoder.Unmarshal(b, &s); err != nil {
		return err
	}
	*t = Tokens{Epoch: s.Epoch, Without: s.Without, Past: s.Past}
	if t.Use, err = ParseToken(s.Use); err != nil {
		return err
	}
	if s.Next != "" {
		next, err := ParseToken(s.Next)
		if err != nil {
			return err
		}
		t.Next = &next
	}
	if s.Old != "" {
		s.Older = append(s.Older, s.Old)
	}
	if t.Old, err = parseAll(s.Older); err == nil {
		t.Spare, err = parseAll(s.Spare)
	}
	return err
}

func texts(tokens []Token) (out []string) {
	for _, tok := range tokens {
		out = append(out, tok.String())
	}
	return out
}

func parseAll(texts []string) (out []Token, err error) {
	for _, text := range texts {
		tok, err := ParseToken(text)
		if err != nil {
			return nil, err
		}
		out = append(out, tok)
	}
	return out, nil
}
