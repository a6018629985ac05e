package ipam

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/uuid"
	"pgregory.net/rapid"
)

var small = netip.MustParsePrefix("10.0.0.0/26") // 16 blocks of four addresses

func anyRows(t *rapid.T) []Row {
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Row {
		first := rapid.IntRange(0, 15).Draw(t, "first")
		return Row{first, rapid.IntRange(1, 16-first).Draw(t, "count"), Register{
			Epoch: rapid.Uint64Range(1, 2).Draw(t, "epoch"), Version: rapid.Uint64Range(1, 3).Draw(t, "version"),
			Owner: peer(rapid.ByteRange(1, 3).Draw(t, "owner")), From: peer(rapid.ByteRange(0, 2).Draw(t, "from")),
		}}
	}), 1, 8).Draw(t, "rows")
}

func merged(t *rapid.T, lists ...[]Row) []byte {
	c, err := New(Config{peer(1), small, 28}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, rows := range lists {
		for _, r := range rows {
			c.merge([]Row{r})
			checkTable(t, c)
		}
	}
	return c.State()
}

// checkTable states the invariants of a table.
func checkTable(t *rapid.T, c *Core) {
	next := 0
	for i, r := range c.table {
		if r.First != next || r.Count <= 0 {
			t.Fatalf("row %d starts at %d with %d blocks, want start %d: %v", i, r.First, r.Count, next, c.table)
		}
		if i > 0 && c.table[i-1].Register == r.Register {
			t.Fatalf("rows %d and %d are the same register", i-1, i)
		}
		next = r.First + r.Count
	}
	if next != c.blocks() {
		t.Fatalf("rows end at %d of %d", next, c.blocks())
	}
}

func TestMergeIsCommutativeAssociativeAndIdempotent(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		clip := func(rows []Row) []Row { // a /28-block table of this range has 4 blocks
			for i := range rows {
				rows[i].First %= 4
				rows[i].Count = min(rows[i].Count, 4-rows[i].First)
			}
			return rows
		}
		a, b, c := clip(anyRows(t)), clip(anyRows(t)), clip(anyRows(t))
		want := merged(t, a, b, c)
		for name, got := range map[string][]byte{
			"c b a":           merged(t, c, b, a),
			"b a c":           merged(t, b, a, c),
			"a b c a b":       merged(t, a, b, c, a, b),
			"(a and b) c":     merged(t, append(slices.Clone(a), b...), c),
			"reversed (a) bc": merged(t, reversed(a), b, c),
		} {
			if !bytes.Equal(got, want) {
				t.Fatalf("%s differs from a b c", name)
			}
		}
	})
}

func reversed(rows []Row) []Row {
	out := slices.Clone(rows)
	slices.Reverse(out)
	return out
}

// node is a peer in the storm: a core, and what it has committed.
type node struct {
	core  *Core
	saved map[string]Write
}

func (n *node) commit(e Effects) {
	for _, w := range e.Writes {
		n.saved[w.Bucket+string(w.Key)] = w
		if w.Value == nil {
			delete(n.saved, w.Bucket+string(w.Key))
		}
	}
}

// storm is a few peers on a network that loses, repeats, delays and reorders,
// and that crash.
type storm struct {
	nodes  []*node
	flying []flight
	nonce  uint64
}

type flight struct {
	from, to uuid.UUID
	msg      []byte
	gossip   bool
}

func (s *storm) apply(n *node, e Effects) {
	n.commit(e)
	for _, m := range e.Send {
		s.flying = append(s.flying, flight{n.core.self, m.To, m.Body, false})
	}
	if e.Gossip != nil {
		for _, o := range s.nodes {
			s.flying = append(s.flying, flight{n.core.self, o.core.self, e.Gossip, true})
		}
	}
}

func (s *storm) node(id uuid.UUID) *node { return s.nodes[id[15]-1] }

func (s *storm) deliver(t *rapid.T, f flight) {
	n := s.node(f.to)
	var e Effects
	var err error
	if f.gossip {
		e, err = n.core.Merge(f.msg)
	} else {
		e, err = n.core.Receive(f.from, f.msg)
	}
	if err != nil {
		t.Fatalf("deliver: %v", err)
	}
	s.apply(n, e)
}

// check states what must hold after every event.
func (s *storm) check(t *rapid.T) {
	blocks, addrs := map[int]uuid.UUID{}, map[netip.Addr]uuid.UUID{}
	for _, n := range s.nodes {
		checkTable(t, n.core)
		for _, sp := range n.core.table.owned(n.core.self) {
			for b := sp.first; b < sp.first+sp.count; b++ {
				if other, ok := blocks[b]; ok {
					t.Fatalf("block %d is used by %s and %s", b, other, n.core.self)
				}
				blocks[b] = n.core.self
			}
		}
		for a := range n.core.addrs {
			if other, ok := addrs[a]; ok {
				t.Fatalf("address %s is given by %s and %s", a, other, n.core.self)
			}
			addrs[a] = n.core.self
			if n.core.table.at(n.core.blockOf(a)).Owner != n.core.self {
				t.Fatalf("%s gave %s, which is in no block of its own", n.core.self, a)
			}
		}
	}
}

func TestNoAddressIsGivenTwiceInAnyStorm(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := &storm{}
		for i := range byte(4) {
			c, err := New(Config{peer(i + 1), small, 30}, nil)
			if err != nil {
				t.Fatal(err)
			}
			s.nodes = append(s.nodes, &node{c, map[string]Write{}})
		}
		e, err := s.nodes[0].core.Found()
		if err != nil {
			t.Fatal(err)
		}
		s.apply(s.nodes[0], e)
		some := rapid.IntRange(0, 3)
		t.Repeat(map[string]func(*rapid.T){
			"": s.check,
			"allocate": func(t *rapid.T) {
				n := s.nodes[some.Draw(t, "peer")]
				if _, e, err := n.core.Allocate("c"); err == nil {
					s.apply(n, e)
				}
			},
			"release": func(t *rapid.T) {
				n := s.nodes[some.Draw(t, "peer")]
				if all := n.core.Allocations(); len(all) > 0 {
					a := rapid.SampledFrom(all).Draw(t, "address")
					s.apply(n, n.core.Release(a.Owner, a.Addr))
				}
			},
			"request": func(t *rapid.T) {
				n, donor := s.nodes[some.Draw(t, "peer")], s.nodes[some.Draw(t, "donor")]
				s.nonce++
				if n == donor {
					return
				}
				s.apply(n, n.core.Request(donor.core.self, rapid.IntRange(0, 3).Draw(t, "blocks"), s.nonce))
			},
			"hand over": func(t *rapid.T) {
				n, heir := s.nodes[some.Draw(t, "peer")], s.nodes[some.Draw(t, "heir")]
				s.nonce++
				if n == heir {
					return
				}
				if e, err := n.core.HandOver(heir.core.self, s.nonce); err == nil {
					s.apply(n, e)
				}
			},
			"deliver": func(t *rapid.T) {
				if len(s.flying) == 0 {
					return
				}
				i := rapid.IntRange(0, len(s.flying)-1).Draw(t, "message")
				f := s.flying[i]
				if rapid.IntRange(0, 4).Draw(t, "again") > 0 { // else it stays, to be delivered again
					s.flying = slices.Delete(s.flying, i, i+1)
				}
				if rapid.IntRange(0, 5).Draw(t, "lost") > 0 {
					s.deliver(t, f)
				}
			},
			"exchange": func(t *rapid.T) {
				a, b := s.nodes[some.Draw(t, "a")], s.nodes[some.Draw(t, "b")]
				s.flying = append(s.flying, flight{a.core.self, b.core.self, a.core.State(), true})
			},
			"crash": func(t *rapid.T) {
				n := s.nodes[some.Draw(t, "peer")]
				var saved []Write
				for _, w := range n.saved {
					saved = append(saved, w)
				}
				c, err := New(Config{n.core.self, small, 30}, saved)
				if err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(c.State(), n.core.State()) || len(c.addrs) != len(n.core.addrs) {
					t.Fatalf("%s forgot something in a crash", c.self)
				}
				n.core = c
			},
		})
		s.heal(t)
	})
}

// heal lets every peer hear every other until nothing changes: then all
// tables are the same, and every block has an owner that knows it.
func (s *storm) heal(t *rapid.T) {
	s.flying = nil
	for range 2 * len(s.nodes) {
		for _, a := range s.nodes {
			for _, b := range s.nodes {
				s.deliver(t, flight{a.core.self, b.core.self, a.core.State(), true})
			}
		}
	}
	s.check(t)
	owned := 0
	for _, n := range s.nodes {
		if !bytes.Equal(n.core.State(), s.nodes[0].core.State()) {
			t.Fatalf("after healing %s and %s differ", n.core.self, s.nodes[0].core.self)
		}
		owned += count(n.core.table.owned(n.core.self))
	}
	if total := s.nodes[0].core.blocks(); owned != total {
		t.Fatalf("after healing %d of %d blocks have an owner", owned, total)
	}
}

func TestPrefixesCoverExactlyWhatIsOwned(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c, err := New(Config{peer(1), small, 30}, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range anyRows(t) {
			c.merge([]Row{r})
		}
		covered := map[int]int{}
		for _, p := range c.Prefixes(peer(1)) {
			if p != p.Masked() {
				t.Fatalf("prefix %s has host bits", p)
			}
			for b := 0; b < c.blocks(); b++ {
				if p.Contains(c.addr(b * c.blockSize())) {
					covered[b]++
				}
			}
		}
		for b := range c.blocks() {
			want := 0
			if c.table.at(b).Owner == peer(1) {
				want = 1
			}
			if covered[b] != want {
				t.Fatalf("block %d is covered %d times, want %d", b, covered[b], want)
			}
		}
	})
}

func TestOnlyOwnUnusedBlocksAreSpared(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c, err := New(Config{peer(1), small, 30}, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range anyRows(t) {
			c.merge([]Row{r})
		}
		for _, o := range rapid.SliceOf(rapid.IntRange(0, c.blocks()*c.blockSize()-1)).Draw(t, "taken") {
			_, _ = c.Claim("c", c.addr(o))
		}
		sp, ok := c.spare(rapid.IntRange(0, 20).Draw(t, "want"))
		if !ok {
			return
		}
		if sp.count < 1 || sp.count > count(c.own)/2 || sp.first%sp.count != 0 {
			t.Fatalf("spared %+v of %d blocks", sp, count(c.own))
		}
		for b := sp.first; b < sp.end(); b++ {
			if c.table.at(b).Owner != c.self || c.used[b] > 0 {
				t.Fatalf("spared %+v, where block %d is another's or in use", sp, b)
			}
		}
	})
}

func TestMinusIsWhatOnlyTheFirstHas(t *testing.T) {
	spans := rapid.Custom(func(t *rapid.T) []span {
		var out []span
		for b := range 16 {
			if rapid.Bool().Draw(t, "in") {
				out = appendSpan(out, span{b, 1})
			}
		}
		return out
	})
	has := func(spans []span, b int) bool {
		return slices.ContainsFunc(spans, func(s span) bool { return s.first <= b && b < s.end() })
	}
	rapid.Check(t, func(t *rapid.T) {
		a, b := spans.Draw(t, "a"), spans.Draw(t, "b")
		got := minus(a, b)
		for i := range 16 {
			if has(got, i) != (has(a, i) && !has(b, i)) {
				t.Fatalf("%v minus %v = %v", a, b, got)
			}
		}
	})
}

func FuzzForeignBytesAreRefusedOrMerged(f *testing.F) {
	c := newCore(f, peer(1), "10.0.0.0/26", 30)
	found, _ := c.Found()
	f.Add(found.Gossip)
	f.Add(c.Request(peer(2), 1, 3).Send[0].Body)
	f.Fuzz(func(t *testing.T, b []byte) {
		c := founder(t, "10.0.0.0/26", 30)
		if _, err := c.Merge(b); err == nil {
			next := 0
			for _, r := range c.table {
				if r.First != next {
					t.Fatalf("rows with a gap: %v", c.table)
				}
				next += r.Count
			}
		}
		_, _ = c.Receive(peer(2), b)
		_, _ = New(Config{peer(1), small, 30}, []Write{{bucketTable, nil, b}, {bucketAddrs, b, b}})
		if s := c.Status(); s.Free < 0 || s.Unowned < 0 {
			t.Fatalf("status %s", fmt.Sprint(s))
		}
	})
}
