package daemon

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/uuid"

	"github.com/weft-net/weft/internal/store"
	"github.com/weft-net/weft/ipam"
)

// nobody is the network of a peer that is alone.
type nobody struct{}

func (nobody) Send(uuid.UUID, []byte)    {}
func (nobody) Broadcast([]byte)          {}
func (nobody) Live() map[uuid.UUID]bool  { return nil }
func (nobody) Donors() map[uuid.UUID]int { return nil }
func (nobody) Moved(ipam.Moved)          {}

// inMemory is a plan's store that forgets everything.
type inMemory struct{}

func (inMemory) Commit([]ipam.Record) error   { return nil }
func (inMemory) Load() ([]ipam.Record, error) { return nil, nil }

func founded(t testing.TB, s ipam.Store) *ipam.Allocator {
	t.Helper()
	cfg := ipam.Config{Peer: uuid.UUID{1}, Mesh: uuid.UUID{2}, Range: netip.MustParsePrefix("10.0.0.0/8"), BlockBits: 26}
	a, err := ipam.NewAllocator(cfg, s, nobody{}, rand.Uint64())
	if err == nil {
		err = a.Found()
	}
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func onDisk(t testing.TB) planStore {
	t.Helper()
	s, err := store.Open(t.TempDir(), true)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return planStore{s}
}

// TestAddressIsNeverHeldTwiceAtOnce checks what many callers at once saw, by
// the order in which calls began and ended: whoever has an address has got it
// after its last holder began to give it back.
func TestAddressIsNeverHeldTwiceAtOnce(t *testing.T) {
	a := founded(t, onDisk(t))
	part := netip.MustParsePrefix("10.7.0.0/28") // few, so that they are used again and again
	var clock atomic.Int64
	type hold struct{ from, to int64 }
	var mu sync.Mutex
	held := map[netip.Addr][]hold{}
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			owner := fmt.Sprintf("c%d", i)
			for range 60 {
				addr, err := a.Allocate(t.Context(), owner, part)
				got := clock.Add(1)
				if err != nil {
					t.Error(err)
					return
				}
				gives := clock.Add(1)
				if err := a.Release(owner, addr); err != nil {
					t.Error(err)
				}
				mu.Lock()
				held[addr] = append(held[addr], hold{got, gives})
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	n := 0
	for addr, list := range held {
		for i, x := range list {
			for _, y := range list[:i] {
				if x.from < y.to && y.from < x.to {
					t.Errorf("%s was held from %d to %d and from %d to %d", addr, x.from, x.to, y.from, y.to)
				}
			}
		}
		n += len(list)
	}
	if n != 8*60 || len(held) > 14 {
		t.Errorf("%d holds of %d addresses", n, len(held))
	}
}

func TestEveryAnsweredAllocationIsThereAfterARestart(t *testing.T) {
	disk := onDisk(t)
	a := founded(t, disk)
	want := map[netip.Addr]bool{}
	for range 50 {
		addr, err := a.Allocate(t.Context(), "c", netip.MustParsePrefix("10.0.0.0/8"))
		if err != nil {
			t.Fatal(err)
		}
		want[addr] = true
	}
	again, err := ipam.NewAllocator(ipam.Config{Peer: uuid.UUID{1}, Mesh: uuid.UUID{2}, Range: netip.MustParsePrefix("10.0.0.0/8"), BlockBits: 26}, disk, nobody{}, 7)
	if err != nil {
		t.Fatal(err)
	}
	for _, al := range again.Allocations() {
		delete(want, al.Addr)
	}
	if len(want) > 0 {
		t.Errorf("%d answered allocations are lost", len(want))
	}
}

// BenchmarkAllocate compares an allocation that is durable before it is
// answered with one that is not.
func BenchmarkAllocate(b *testing.B) {
	for name, s := range map[string]ipam.Store{"durable": onDisk(b), "in memory": inMemory{}} {
		b.Run(name, func(b *testing.B) {
			a := founded(b, s)
			for b.Loop() {
				if _, err := a.Allocate(b.Context(), "c", netip.MustParsePrefix("10.0.0.0/8")); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
