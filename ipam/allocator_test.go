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

// memory is a Store that can be told to fail.
type memory struct {
	mu   sync.Mutex
	data map[string]Write
	fail error
	lost error // what Load fails with
}

func (m *memory) Commit(ws []Write) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail != nil {
		return m.fail
	}
	for _, w := range ws {
		if m.data[w.Bucket+string(w.Key)] = w; w.Value == nil {
			delete(m.data, w.Bucket+string(w.Key))
		}
	}
	return nil
}

func (m *memory) Load() ([]Write, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.lost != nil {
		return nil, m.lost
	}
	var out []Write
	for _, w := range m.data {
		out = append(out, w)
	}
	return out, nil
}

// hub is a Network that delivers at once, each message in a goroutine.
type hub struct {
	mu    sync.Mutex
	peers map[uuid.UUID]*Allocator
	deaf  map[uuid.UUID]bool
	wg    sync.WaitGroup
}

type port struct {
	hub  *hub
	self uuid.UUID
}

func (p port) Send(to uuid.UUID, msg []byte) {
	p.hub.mu.Lock()
	a, deaf := p.hub.peers[to], p.hub.deaf[to]
	p.hub.mu.Unlock()
	if a != nil && !deaf {
		p.hub.wg.Go(func() { _ = a.Receive(p.self, msg) })
	}
}

func (p port) Broadcast(delta []byte) {
	p.hub.mu.Lock()
	defer p.hub.mu.Unlock()
	for id, a := range p.hub.peers {
		if id != p.self && !p.hub.deaf[id] {
			p.hub.wg.Go(func() { _, _ = a.Merge(delta) })
		}
	}
}

func (p port) Moved(_, _ []netip.Prefix) {}

func (p port) Donors() map[uuid.UUID]int {
	p.hub.mu.Lock()
	defer p.hub.mu.Unlock()
	out := map[uuid.UUID]int{}
	for id, a := range p.hub.peers {
		if id != p.self {
			out[id] = a.Status().FreeBlocks
		}
	}
	return out
}

func (h *hub) add(t *testing.T, n byte, rng string) (*Allocator, *memory) {
	t.Helper()
	m := &memory{data: map[string]Write{}}
	prefix := netip.MustParsePrefix(rng)
	a, err := NewAllocator(Config{peer(n), prefix, DefaultBlockBits(prefix)}, m, port{h, peer(n)}, uint64(n)<<32)
	if err != nil {
		t.Fatal(err)
	}
	h.mu.Lock()
	h.peers[peer(n)] = a
	h.mu.Unlock()
	return a, m
}

func (h *hub) deafen(id uuid.UUID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.deaf[id] = true
}

func newHub(t *testing.T) *hub {
	h := &hub{peers: map[uuid.UUID]*Allocator{}, deaf: map[uuid.UUID]bool{}}
	t.Cleanup(h.wg.Wait)
	return h
}

func TestNewcomerAsksForItsShareAndThenForMore(t *testing.T) {
	h := newHub(t)
	a, _ := h.add(t, 1, "10.0.0.0/26") // 16 blocks of four
	if err := a.Found(); err != nil {
		t.Fatal(err)
	}
	b, _ := h.add(t, 2, "10.0.0.0/26")
	seen := map[netip.Addr]bool{}
	for i := 0; ; i++ {
		addr, err := b.Allocate(t.Context(), "c"+strconv.Itoa(i))
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

func TestDeadlineNamesWhoDoesNotAnswer(t *testing.T) {
	h := newHub(t)
	a, _ := h.add(t, 1, "10.0.0.0/26")
	if err := a.Found(); err != nil {
		t.Fatal(err)
	}
	b, _ := h.add(t, 2, "10.0.0.0/26")
	h.deafen(peer(1))
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := b.Allocate(ctx, "c")
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
	m.fail = errors.New("disk full")
	if _, err := a.Allocate(t.Context(), "c"); !errors.Is(err, m.fail) {
		t.Fatalf("allocation without a store: %v", err)
	}
	m.fail = nil
	if got := a.Allocations(); len(got) != 0 {
		t.Errorf("after the failure %v is allocated", got)
	}
	if addr, err := a.Allocate(t.Context(), "c"); err != nil || addr.String() != "10.0.0.1" {
		t.Errorf("next: %v, %v; want the first address", addr, err)
	}
}

func TestNothingIsDoneUntilWhatWasCommittedCanBeReadAgain(t *testing.T) {
	h := newHub(t)
	a, m := h.add(t, 1, "10.0.0.0/26")
	if err := a.Found(); err != nil {
		t.Fatal(err)
	}
	m.fail, m.lost = errors.New("disk full"), errors.New("disk gone")
	if _, err := a.Allocate(t.Context(), "c"); !errors.Is(err, m.fail) || !errors.Is(err, m.lost) {
		t.Fatalf("allocation without a store: %v", err)
	}
	m.fail = nil
	if _, err := a.Allocate(t.Context(), "c"); !errors.Is(err, m.lost) {
		t.Errorf("allocation on what may not be durable: %v", err)
	}
	if a.State() != nil {
		t.Error("a state that may not be durable is shown to others")
	}
	m.lost = nil
	if addr, err := a.Allocate(t.Context(), "c"); err != nil || addr.String() != "10.0.0.1" {
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
			if _, err := b.Allocate(t.Context(), "c"+strconv.Itoa(i)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if p := a.Prefixes(peer(1)); len(p) != 1 || p[0].String() != "10.0.0.0/17" {
		t.Errorf("the founder keeps %v; want half of the range", p)
	}
}

func TestAnswersThatNobodyAskedForAreNotKept(t *testing.T) {
	h := newHub(t)
	a, _ := h.add(t, 1, "10.0.0.0/26")
	evil := newCore(t, peer(2), "10.0.0.0/26", a.cfg.BlockBits)
	for nonce := range uint64(100) {
		if err := a.Receive(peer(2), evil.refuse(peer(1), nonce, "no").Send[0].Body); err != nil {
			t.Fatal(err)
		}
	}
	if len(a.questions) != 0 {
		t.Errorf("%d answers are kept", len(a.questions))
	}
}

func TestHandOverPassesASilentHeirBy(t *testing.T) {
	h := newHub(t)
	a, _ := h.add(t, 1, "10.0.0.0/26")
	if err := a.Found(); err != nil {
		t.Fatal(err)
	}
	h.add(t, 2, "10.0.0.0/26")
	c, _ := h.add(t, 3, "10.0.0.0/26")
	h.deafen(peer(2))
	heir, err := a.HandOver(t.Context(), []uuid.UUID{peer(2), peer(3)})
	if err != nil || heir != peer(3) || len(c.Prefixes(peer(3))) != 1 {
		t.Errorf("HandOver = %v, %v; peer 3 has %v", heir, err, c.Prefixes(peer(3)))
	}
	h.deafen(peer(1))
	if _, err := c.HandOver(t.Context(), []uuid.UUID{peer(1), peer(2)}); err == nil {
		t.Error("silent heirs took something")
	}
	if p := c.Prefixes(peer(3)); len(p) != 1 {
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
				addr, err := who.Allocate(t.Context(), "c")
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
