package ipam

import (
	"flag"
	"math/rand/v2"
	"runtime"
	"testing"

	"github.com/google/uuid"

	"github.com/weft-net/weft/ipam/council"
)

var simSizes = flag.Bool("sim.sizes", false, "measure meshes of 1,000 and 5,000 members")

// TestStateStaysSmallAndSharesEven measures what one member of a large mesh
// keeps and says, after members joined, left and were removed.
func TestStateStaysSmallAndSharesEven(t *testing.T) {
	sizes := []int{200}
	if *simSizes {
		sizes = []int{1000, 5000}
	}
	for _, members := range sizes {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		c := churned(t, members, 3*members)
		runtime.GC()
		runtime.ReadMemStats(&after)
		sp := c.space
		digest, all := len(sp.EncodeMsg(c.State())), len(sp.EncodeMsg(c.everything()))
		owned, prefixes := map[ID]int{}, 0
		for _, id := range c.view.Members() {
			spans := c.table.owned(id)
			owned[id] = count(spans)
			prefixes += len(c.prefixes(spans))
		}
		least, most := c.blocks(), 0
		for _, n := range owned {
			least, most = min(least, n), max(most, n)
		}
		n := c.view.Members()
		t.Logf("%d members: digest %d bytes, everything %d bytes, state of the council %d bytes, memory %d KB, %d rows, %.2f prefixes and %d to %d blocks each",
			len(n), digest, all, len(council.EncodeState(c.view)), (after.HeapAlloc-before.HeapAlloc)/1024, len(c.table), float64(prefixes)/float64(len(n)), least, most)
		if digest > 2000 || prefixes > 3*len(n) {
			t.Errorf("%d members: a digest of %d bytes, %d prefixes", members, digest, prefixes)
		}
		runtime.KeepAlive(c)
	}
}

// churned is the plan of a mesh of so many members after so many events: a
// newcomer asks who has the most, one is sealed and its space inherited. All
// happens in one core's view, with what others would answer.
func churned(t testing.TB, members, events int) *Core {
	t.Helper()
	rng := rand.New(rand.NewPCG(1, 2))
	s := newSmall(t)
	c := s.founder("10.32.0.0/12", 28)
	me := c.self
	var peers []council.Member
	nonce := uint64(1)
	free := map[ID]int{me: c.blocks()}
	decide := func(cmd council.Command) {
		t.Helper()
		index := c.view.Index + 1
		if next, ok := c.view.Apply(index, cmd); ok {
			c.setView(next)
			if cmd.Kind == council.Reclaim {
				c.inherit(index, cmd.Estate)
			}
			return
		}
		t.Fatalf("%+v is void", cmd)
	}
	join := func() {
		nonce++
		var donor ID
		for id, n := range free {
			if n > free[donor] || n == free[donor] && compareIDs(id, donor) < 0 {
				donor = id
			}
		}
		m := council.Member{Peer: uuid.UUID{1: byte(nonce >> 16), 2: byte(nonce >> 8), 3: byte(nonce)}, Sponsor: me, Nonce: nonce}
		decide(council.Command{Kind: council.Admit, Member: m})
		// The upper half of the largest aligned run, as spare chooses.
		probe := Core{space: c.space, own: c.table.owned(donor), used: map[int]int{}}
		if sp, ok := probe.spare(0); ok {
			var rows []Row
			for _, r := range c.table.part(sp) {
				rows = append(rows, r.given(m.ID()))
			}
			if donor == me {
				c.give(rows)
			} else {
				c.merge(rows)
			}
			free[donor] -= sp.count
			free[m.ID()] = sp.count
		}
		peers = append(peers, m)
	}
	for range members - 1 {
		join()
	}
	for range events / 2 {
		i := rng.IntN(len(peers))
		gone := peers[i].ID()
		peers[i] = peers[len(peers)-1]
		peers = peers[:len(peers)-1]
		decide(council.Command{Kind: council.Seal, ID: gone})
		c.round = round{acks: map[ID]*Ack{}}
		estate := c.estate()
		decide(council.Command{Kind: council.Reclaim, Estate: estate})
		delete(free, gone)
		for _, sh := range estate.Shares {
			free[sh.Heir] += int(sh.Count)
		}
		join()
	}
	c.finish()
	return c
}
