package mesh

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"
)

const (
	// Back-off of the attempts to reach a host that does not answer.
	firstWait = time.Second
	lastWait  = time.Minute
	// A join tries few addresses first, since whoever answers tells of the others
	// and tells them of this one; then many at a time.
	firstTries = 4
	moreTries  = 64
	// triesOfAll is about how many addresses the members that are connected try in
	// a second, all of them together: one that succeeds joins two halves of a mesh,
	// and each brings the whole state. Targets of which nobody is here come on top.
	triesOfAll = 64
)

// attempt is what is known of an address that is to be reached.
type attempt struct {
	peer  uuid.UUID // who answered there last, or says that it is there
	err   string    // "" after success
	cause string    // kind of err, which is logged when it changes
	// refused is what who answered there last had against this peer; nil for nothing.
	refused *RefusedError
	wait    time.Duration
	next    time.Time
	// later tells that nobody may be there to be reached in this way: nothing waits
	// for it.
	later bool
}

// located notes under which addresses the peers say that they are reached. A
// host that was reset is another peer at the same address: members come last, so
// that none is looked for as the one who was there before. mu is held.
func (m *Mesh) located() {
	changes := m.changes.Load() + 1 // never 0
	if changes == m.locatedAt {
		return
	}
	m.locatedAt = changes
	for id, r := range m.records {
		if m.members[id] == nil && !r.Body.Departed && id != m.cfg.Identity.ID {
			m.locate(id, r)
		}
	}
	for id := range m.members {
		if r := m.records.of(id); !r.Body.Departed {
			m.locate(id, r)
		}
	}
}

// locate notes where a peer says that it is reached. mu is held.
func (m *Mesh) locate(id uuid.UUID, r *Record) {
	up := m.members[id] != nil
	note := func(addr string, later bool) {
		a := m.attempts[addr]
		switch {
		case a == nil && !up:
			m.attempts[addr] = &attempt{peer: id, later: later}
		case a == nil:
		case a.peer == uuid.Nil, m.records.of(a.peer).Body.Departed, up && m.members[a.peer] == nil, m.isGone(a.peer) && !m.isGone(id):
			a.peer = id
		}
	}
	for _, addr := range r.places.direct {
		note(addr, r.Body.Confined)
	}
	if r.places.overlay != "" && m.records.of(m.cfg.Identity.ID).Body.Gateway.IsValid() {
		note(r.places.overlay, true)
	}
}

// missing are the addresses to try: targets and remembered peers that are not
// members, but for peers that have left, and those whose time has not come or, if
// all are asked for, for which nothing waits.
func (m *Mesh) missing(now time.Time, all bool) []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.records.of(m.cfg.Identity.ID).Body.Departed {
		return nil // who has left joins nobody
	}
	m.located()
	wanted := m.wanted()
	var out []string
	for addr, a := range m.attempts {
		switch {
		case m.members[a.peer] != nil || a.peer == m.cfg.Identity.ID:
			a.wait, a.next, a.cause = 0, time.Time{}, "" // next time it is missed at once
			if !wanted[addr] {
				delete(m.attempts, addr)
			}
		case m.records.of(a.peer).Body.Departed:
		case all && !a.later && (wanted[addr] || !m.isGone(a.peer)) || !all && !now.Before(a.next):
			out = append(out, addr)
		}
	}
	slices.Sort(out)
	return out
}

// Join tries targets and remembered peers, each once and many at the same time,
// until this peer is connected, and returns how many answered. It fails only if
// there were any and none did. The rest is left to rejoin.
func (m *Mesh) Join(ctx context.Context) (int, error) {
	m.lookUp(ctx, true)
	tried, errs := m.joinOne(ctx)
	if m.trySpare(ctx, tried, m.cfg.Given...) {
		tried, errs = m.joinOne(ctx)
	}
	if len(errs) == len(tried) && len(tried) > 0 {
		return 0, errors.Join(errs...)
	}
	m.settle(ctx) // what the peers said of themselves and the others is known now
	return len(tried) - len(errs), nil
}

// joinOne tries who is missing until this peer is connected, and returns whom, and the
// errors of those that did not answer.
func (m *Mesh) joinOne(ctx context.Context) (tried []string, errs []error) {
	left, size := m.missing(time.Now(), true), firstTries
	for len(left) > 0 && m.count() == 1 && ctx.Err() == nil {
		var batch []string
		batch, left = m.inTurn(left, size)
		errs = append(errs, m.tryAll(ctx, batch)...)
		tried, size = append(tried, batch...), moreTries
	}
	return tried, errs
}

// inTurn parts the missing addresses into those whose turn it is and the rest: a
// few targets that were not tried yet, at any rate, and others at random, n in all.
func (m *Mesh) inTurn(missing []string, n int) (now, rest []string) {
	rand.Shuffle(len(missing), func(i, j int) { missing[i], missing[j] = missing[j], missing[i] })
	m.mu.Lock()
	defer m.mu.Unlock()
	wanted, fresh := m.wanted(), 0
	for i, addr := range missing {
		if a := m.attempts[addr]; wanted[addr] && a != nil && a.wait == 0 {
			missing[i], missing[fresh] = missing[fresh], missing[i]
			fresh++
		}
	}
	n = min(len(missing), max(n, min(fresh, firstTries)))
	return missing[:n], missing[n:]
}

// unanswered parts from the missing addresses those that the user's targets lead to
// where nobody there is here, as many as are tried at a time: it may be that this
// host alone knows of them, so that they do not wait for their turn among the rest.
func (m *Mesh) unanswered(missing []string) (own, rest []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	silent := map[string]bool{}
	for _, t := range m.targets {
		if !slices.ContainsFunc(t.addrs, func(addr string) bool { return m.attempts[addr] != nil && m.members[m.attempts[addr].peer] != nil }) {
			for _, addr := range t.addrs {
				silent[addr] = true
			}
		}
	}
	for _, addr := range missing {
		if silent[addr] && len(own) < moreTries {
			own = append(own, addr)
		} else {
			rest = append(rest, addr)
		}
	}
	return own, rest
}

// tryAll returns the errors of those that did not answer.
func (m *Mesh) tryAll(ctx context.Context, addrs []string) []error {
	errs := make([]error, len(addrs))
	turn := make(chan struct{}, moreTries)
	var wg sync.WaitGroup
	for i, addr := range addrs {
		turn <- struct{}{}
		wg.Go(func() {
			errs[i] = m.try(ctx, addr)
			<-turn
		})
	}
	wg.Wait()
	return slices.DeleteFunc(errs, func(err error) bool { return err == nil })
}

// try greets one address and joins the mesh through it.
func (m *Mesh) try(ctx context.Context, addr string) error {
	id, err := m.greetAndJoin(ctx, addr)
	m.mu.Lock()
	defer m.mu.Unlock()
	a := m.attempts[addr]
	if a == nil {
		return err // nobody wants to go there any more
	}
	if err == nil {
		a.peer, a.err, a.cause, a.refused, a.wait = id, "", "", nil, 0
		return nil
	}
	if id != uuid.Nil {
		a.peer = id
	}
	if ctx.Err() != nil {
		return err // says nothing of the address
	}
	if c := cause(err); a.cause != c {
		a.cause = c
		m.log.Warn("cannot join", "addr", addr, "err", err)
	}
	if a.err = err.Error(); !errors.As(err, &a.refused) {
		a.refused = nil
	}
	last := lastWait
	if m.isGone(a.peer) && !m.wanted()[addr] {
		last = lastGoneWait
	}
	a.wait = min(max(2*a.wait, firstWait), last)
	// Jitter keeps hosts that lost each other at the same moment apart.
	a.next = time.Now().Add(a.wait/2 + rand.N(a.wait/2))
	return err
}

// greetAndJoin returns who answered at an address, if anybody did.
func (m *Mesh) greetAndJoin(ctx context.Context, addr string) (uuid.UUID, error) {
	self := m.helloSelf()
	self.Back = m.asksBack()
	w, at, err := m.greet(ctx, addr, self)
	if younger, ok := m.cfg.Life.staysIn(err); ok {
		self.rival = younger.Nonce
		w, at, err = m.greet(ctx, addr, self)
	}
	if err == nil {
		m.noteBack(w)
	}
	if w.Back == backFailed {
		// What it has to say after the exchange comes by the line.
		select {
		case <-m.startLine(w.ID, []path{{WayDirect, at}}):
		case <-ctx.Done():
		}
	}
	var refused *RefusedError
	switch {
	case errors.As(err, &refused) && refused.Code == CodeSelf:
		return m.cfg.Identity.ID, nil
	case errors.As(err, &refused) && refused.Code == CodeCopy:
		if _, ok := m.cfg.Life.staysIn(err); !ok {
			m.tellCopied(err.Error())
		}
		return uuid.Nil, err
	case err != nil:
		return uuid.Nil, err
	case m.hasDeparted(w.ID):
		return w.ID, &RefusedError{Addr: addr, Code: CodeDeparted,
			Reason: fmt.Sprintf("peer %s (%s) there has left this mesh for good: run `weft reset` on that host and join anew", w.ID, w.Name)}
	}
	return w.ID, m.joinThrough(ctx, w.ID, at, addr)
}

// Rejections are what the hosts that this peer has greeted have against it, by their
// addresses, where it is alone: none while any other is a member.
func (m *Mesh) Rejections() []*RefusedError {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.members) > 0 {
		return nil
	}
	var out []*RefusedError
	for _, addr := range slices.Sorted(maps.Keys(m.attempts)) {
		if r := m.attempts[addr].refused; r != nil {
			out = append(out, r)
		}
	}
	return out
}

// joinThrough exchanges everything with a peer that has let this one in. Of several
// that were greeted at the same time one mostly knows the others: who is a member
// when it is its turn need not say all of that again.
func (m *Mesh) joinThrough(ctx context.Context, id uuid.UUID, at, addr string) error {
	select {
	case m.joining <- struct{}{}:
	case <-ctx.Done():
		return fmt.Errorf("join through %s: %w", addr, ctx.Err())
	}
	defer func() { <-m.joining }()
	if m.isUp(id) {
		return nil
	}
	if _, err := m.list.Join([]string{id.String() + "/" + at}); err != nil {
		return fmt.Errorf("join through %s: %w", addr, err)
	}
	return nil
}

// helloSelf is what this peer says of itself.
func (m *Mesh) helloSelf() HelloSelf {
	return HelloSelf{ID: m.cfg.Identity.ID, Name: m.cfg.Name, Advertise: m.Advertise(), Settings: m.cfg.Settings, Life: m.cfg.Life}
}

// greet says hello with the token that is used. Where that is not the other's any
// more, and a next one was held when the others went on without this peer, it
// goes on to that one.
func (m *Mesh) greet(ctx context.Context, addr string, self HelloSelf) (w Welcome, at string, err error) {
	t := m.Tokens()
	w, at, err = hello(ctx, m.dial, addr, t.Use, self)
	if provesToken(err) {
		m.noteAccepted(t.Use)
	}
	var refused *RefusedError
	if t.Next == nil || !errors.As(err, &refused) || refused.Code != CodeBadToken {
		return w, at, err
	}
	w, at, e := hello(ctx, m.dial, addr, *t.Next, self)
	if e != nil {
		return w, at, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return w, at, m.turned(func(now *turn) bool {
		if now.Next == nil || *now.Next != *t.Next {
			return false
		}
		now.use()
		return true
	})
}

// cause is the kind of an error; its text may differ each time.
func cause(err error) string {
	var refused *RefusedError
	var unreachable *UnreachableError
	switch {
	case errors.As(err, &refused):
		return refused.Code
	case errors.Is(err, errNotWeft):
		return "not weft"
	case errors.As(err, &unreachable):
		return "unreachable"
	}
	return "join"
}

// rejoin heals partitions: it tries again, ever more rarely and for ever. It
// also asks for the records that have been missed.
func (m *Mesh) rejoin() {
	tick := time.NewTicker(firstWait)
	defer tick.Stop()
	credit := 0.0
	for {
		select {
		case <-m.ctx.Done():
			return
		case now := <-tick.C:
			m.bury(now)
			m.forgetGone(now)
			m.askLate(now)
			credit = min(credit+triesOfAll/float64(m.count()), moreTries)
			own, missing := m.unanswered(m.missing(now, false))
			due, _ := m.inTurn(missing, int(credit))
			credit = max(0, credit-float64(len(due)))
			due = append(own, due...)
			m.tryAll(m.ctx, due) // each error is kept in its attempt
			m.trySpare(m.ctx, due)
		}
	}
}
