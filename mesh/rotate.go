package mesh

import (
	"bytes"
	"context"
	"crypto/ecdh"
	"crypto/hkdf"
	crand "crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/google/uuid"
	"golang.org/x/crypto/nacl/box"
)

// The token is changed while everything runs. Who makes a new one says in its
// record that it holds it; the others ask one of those that do, and are given it
// sealed for them alone, since whoever had the old token can read along. What
// follows is turn's.

// tokenChannel is the name under which peers ask for a token and are given it.
const tokenChannel = "weft token"

const (
	turnEvery = 250 * time.Millisecond
	askEvery  = 2 * time.Second  // again, for a token that did not come
	keepEvery = 10 * time.Second // again, for one that could not be kept
	// answerTime is how long who was asked for a token may take.
	answerTime = 30 * time.Second
)

type tokenMessage struct {
	Ask     bool        `cbor:"1,keyasint,omitempty"`
	Epoch   uint64      `cbor:"2,keyasint,omitempty"`
	Sealed  []byte      `cbor:"3,keyasint,omitempty"` // the token, for its receiver alone
	Without []uuid.UUID `cbor:"4,keyasint,omitempty"` // the peers that it is kept from
}

// sealKey is the key with which secrets are sealed for this peer (X25519); it
// follows from the identity.
func (i Identity) sealKey() *ecdh.PrivateKey {
	seed, err := hkdf.Key(sha256.New, i.Key.Seed(), nil, "weft seal", 32)
	if err == nil {
		var key *ecdh.PrivateKey
		if key, err = ecdh.X25519().NewPrivateKey(seed); err == nil {
			return key
		}
	}
	panic(err) // only for lengths that there are not
}

// Tokens are those that this peer holds now.
func (m *Mesh) Tokens() Tokens {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.turn.Tokens
}

// RotateError says who holds up a change of the token, which goes on by itself
// once they answer.
type RotateError struct{ Waiting []uuid.UUID }

func (e *RotateError) Error() string {
	return fmt.Sprintf("the new token waits for %d peers", len(e.Waiting))
}

// ErrRotating refuses a change of the token while another is under way that is as
// good.
var ErrRotating = errors.New("the token is being changed already")

// Rotate makes a new token and returns when every peer that answers uses it and
// no other: from then on the old one lets nobody in. Those that did not answer
// meanwhile are returned: they need the new one by hand. It is kept from the peers
// without, who are out of the mesh by it. A change that is under way and gives the new
// token to one of these is begun anew without them, and so is this one if another
// peer's takes its place. The error is ErrRotating, a *RotateError, or of the store.
func (m *Mesh) Rotate(ctx context.Context, without ...uuid.UUID) (away []uuid.UUID, err error) {
	m.mu.Lock()
	var epoch uint64
	switch {
	case !m.turn.underWay():
		epoch, err = m.beginChange(without)
	case len(without) == 0:
		err = ErrRotating
	default:
		_, epoch = m.turn.newest() // it is begun anew below if that takes it
	}
	m.mu.Unlock()
	tick := time.NewTicker(turnEvery)
	defer tick.Stop()
	for err == nil {
		m.mu.Lock()
		missing, away := m.behind(m.turn.standing())
		done := m.turn.Epoch >= epoch && !m.turn.underWay()
		if !m.turn.keptFrom(without) {
			done = false
			epoch, err = m.beginChange(slices.Concat(m.turn.Without, without))
		}
		m.mu.Unlock()
		if done {
			return away, nil
		}
		select {
		case <-ctx.Done():
			return nil, &RotateError{missing}
		case <-m.ctx.Done():
			return nil, m.ctx.Err()
		case <-tick.C:
		}
	}
	return nil, err
}

// beginChange makes a new token that is kept from some peers, and returns its epoch. mu is
// held.
func (m *Mesh) beginChange(without []uuid.UUID) (epoch uint64, err error) {
	without = slices.SortedFunc(slices.Values(without), func(a, b uuid.UUID) int { return bytes.Compare(a[:], b[:]) })
	without = slices.Compact(without)
	if len(without) > maxWithout {
		return 0, fmt.Errorf("keep a new token from %d peers: %d are the most at a time", len(without), maxWithout)
	}
	tok, err := NewToken()
	if err != nil {
		return 0, err
	}
	tok.MeshID = m.turn.Use.MeshID
	if err := m.turned(func(t *turn) bool { t.begin(tok, without); return true }); err != nil {
		return 0, err
	}
	_, epoch = m.turn.newest()
	m.log.Info("the token is being changed", "epoch", epoch)
	return epoch, nil
}

// behind are the live peers that hold up a change, since they do not hold the newest
// token, or do not use it once all hold it, and those that do not answer at all. mu is
// held.
func (m *Mesh) behind(mine Standing) (missing, away []uuid.UUID) {
	for id, r := range m.records {
		switch {
		case id == m.cfg.Identity.ID, r.Body.Departed, !m.mayHold(id), m.isGone(id):
		case m.members[id] == nil:
			away = append(away, id)
		case r.Body.Token.Held != mine.Held || m.turn.Next == nil && r.Body.Token.Used != mine.Held || !bytes.Equal(r.Body.Token.Hash, mine.Hash):
			missing = append(missing, id)
		}
	}
	return missing, away
}

// mayHold tells whether a peer may be given the new token, and is waited for. mu
// is held.
func (m *Mesh) mayHold(id uuid.UUID) bool { return !slices.Contains(m.turn.Without, id) }

// turned changes the tokens: durably first, then for the gossip, then for all to
// see. mu is held.
func (m *Mesh) turned(change func(*turn) bool) error {
	next := m.turn
	if !change(&next) {
		m.turn.settledSince = next.settledSince
		return nil
	}
	if !bytes.Equal(next.bytes(), m.turn.bytes()) {
		if m.cfg.KeepTokens != nil {
			if err := m.cfg.KeepTokens(next.Tokens); err != nil {
				return fmt.Errorf("keep the new token: %w", err)
			}
		}
		if err := m.rekey(next.Tokens); err != nil {
			return err
		}
		m.turnFails = ""
	}
	m.turn, m.offered = next, true
	select {
	case m.retold <- struct{}{}:
	default:
	}
	return nil
}

// rekey makes the gossip's keys follow the tokens.
func (m *Mesh) rekey(t Tokens) error {
	var want [][]byte
	for _, tok := range t.all() {
		want = append(want, tok.derive("gossip"))
	}
	for _, key := range want {
		if err := m.keyring.AddKey(key); err != nil {
			return fmt.Errorf("use a new gossip key: %w", err)
		}
	}
	if err := m.keyring.UseKey(want[0]); err != nil {
		return fmt.Errorf("use a new gossip key: %w", err)
	}
	for _, key := range m.keyring.GetKeys() {
		if !slices.ContainsFunc(want, func(k []byte) bool { return bytes.Equal(k, key) }) {
			if err := m.keyring.RemoveKey(key); err != nil {
				return fmt.Errorf("forget an old gossip key: %w", err)
			}
		}
	}
	return nil
}

// rotate goes on with changes of the token until the mesh ends.
func (m *Mesh) rotate() {
	tick := time.NewTicker(turnEvery)
	defer tick.Stop()
	var asked time.Time
	for {
		select {
		case <-m.ctx.Done():
			return
		case <-m.retold:
			m.retell()
		case now := <-tick.C:
			if to := m.turnOn(now, now.Sub(asked) >= askEvery); to != uuid.Nil {
				asked = now
				m.Send(to, tokenChannel, encode(tokenMessage{Ask: true}))
			}
		}
	}
}

// noteOffer notes if a peer says that it holds a token that this one has to have.
// mu is held.
func (m *Mesh) noteOffer(r *Record) { m.offered = m.offered || m.turn.wants(r.Body.Token) }

// turnOn goes on as far as the others have, and returns whom to ask for a token,
// if one is to be asked for.
func (m *Mesh) turnOn(now time.Time, mayAsk bool) (ask uuid.UUID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.offered && !m.turn.underWay() || now.Before(m.turnAgain) {
		return uuid.Nil
	}
	var others []Standing
	var holders []uuid.UUID
	for id := range m.members {
		if !m.mayHold(id) {
			continue
		}
		s := m.records.of(id).Body.Token
		others = append(others, s)
		if !m.removed[id] && m.turn.wants(s) {
			holders = append(holders, id)
		}
	}
	switch {
	case len(holders) == 0:
		m.offered = false
	case mayAsk:
		ask = holders[rand.IntN(len(holders))]
		maps.DeleteFunc(m.tokenAsked, func(_ uuid.UUID, at time.Time) bool { return now.Sub(at) > answerTime })
		m.tokenAsked[ask] = now
		return ask
	}
	m.noteTurn(now, m.turned(func(t *turn) bool { return t.step(now, others) }))
	return uuid.Nil
}

// noteTurn tells if a change does not go on, once for each reason until tokens are kept
// again, and has it wait a while before it is tried again. mu is held.
func (m *Mesh) noteTurn(now time.Time, err error) {
	if err == nil {
		return
	}
	if why := err.Error(); why != m.turnFails {
		m.turnFails = why
		m.log.Error("the change of the token does not go on", "err", err)
	}
	m.turnAgain = now.Add(keepEvery)
}

// retell puts into this peer's record how far it is.
func (m *Mesh) retell() {
	m.mu.Lock()
	told := m.records.of(m.cfg.Identity.ID).Version > 0
	m.mu.Unlock()
	if !told {
		return
	}
	if err := m.publish(func(own Body) Body { return own }); err != nil {
		m.log.Error("cannot tell of the new token", "err", err)
	}
}

// receiveToken answers a peer that asks for the token, or takes the answer.
func (m *Mesh) receiveToken(from uuid.UUID, data []byte) error {
	var msg tokenMessage
	if err := decoder.Unmarshal(data, &msg); err != nil {
		return fmt.Errorf("message about the token: %w", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if !msg.Ask {
		return m.takeToken(from, msg)
	}
	body := m.records.of(from).Body
	if !m.mayHold(from) || body.Departed || len(body.SealKey) != 32 {
		return fmt.Errorf("peer %s asks for the token and may not have it", from)
	}
	tok, epoch := m.turn.newest()
	sealed, err := box.SealAnonymous(nil, []byte(tok.String()), (*[32]byte)(body.SealKey), crand.Reader)
	if err != nil {
		return fmt.Errorf("seal the token: %w", err)
	}
	if n := m.nodeLocked(from); n != nil {
		m.post(n, directMessage(m.cfg.Token.MeshID, m.cfg.Identity, from, m.Advertise(), tokenChannel, encode(tokenMessage{Epoch: epoch, Sealed: sealed, Without: m.turn.Without})))
	}
	return nil
}

// takeToken takes a token that this peer has asked another for: one that it is given
// unasked could be of somebody who is being shut out, and would undo that. mu is held.
func (m *Mesh) takeToken(from uuid.UUID, msg tokenMessage) error {
	asked, ok := m.tokenAsked[from]
	if !ok || time.Since(asked) > answerTime || m.removed[from] || !m.mayHold(from) {
		return fmt.Errorf("peer %s gives a token, and was not asked or may not", from)
	}
	b, ok := openSealed(m.cfg.Identity.sealKey(), msg.Sealed)
	if !ok {
		return errors.New("a token that is not sealed for this peer")
	}
	tok, err := ParseToken(string(b))
	if err != nil {
		return err
	}
	if len(msg.Without) > maxWithout || msg.Epoch > maxVersion {
		return fmt.Errorf("token %d, which is kept from %d peers: %w", msg.Epoch, len(msg.Without), errOversized)
	}
	m.noteTurn(time.Now(), m.turned(func(t *turn) bool { return t.take(tok, msg.Epoch, msg.Without) }))
	return nil
}

func openSealed(key *ecdh.PrivateKey, sealed []byte) ([]byte, bool) {
	return box.OpenAnonymous(nil, sealed, (*[32]byte)(key.PublicKey().Bytes()), (*[32]byte)(key.Bytes()))
}

// isOutdated tells that a token, with which a peer says hello, is not used any more,
// and the peer is not known: it would be heard here, and understand no answer, and the
// old token would be kept for it.
func (m *Mesh) isOutdated(tok Token, id uuid.UUID) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Contains(m.turn.Old, tok) && m.records.of(id).Version == 0
}
