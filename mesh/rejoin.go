package mesh

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/google/uuid"
)

// Back-off of the attempts to reach a host that does not answer.
const (
	firstWait = time.Second
	lastWait  = time.Minute
)

// attempt is what is known of an address that is to be reached.
type attempt struct {
	target bool      // was told to this host; it is tried for ever
	peer   uuid.UUID // who answered there last
	err    string    // "" after success
	wait   time.Duration
	next   time.Time
}

// Target is a host that this one was told to join.
type Target struct {
	Addr      string
	Connected bool
	LastError string
	NextTry   time.Time
}

// Targets are the hosts that this one was told to join, by address.
func (m *Mesh) Targets() []Target {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []Target
	for _, addr := range slices.Sorted(maps.Keys(m.targets)) {
		if a := m.targets[addr]; a.target {
			_, up := m.alive[a.peer]
			t := Target{Addr: addr, Connected: up || a.peer == m.cfg.Identity.ID, LastError: a.err}
			if !t.Connected {
				t.NextTry = a.next
			}
			out = append(out, t)
		}
	}
	return out
}

func withPort(target string, port uint16) string {
	if _, _, err := net.SplitHostPort(target); err == nil {
		return target
	}
	return net.JoinHostPort(target, strconv.Itoa(int(port)))
}

// missing are the addresses to try: targets and remembered peers that are not
// members, but for those whose time has not come and peers that have left.
func (m *Mesh) missing(now time.Time, all bool) []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	for id, r := range m.records {
		_, up := m.alive[id]
		if up || r.Body.Departed || id == m.cfg.Identity.ID {
			continue
		}
		for _, ap := range r.Body.Gossip {
			if a := m.targets[ap.String()]; a == nil {
				m.targets[ap.String()] = &attempt{peer: id}
			} else if a.peer == uuid.Nil {
				a.peer = id
			}
		}
	}
	var out []string
	for addr, a := range m.targets {
		_, up := m.alive[a.peer]
		switch {
		case up || a.peer == m.cfg.Identity.ID:
			a.wait, a.next = 0, time.Time{} // next time it is missed at once
		case a.peer != uuid.Nil && m.records[a.peer].Body.Departed:
		case all || !now.Before(a.next):
			out = append(out, addr)
		}
	}
	slices.Sort(out)
	return out
}

// Join tries every target and every remembered peer once, all at the same
// time, and returns how many answered. It fails only if there were any and
// none did.
func (m *Mesh) Join(ctx context.Context) (int, error) {
	addrs := m.missing(time.Now(), true)
	errs := make([]error, len(addrs))
	var wg sync.WaitGroup
	for i, addr := range addrs {
		wg.Go(func() { errs[i] = m.try(ctx, addr) })
	}
	wg.Wait()
	n := 0
	for _, err := range errs {
		if err == nil {
			n++
		}
	}
	if n == 0 && len(addrs) > 0 {
		return 0, errors.Join(errs...)
	}
	m.settle(ctx) // what the peers said of themselves and the others is known now
	return n, nil
}

// try greets one address and joins the mesh through it.
func (m *Mesh) try(ctx context.Context, addr string) error {
	w, err := Hello(ctx, addr, m.cfg.Token, HelloSelf{ID: m.cfg.Identity.ID, Name: m.cfg.Name, Advertise: m.cfg.Advertise, Settings: m.cfg.Settings})
	var refused *RefusedError
	if errors.As(err, &refused) && refused.Code == CodeSelf {
		w.ID, err = m.cfg.Identity.ID, nil
	} else if err == nil {
		if _, jerr := m.list.Join([]string{addr}); jerr != nil {
			err = fmt.Errorf("join through %s: %w", addr, jerr)
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	a := m.targets[addr]
	if a == nil {
		return err
	}
	if err == nil {
		a.peer, a.err, a.wait = w.ID, "", 0
		return nil
	}
	if a.err != err.Error() && a.target {
		m.log.Warn("cannot join", "target", addr, "err", err)
	}
	a.err = err.Error()
	a.wait = min(max(2*a.wait, firstWait), lastWait)
	// Jitter keeps hosts that lost each other at the same moment apart.
	a.next = time.Now().Add(a.wait/2 + rand.N(a.wait))
	return err
}

// rejoin heals partitions: it tries again, ever more rarely and for ever.
func (m *Mesh) rejoin() {
	tick := time.NewTicker(firstWait)
	defer tick.Stop()
	for {
		select {
		case <-m.ctx.Done():
			return
		case now := <-tick.C:
			var wg sync.WaitGroup
			for _, addr := range m.missing(now, false) {
				wg.Go(func() { _ = m.try(m.ctx, addr) }) // kept in the attempt
			}
			wg.Wait()
		}
	}
}
