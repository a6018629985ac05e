package mesh

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"
)

// lookEvery is how often what a target leads to is looked up again.
const lookEvery = 30 * time.Second

// target is what is known of a target of the user's.
type target struct {
	addrs []string // that it led to when it was last looked up; kept while it cannot be
	err   string   // of the last look-up
	next  time.Time
}

// Target is a host, or a list of hosts, that this one was told to join.
type Target struct {
	Target    string      // as it was given
	Addrs     []string    // that it leads to
	Connected bool        // a peer at one of them is here
	Peers     []uuid.UUID // those that are, in the order of Addrs
	LastError string      // of the latest attempt; "" if it succeeded or there was none
	NextTry   time.Time
}

// SetTargets makes the targets be exactly these, and has what is new tried at
// once. It fails, and changes nothing, if one of them cannot be a target.
func (m *Mesh) SetTargets(targets []string) error {
	if err := m.takeTargets(targets); err != nil {
		return err
	}
	select {
	case m.look <- struct{}{}:
	default:
	}
	m.poke()
	return nil
}

func (m *Mesh) takeTargets(targets []string) error {
	for _, t := range targets {
		if err := CheckTarget(t); err != nil {
			return err
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, t := range targets {
		if m.targets[t] == nil {
			m.targets[t] = &target{}
		}
	}
	maps.DeleteFunc(m.targets, func(t string, _ *target) bool { return !slices.Contains(targets, t) })
	m.retarget()
	for addr := range m.wanted() {
		// Who left may have made room for another host, which the user means.
		if a := m.attempts[addr]; m.records.of(a.peer).Body.Departed {
			*a = attempt{}
		}
	}
	return nil
}

// retarget makes the attempts follow what the targets lead to. mu is held.
func (m *Mesh) retarget() {
	wanted := m.wanted()
	for addr := range wanted {
		if m.attempts[addr] == nil {
			m.attempts[addr] = &attempt{}
			m.changes.Add(1) // who is there may be known
		}
	}
	maps.DeleteFunc(m.attempts, func(addr string, a *attempt) bool {
		_, remembered := m.records[a.peer]
		return !wanted[addr] && !remembered
	})
}

// wanted are the addresses that targets lead to. mu is held.
func (m *Mesh) wanted() map[string]bool {
	out := map[string]bool{}
	for _, t := range m.targets {
		for _, addr := range t.addrs {
			out[addr] = true
		}
	}
	return out
}

// lookUp finds out where the targets lead to whose time has come, or all.
func (m *Mesh) lookUp(ctx context.Context, all bool) {
	m.mu.Lock()
	now, finder := time.Now(), Finder{Token: m.turn.Use, Port: m.Advertise().Port()}
	var due []string
	for name, t := range m.targets {
		if all || !now.Before(t.next) {
			due, t.next = append(due, name), now.Add(lookEvery)
		}
	}
	m.mu.Unlock()
	for _, at := range m.inside() {
		finder.Own = append(finder.Own, at.Addr())
	}
	var wg sync.WaitGroup
	for _, name := range due {
		wg.Go(func() {
			addrs, err := finder.Lookup(ctx, name)
			m.mu.Lock()
			defer m.mu.Unlock()
			t := m.targets[name]
			switch {
			case t == nil || ctx.Err() != nil:
			case err != nil:
				if t.err != err.Error() {
					m.log.Warn("cannot look up a target", "target", name, "err", err)
				}
				t.err = err.Error()
			default:
				t.addrs, t.err = addrs, ""
			}
		})
	}
	wg.Wait()
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(due) > 0 {
		m.retarget()
	}
}

// follow looks the targets up again and again. It does not hold rejoin up, which
// looks for known peers, too.
func (m *Mesh) follow() {
	tick := time.NewTicker(firstWait)
	defer tick.Stop()
	for {
		select {
		case <-m.ctx.Done():
			return
		case <-m.look:
		case <-tick.C:
		}
		m.lookUp(m.ctx, false)
	}
}

// Targets are the hosts that this one was told to join, in order.
func (m *Mesh) Targets() []Target {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []Target
	for _, name := range slices.Sorted(maps.Keys(m.targets)) {
		t := m.targets[name]
		shown := Target{Target: name, Addrs: slices.Clone(t.addrs), LastError: t.err}
		if len(t.addrs) == 0 {
			shown.NextTry = t.next // it is looked up again
		}
		for _, addr := range t.addrs {
			if a := m.attempts[addr]; a != nil { // else another target is still being looked up
				m.showAttempt(&shown, a)
			}
		}
		if shown.Connected {
			shown.LastError, shown.NextTry = t.err, time.Time{}
		}
		out = append(out, shown)
	}
	return out
}

// showAttempt adds to a target what became of one of its addresses. mu is held.
func (m *Mesh) showAttempt(t *Target, a *attempt) {
	switch {
	case m.members[a.peer] != nil || a.peer == m.cfg.Identity.ID:
		t.Connected = true
		if !slices.Contains(t.Peers, a.peer) {
			t.Peers = append(t.Peers, a.peer)
		}
	case m.records.of(a.peer).Body.Departed:
		t.LastError = "the peer there has left the mesh"
	default:
		if a.err != "" {
			t.LastError = a.err
		}
		if t.NextTry.IsZero() || a.next.Before(t.NextTry) {
			t.NextTry = a.next
		}
	}
}
