package ipam

import (
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
)

// memory is a Store that can be told to fail.
type memory struct {
	mu   sync.Mutex
	data map[string]Record
	fail error
	lost error // what Load fails with
}

func (m *memory) Commit(ws []Record) error {
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

func (m *memory) Load() ([]Record, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.lost != nil {
		return nil, m.lost
	}
	var out []Record
	for _, w := range m.data {
		out = append(out, w)
	}
	return out, nil
}

// set makes the store fail from now on.
func (m *memory) set(fail, lost error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fail, m.lost = fail, lost
}

// hub is a Network that delivers at once, each message in a goroutine.
type hub struct {
	mu    sync.Mutex
	peers map[uuid.UUID]*Allocator
	deaf  map[uuid.UUID]bool
	// hidden are peers of which others do not know yet that they live.
	hidden map[uuid.UUID]bool
	// middle is held by who is in the middle of a tick, so that none goes by
	// what was true before.
	middle sync.RWMutex
	wg     sync.WaitGroup
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

func (p port) Moved(Moved) {}

func (p port) Live() map[uuid.UUID]bool {
	p.hub.mu.Lock()
	defer p.hub.mu.Unlock()
	out := map[uuid.UUID]bool{}
	for id := range p.hub.peers {
		if id != p.self && !p.hub.deaf[id] {
			out[id] = true
		}
	}
	return out
}

func (p port) Donors() map[uuid.UUID]int {
	p.hub.mu.Lock()
	defer p.hub.mu.Unlock()
	out := map[uuid.UUID]int{}
	for id, a := range p.hub.peers {
		if id != p.self && !p.hub.hidden[id] {
			out[id] = a.Status().FreeBlocks
		}
	}
	return out
}

func (h *hub) add(t *testing.T, n byte, rng string) (*Allocator, *memory) {
	t.Helper()
	m := &memory{data: map[string]Record{}}
	prefix := netip.MustParsePrefix(rng)
	a, err := NewAllocator(Config{peer(n), simMesh, prefix, DefaultBlockBits(prefix)}, m, port{h, peer(n)}, uint64(n)<<32)
	if err != nil {
		t.Fatal(err)
	}
	h.mu.Lock()
	h.peers[peer(n)] = a
	h.mu.Unlock()
	h.exchange()
	enforce(t, a)
	h.tick(t, a)
	return a, m
}

// exchange lets all hear of all, as the gossip does where somebody comes.
func (h *hub) exchange() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for id, a := range h.peers {
		for other, b := range h.peers {
			if id != other && !h.deaf[id] && !h.deaf[other] {
				h.wg.Go(func() {
					if state := a.State(); state != nil {
						_, _ = b.Merge(state)
					}
				})
			}
		}
	}
}

// tick gives a peer its ticks until the test ends.
func (h *hub) tick(t *testing.T, a *Allocator) {
	ctx := t.Context()
	h.wg.Go(func() {
		for ctx.Err() == nil {
			h.middle.RLock()
			_ = a.Tick() // a store that fails is what some tests are about
			_ = a.Enforced(a.Fence())
			h.middle.RUnlock()
			time.Sleep(5 * time.Millisecond)
		}
	})
}

// enforce says that the data plane, which is none, follows.
func enforce(t *testing.T, a *Allocator) {
	t.Helper()
	if err := a.Enforced(a.Fence()); err != nil {
		t.Fatal(err)
	}
}

func (h *hub) hide(id uuid.UUID, hidden bool) {
	h.middle.Lock()
	defer h.middle.Unlock()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.hidden[id] = hidden
}

func (h *hub) deafen(id uuid.UUID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.deaf[id] = true
}

func newHub(t *testing.T) *hub {
	h := &hub{peers: map[uuid.UUID]*Allocator{}, deaf: map[uuid.UUID]bool{}, hidden: map[uuid.UUID]bool{}}
	t.Cleanup(h.wg.Wait)
	return h
}
