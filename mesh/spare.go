package mesh

import (
	"context"
	"crypto/hmac"
	"errors"
	"slices"
	"time"
)

// A token that is given by hand may be the one that this peer missed, and it may be
// an old one, as a unit file has it for ever, or that of the other half of a mesh
// that was parted. The peers that answer say which is right: the hello tells who
// holds the same token. Until one has, none that this peer had is lost.

// maxPast bounds the memory of old tokens, and maxSpare that of those of which it is
// not known yet whether they are old.
const (
	maxPast  = 64
	maxSpare = 4
)

// WasUsed tells whether a token is one of those that are not used any more.
func (t Tokens) WasUsed(tok Token) bool {
	return slices.ContainsFunc(t.Past, func(h []byte) bool { return hmac.Equal(h, tok.hint()) })
}

// Renewed is these tokens with another one in use, which was given by hand. Those that
// were held are spare until a peer accepts one or the other.
func (t Tokens) Renewed(tok Token) Tokens {
	latest, _ := t.newest()
	out := Tokens{Use: tok, Epoch: t.Epoch, Without: t.Without, Past: t.Past}
	for _, had := range append([]Token{latest, t.Use}, t.Spare...) {
		if had != tok && !slices.Contains(out.Spare, had) && len(out.Spare) < maxSpare {
			out.Spare = append(out.Spare, had)
		}
	}
	return out
}

// past is Past with further tokens that are not used any more.
func (t Tokens) past(gone ...Token) [][]byte {
	out := slices.Clone(t.Past)
	for _, tok := range gone {
		if !t.WasUsed(tok) {
			out = append(out, tok.hint())
		}
	}
	return out[max(0, len(out)-maxPast):]
}

// choose makes a token that a peer accepts the one that is used, and tells whether
// that changes anything. What else was held is past, and no less usable than before
// if it is given by hand again.
func (t *turn) choose(tok Token) bool {
	gone := t.Spare
	if tok != t.Use {
		gone = append(slices.Clone(gone), t.Use)
		t.Use, t.Next, t.Old = tok, nil, nil
	} else if len(gone) == 0 {
		return false
	}
	gone = slices.DeleteFunc(slices.Clone(gone), func(g Token) bool { return g == tok })
	t.Spare, t.Past = nil, t.past(gone...)
	t.Past = slices.DeleteFunc(t.Past, func(h []byte) bool { return hmac.Equal(h, tok.hint()) })
	return true
}

// provesToken tells by a hello's outcome whether the other side holds the token. This
// host itself does, which says nothing.
func provesToken(err error) bool {
	var refused *RefusedError
	return err == nil || errors.As(err, &refused) && slices.Contains([]string{CodeSettings, CodeDeparted, CodeCopy}, refused.Code)
}

// noteAccepted notes that a peer accepts a token.
func (m *Mesh) noteAccepted(tok Token) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.accepted = m.accepted || tok == m.turn.Use
}

// trySpare is called when some addresses were tried. Once a peer accepts the token
// that is used it stays; if all that answer refuse it, it gives way to the first of the
// others that one of them accepts: the spare ones and given. It tells whether another
// one is used now.
func (m *Mesh) trySpare(ctx context.Context, tried []string, given ...Token) bool {
	m.mu.Lock()
	candidates := slices.Concat(m.turn.Spare, given)
	stays := m.accepted || len(m.members) > 0
	var refusing []string
	for _, addr := range tried {
		if a := m.attempts[addr]; a != nil && a.cause == CodeBadToken && len(refusing) < moreTries {
			refusing = append(refusing, addr)
		}
	}
	if stays && len(m.turn.Spare) > 0 {
		m.chooseToken(m.turn.Use)
	}
	m.mu.Unlock()
	if stays {
		return false
	}
	for _, tok := range candidates {
		for _, addr := range refusing {
			if w, _, err := hello(ctx, m.dial, addr, tok, m.helloSelf()); err != nil || !m.mayAccept(w) {
				continue
			}
			m.log.Warn("the token that was used is refused, and another one that this host has is accepted", "addr", addr)
			m.mu.Lock()
			defer m.mu.Unlock()
			return m.chooseToken(tok)
		}
	}
	return false
}

// mayAccept tells whether it means anything that a peer accepts a token: one that the
// newest is kept from holds an old one.
func (m *Mesh) mayAccept(w Welcome) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.mayHold(w.ID)
}

// chooseToken makes a token that is accepted the used one, tells whether it is,
// and has those tried at once who refused another one. mu is held.
func (m *Mesh) chooseToken(tok Token) bool {
	if err := m.turned(func(t *turn) bool { return t.choose(tok) }); err != nil {
		m.log.Error("a token that is accepted cannot be used", "err", err)
		return false
	}
	m.accepted = true
	for _, a := range m.attempts {
		if a.cause == CodeBadToken {
			a.wait, a.next = 0, time.Time{}
		}
	}
	return true
}
