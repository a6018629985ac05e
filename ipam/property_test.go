package ipam

import (
	"maps"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/weft-net/weft/ipam/council"
)

func anyRows(t *rapid.T) []Row {
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Row {
		first := rapid.IntRange(0, 15).Draw(t, "first")
		return Row{first, rapid.IntRange(1, 16-first).Draw(t, "count"), Register{
			Epoch: rapid.Uint64Range(1, 2).Draw(t, "epoch"), Version: rapid.Uint64Range(1, 3).Draw(t, "version"),
			Owner: peerID(rapid.IntRange(1, 3).Draw(t, "owner")), From: peerID(rapid.IntRange(0, 2).Draw(t, "from")),
		}}
	}), 1, 8).Draw(t, "rows")
}

// merged is the table after lists of rows.
func merged(t *rapid.T, lists ...[]Row) table {
	c, err := New(Config{peerID(1), simMesh, netip.MustParsePrefix("10.0.0.0/26"), 30}, nil, 1)
	if err != nil {
		t.Fatal(err)
	}
	knowAll(c)
	for _, rows := range lists {
		c.merge(rows)
		if err := checkTable(c.table); err != nil {
			t.Fatal(err)
		}
		for i := range c.table[1:] {
			if c.table[i].Register == c.table[i+1].Register {
				t.Fatalf("rows %d and %d are the same register", i, i+1)
			}
		}
	}
	return c.table
}

// knowAll makes the owners of anyRows known: rows of others are not taken in.
func knowAll(c *Core) {
	for n := 1; n <= 3; n++ {
		c.members[peerID(n)] = council.Member{Peer: peerID(n)}
	}
}

func TestMergeIsCommutativeAssociativeAndIdempotent(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b, c := anyRows(t), anyRows(t), anyRows(t)
		want := merged(t, a, b, c)
		for name, got := range map[string]table{
			"c b a":           merged(t, c, b, a),
			"b a c":           merged(t, b, a, c),
			"a b c a b":       merged(t, a, b, c, a, b),
			"(a and b) c":     merged(t, append(slices.Clone(a), b...), c),
			"reversed (a) bc": merged(t, reversed(a), b, c),
			"a table of bc":   merged(t, a, merged(t, b, c)[:]),
		} {
			if name == "a table of bc" && got[0].Owner == uuid.Nil && want[0].Owner != uuid.Nil {
				t.Fatal("an unowned block took the place of an owned one")
			}
			if !slices.Equal(got, want) {
				t.Fatalf("%s is %v; a b c is %v", name, got, want)
			}
		}
	})
}

func reversed(rows []Row) []Row {
	out := slices.Clone(rows)
	slices.Reverse(out)
	return out
}

func TestSpansOfAMergeAreCoveredOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c, _ := New(Config{peerID(1), simMesh, netip.MustParsePrefix("10.0.0.0/26"), 30}, nil, 1)
		knowAll(c)
		c.merge(anyRows(t))
		for n := range 4 {
			covered := map[int]int{}
			for _, p := range c.prefixes(c.table.owned(peerID(n))) {
				if p != p.Masked() {
					t.Fatalf("prefix %s has host bits", p)
				}
				for b := range c.blocks() {
					if p.Contains(c.addr(b * c.blockSize())) {
						covered[b]++
					}
				}
			}
			for b := range c.blocks() {
				if want := c.table.at(b).Owner == peerID(n); covered[b] > 1 || want != (covered[b] == 1) {
					t.Fatalf("block %d of %d is covered %d times", b, n, covered[b])
				}
			}
		}
	})
}

// anyCommand is one of a few members, voters and estates.
func anyCommand(t *rapid.T, members []council.Member) council.Command {
	one := rapid.SampledFrom(members)
	cmd := council.Command{Kind: council.Kind(rapid.IntRange(0, 5).Draw(t, "kind")), ID: one.Draw(t, "id").ID(), Member: one.Draw(t, "member")}
	for _, m := range rapid.SliceOfN(one, 0, 3).Draw(t, "voters") {
		cmd.Voters = append(cmd.Voters, m.ID())
	}
	slices.SortFunc(cmd.Voters, compareIDs)
	cmd.Voters = slices.Compact(cmd.Voters)
	cmd.Estate.Base = rapid.Uint64Range(0, 12).Draw(t, "base")
	for range rapid.IntRange(0, 3).Draw(t, "shares") {
		cmd.Estate.Shares = append(cmd.Estate.Shares, council.Share{First: rapid.Uint32Range(0, 15).Draw(t, "first"), Count: 1, Heir: one.Draw(t, "heir").ID()})
	}
	return cmd
}

// TestDecisionsDependOnNothingButThemselves also shows that a State is a value:
// what was decided later does not change one of before.
func TestDecisionsDependOnNothingButThemselves(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		founder := council.Member{Peer: peerID(1), Nonce: 1}
		members := []council.Member{founder}
		for n := 2; n < 6; n++ {
			members = append(members, council.Member{Peer: peerID(n), Nonce: uint64(n), Sponsor: members[(n-2)/2].ID()})
		}
		s, other := council.Found(simMesh, founder), council.Found(simMesh, founder)
		var before []council.State
		var encoded [][]byte
		for index := uint64(2); index < 14; index++ {
			cmd := anyCommand(t, members)
			before, encoded = append(before, s), append(encoded, council.EncodeState(s))
			var ok, okOther bool
			s, ok = s.Apply(index, cmd)
			if other, okOther = other.Apply(index, cmd); ok != okOther || !slices.Equal(council.EncodeState(s), council.EncodeState(other)) {
				t.Fatalf("%+v is decided in two ways", cmd)
			}
			again, err := council.DecodeState(council.EncodeState(s))
			if err != nil || !slices.Equal(council.EncodeState(again), council.EncodeState(s)) {
				t.Fatalf("it is read again as another: %v", err)
			}
			for _, v := range s.Voters {
				if !s.IsAdmitted(v) {
					t.Fatalf("voter %s is no member", v)
				}
			}
			for id := range maps.Keys(before[len(before)-1].Sealed) {
				if _, still := s.Sealed[id]; !still {
					t.Fatal("a seal was undone")
				}
			}
		}
		for i, b := range before {
			if !slices.Equal(council.EncodeState(b), encoded[i]) {
				t.Fatalf("the state of %d was changed", i)
			}
		}
	})
}

func TestBooksMergeToTheLatest(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := newSmall(t)
		c, n := s.founder("10.0.0.0/26", 30), s.add(2, "10.0.0.0/26", 30)
		s.join(n, c)
		var books []book
		for v := range uint64(4) {
			books = append(books, book{owner: n.self, version: v + 1, leases: []lease{{Addr: c.addr(int(v) + 1), Holder: c.self, Token: v}}})
		}
		for _, i := range rapid.SliceOfN(rapid.IntRange(0, 3), 1, 10).Draw(t, "order") {
			most := max(c.books[n.self].version, books[i].version)
			c.mergeBook(books[i])
			if got := c.books[n.self]; got.version != most || got.leases[0].Token != most-1 {
				t.Fatalf("the book is of version %d; want %d", got.version, most)
			}
		}
		mine := book{owner: c.self, version: 99}
		if c.mergeBook(mine); c.books[c.self].version == 99 {
			t.Fatal("another wrote our book")
		}
	})
}

// TestCountsOfWhatIsUsedFollowFromWhatIsHeld drives one core through random
// operations of its users and of one who holds leases of it.
func TestCountsOfWhatIsUsedFollowFromWhatIsHeld(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := newSmall(t)
		c, n := s.founder("10.0.0.0/26", 30), s.add(2, "10.0.0.0/26", 30)
		s.join(n, c)
		some := rapid.Custom(func(t *rapid.T) netip.Addr {
			return c.addr(rapid.IntRange(0, c.blocks()*c.blockSize()-1).Draw(t, "offset"))
		})
		t.Repeat(map[string]func(*rapid.T){
			"": func(t *rapid.T) { checkUse(t, c); checkUse(t, n) },
			"allocate": func(t *rapid.T) {
				free, ok := lowest(c)
				a, e, err := c.Allocate("c")
				if (err == nil) != ok || ok && a != free {
					t.Fatalf("it gives %s, %v; the lowest free one is %s", a, err, free)
				}
				s.do(c, e)
			},
			"claim": func(t *rapid.T) {
				if e, err := c.Claim("c", some.Draw(t, "address")); err == nil {
					s.do(c, e)
				}
			},
			"claim from afar": func(t *rapid.T) {
				if e, err := n.Claim("n", some.Draw(t, "address")); err == nil {
					s.do(n, e)
				}
			},
			"release": func(t *rapid.T) { s.do(c, c.Release("c", some.Draw(t, "address"))) },
			"release from afar": func(t *rapid.T) {
				if all := n.Allocations(); len(all) > 0 {
					s.do(n, n.Release("n", rapid.SampledFrom(all).Draw(t, "held").Addr))
				}
			},
			"request": func(t *rapid.T) { s.request(n, c, 1) },
		})
	})
}

// lowest is the lowest address that may be given.
func lowest(c *Core) (netip.Addr, bool) {
	for o := 1; o < c.blocks()*c.blockSize()-1; o++ {
		a := c.addr(o)
		if _, held := c.held[a]; !held && c.ownsBlock(c.blockOf(a)) && !c.isLeasedOut(a) {
			return a, true
		}
	}
	return netip.Addr{}, false
}

// checkUse recounts what is used, and finds what is held without a right.
func checkUse(t *rapid.T, c *Core) {
	counted := maps.Clone(c.used)
	low := c.low
	c.recount()
	c.low = low
	if !maps.Equal(counted, c.used) {
		t.Fatalf("used is %v; counted anew it is %v", counted, c.used)
	}
	for a, h := range c.held {
		switch {
		case c.reserved(c.offset(a)):
			t.Fatalf("%s is reserved, and held", a)
		case h.use == useOwn && (!c.ownsBlock(c.blockOf(a)) || c.isLeasedOut(a)):
			t.Fatalf("%s is used, and not ours or leased to another", a)
		case h.use == useLeased && c.ownsBlock(c.blockOf(a)):
			t.Fatalf("%s of our own is held as a lease", a)
		}
	}
}
