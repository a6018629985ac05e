package ipam

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
)

func TestNewcomerAsksForItsShareAndThenForMore(t *testing.T) {
	h := newHub(t)
	a, _ := h.add(t, 1, "10.0.0.0/26") // 16 blocks of four
	if err := a.Found(); err != nil {
		t.Fatal(err)
	}
	b, _ := h.add(t, 2, "10.0.0.0/26")
	seen := map[netip.Addr]bool{}
	for i := 0; ; i++ {
		addr, err := b.Allocate(t.Context(), "c"+strconv.Itoa(i), b.cfg.Range)
		if errors.Is(err, ErrExhausted) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if seen[addr] {
			t.Fatalf("%s was given twice", addr)
		}
		seen[addr] = true
	}
	// The founder uses nothing, and keeps no more than its last block.
	if len(seen) < 64-4-2 {
		t.Errorf("%d addresses were to be had of 64", len(seen))
	}
}

func TestFounderThatHearsOfTheOthersFirstWaitsForTheOneWhoCanGiveItsShare(t *testing.T) {
	h := newHub(t)
	var founders []*Allocator
	for i := range 4 {
		a, _ := h.add(t, byte(i+1), "10.0.0.0/26") // 16 blocks of four
		a.SetShare(4)
		founders = append(founders, a)
	}
	joined := func(a *Allocator) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := a.lodge(ctx); err != nil {
			t.Fatal(err)
		}
	}
	last := founders[3]
	last.SetIdle(true)
	if err := founders[0].Found(); err != nil {
		t.Fatal(err)
	}
	h.exchange()
	joined(founders[1])
	joined(founders[2])
	h.exchange()
	h.hide(peer(1), true)
	last.SetIdle(false)
	for range 20 {
		if look(last, (*Core).Lodged) {
			t.Fatal("it did not wait for the one that can give its share")
		}
		time.Sleep(5 * time.Millisecond)
	}
	h.hide(peer(1), false)
	joined(last)
	for _, m := range founders[0].Status().Members {
		if m.Blocks != 4 {
			t.Errorf("peer %s has %d blocks of 16", m.Peer, m.Blocks)
		}
	}
}

func TestDeadlineNamesWhoDoesNotAnswer(t *testing.T) {
	h := newHub(t)
	a, _ := h.add(t, 1, "10.0.0.0/26")
	b, _ := h.add(t, 2, "10.0.0.0/26")
	b.SetIdle(true) // or it had a share of its own before peer 1 is deaf
	if err := a.Found(); err != nil {
		t.Fatal(err)
	}
	h.exchange()
	for look(b, func(c *Core) bool { return c.view.Index == 0 }) {
		time.Sleep(time.Millisecond)
	}
	h.deafen(peer(1))
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := b.Allocate(ctx, "c", b.cfg.Range)
	var space *SpaceError
	if !errors.As(err, &space) || !errors.Is(err, context.DeadlineExceeded) || len(space.Asked) != 1 || space.Asked[0].By != peer(1) {
		t.Errorf("error %v; want one that names peer 1", err)
	}
}

func TestFailedCommitChangesNothing(t *testing.T) {
	h := newHub(t)
	a, m := h.add(t, 1, "10.0.0.0/26")
	if err := a.Found(); err != nil {
		t.Fatal(err)
	}
	full := errors.New("disk full")
	m.set(full, nil)
	if _, err := a.Allocate(t.Context(), "c", a.cfg.Range); !errors.Is(err, full) {
		t.Fatalf("allocation without a store: %v", err)
	}
	m.set(nil, nil)
	if got := a.Allocations(); len(got) != 0 {
		t.Errorf("after the failure %v is allocated", got)
	}
	if addr, err := a.Allocate(t.Context(), "c", a.cfg.Range); err != nil || addr.String() != "10.0.0.1" {
		t.Errorf("next: %v, %v; want the first address", addr, err)
	}
}

func TestNothingIsDoneUntilWhatWasCommittedCanBeReadAgain(t *testing.T) {
	h := newHub(t)
	a, m := h.add(t, 1, "10.0.0.0/26")
	if err := a.Found(); err != nil {
		t.Fatal(err)
	}
	full, gone := errors.New("disk full"), errors.New("disk gone")
	m.set(full, gone)
	if _, err := a.Allocate(t.Context(), "c", a.cfg.Range); !errors.Is(err, gone) {
		t.Fatalf("allocation without a store: %v", err)
	}
	m.set(nil, gone)
	if _, err := a.Allocate(t.Context(), "c", a.cfg.Range); !errors.Is(err, gone) {
		t.Errorf("allocation on what may not be durable: %v", err)
	}
	if a.State() != nil {
		t.Error("a state that may not be durable is shown to others")
	}
	m.set(nil, nil)
	if addr, err := a.Allocate(t.Context(), "c", a.cfg.Range); err != nil || addr.String() != "10.0.0.1" {
		t.Errorf("when the disk is back: %v, %v", addr, err)
	}
}

func TestFirstContainersOfANewcomerAllAtOnceGetOneShare(t *testing.T) {
	h := newHub(t)
	a, _ := h.add(t, 1, "10.0.0.0/16")
	if err := a.Found(); err != nil {
		t.Fatal(err)
	}
	b, _ := h.add(t, 2, "10.0.0.0/16")
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			if _, err := b.Allocate(t.Context(), "c"+strconv.Itoa(i), b.cfg.Range); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if p := a.Prefixes(peer(1)); len(p) != 1 || p[0].String() != "10.0.0.0/17" {
		t.Errorf("the founder keeps %v; want half of the range", p)
	}
}

func TestHandOverPassesASilentHeirBy(t *testing.T) {
	h := newHub(t)
	a, _ := h.add(t, 1, "10.0.0.0/26")
	if err := a.Found(); err != nil {
		t.Fatal(err)
	}
	b, _ := h.add(t, 2, "10.0.0.0/26")
	c, _ := h.add(t, 3, "10.0.0.0/26")
	prime(t, b, c)
	h.deafen(peer(2))
	heir, err := a.HandOver(t.Context(), []uuid.UUID{peer(2), peer(3)})
	if err != nil || heir != peer(3) || len(a.Prefixes(peer(1))) != 0 {
		t.Errorf("HandOver = %v, %v; peer 3 has %v", heir, err, c.Prefixes(peer(3)))
	}
	h.deafen(peer(1))
	before := c.Prefixes(peer(3))
	if _, err := c.HandOver(t.Context(), []uuid.UUID{peer(1), peer(2)}); err == nil {
		t.Error("silent heirs took something")
	}
	if p := c.Prefixes(peer(3)); !slices.Equal(p, before) {
		t.Errorf("after a hand-over that nobody took, %v is left", p)
	}
}

func TestHandOverWaitsForTheHeir(t *testing.T) {
	h := newHub(t)
	a, _ := h.add(t, 1, "10.0.0.0/26")
	if err := a.Found(); err != nil {
		t.Fatal(err)
	}
	b, _ := h.add(t, 2, "10.0.0.0/26")
	prime(t, b)
	heir, err := a.HandOver(t.Context(), []uuid.UUID{peer(2)})
	if err != nil || heir != peer(2) {
		t.Fatalf("HandOver = %v, %v", heir, err)
	}
	if p := b.Prefixes(peer(2)); len(p) != 1 || p[0].String() != "10.0.0.0/26" {
		t.Errorf("the heir owns %v", p)
	}
}

func TestConcurrentCallersNeverGetTheSameAddress(t *testing.T) {
	h := newHub(t)
	a, _ := h.add(t, 1, "10.0.0.0/20")
	if err := a.Found(); err != nil {
		t.Fatal(err)
	}
	b, _ := h.add(t, 2, "10.0.0.0/20")
	var mu sync.Mutex
	var got []netip.Addr
	var wg sync.WaitGroup
	for i := range 16 {
		who := []*Allocator{a, b}[i%2]
		wg.Go(func() {
			for j := range 50 {
				addr, err := who.Allocate(t.Context(), "c", who.cfg.Range)
				if err != nil {
					t.Error(err)
					return
				}
				if j%5 == 0 {
					if err := who.Release("c", addr); err != nil {
						t.Error(err)
					}
					continue
				}
				mu.Lock()
				got = append(got, addr)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	slices.SortFunc(got, netip.Addr.Compare)
	if n := len(slices.Compact(slices.Clone(got))); n != len(got) {
		t.Errorf("%d addresses were given twice", len(got)-n)
	}
}

// peer is a peer's id in the mesh.
func peer(n byte) uuid.UUID { return uuid.UUID{15: n} }

// prime waits until all are members with space of their own.
func prime(t *testing.T, list ...*Allocator) {
	t.Helper()
	for _, a := range list {
		if err := a.Prime(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAddressOfAnotherPeerIsGivenRefusedOrNotAnswered(t *testing.T) {
	h := newHub(t)
	a, _ := h.add(t, 1, "10.0.0.0/26")
	if err := a.Found(); err != nil {
		t.Fatal(err)
	}
	b, _ := h.add(t, 2, "10.0.0.0/26")
	prime(t, b)
	taken, err := a.Allocate(t.Context(), "c", a.cfg.Range)
	if err != nil {
		t.Fatal(err)
	}
	var elsewhere *ElsewhereError
	if err := b.Claim(t.Context(), "d", taken); !errors.As(err, &elsewhere) || elsewhere.Reason == "" || elsewhere.Peer != peer(1) {
		t.Errorf("claim of an address in use: %v", err)
	}
	if err := b.Claim(t.Context(), "d", taken.Next()); err != nil {
		t.Errorf("claim of a free address: %v", err)
	}
	if ok, _ := b.Held("d", taken.Next()); !ok {
		t.Error("what was claimed may not be used")
	}
	h.deafen(peer(1))
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := b.Claim(ctx, "e", taken.Next().Next()); !errors.As(err, &elsewhere) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("claim that nobody answers: %v", err)
	}
	if n := len(b.Allocations()); n != 1 {
		t.Errorf("after a claim that was given up %d addresses are held", n)
	}
}

func TestRemovedPeersSpaceIsInheritedByTheOthers(t *testing.T) {
	h := newHub(t)
	a, _ := h.add(t, 1, "10.0.0.0/26")
	if err := a.Found(); err != nil {
		t.Fatal(err)
	}
	b, _ := h.add(t, 2, "10.0.0.0/26")
	c, _ := h.add(t, 3, "10.0.0.0/26")
	prime(t, b, c)
	for len(b.Status().Members) < 3 && t.Context().Err() == nil {
		time.Sleep(10 * time.Millisecond) // it hears of who was let in at the same time
	}
	h.deafen(peer(3))
	if err := b.Remove(t.Context(), peer(3)); err != nil {
		t.Fatal(err)
	}
	blocks := 0
	for _, s := range a.Status().Members {
		if s.Peer != peer(3) {
			blocks += s.Blocks
		}
	}
	if s := a.Status(); blocks != s.Blocks || len(s.Pending) != 0 {
		t.Errorf("the others have %d of %d blocks", blocks, s.Blocks)
	}
	if err := b.Remove(t.Context(), peer(3)); err != nil {
		t.Errorf("a second removal: %v", err)
	}
	if err := b.ShutOut(t.Context(), peer(3)); err != nil || !b.Knows(peer(3)) || b.Knows(peer(9)) {
		t.Errorf("shutting out who was removed: %v; or it is not known who ever was a member", err)
	}
	if err := b.Remove(t.Context(), peer(9)); !errors.Is(err, ErrUnknownPeer) {
		t.Errorf("removal of a peer that never was: %v", err)
	}
}
