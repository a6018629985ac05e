package ipam

import (
	"bytes"
	"errors"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"
)

func peer(n byte) uuid.UUID { return uuid.UUID{15: n} }

func newCore(t testing.TB, self uuid.UUID, rng string, bits int) *Core {
	t.Helper()
	c, err := New(Config{Self: self, Range: netip.MustParsePrefix(rng), BlockBits: bits}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func founder(t testing.TB, rng string, bits int) *Core {
	t.Helper()
	c := newCore(t, peer(1), rng, bits)
	if _, err := c.Found(); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestValidateRefusesWhatCannotBeARange(t *testing.T) {
	for _, tc := range []struct {
		rng  string
		bits int
		ok   bool
	}{
		{"10.32.0.0/12", 26, true}, {"10.0.0.0/8", 28, true}, {"192.168.7.0/29", 30, true}, {"10.32.0.0/29", 29, true},
		{"10.32.0.1/12", 26, false}, {"10.0.0.0/7", 26, false}, {"10.0.0.0/30", 30, false}, {"fd00::/48", 64, false},
		{"10.32.0.0/12", 11, false}, {"10.32.0.0/12", 31, false}, {"10.0.0.0/8", 29, false}, {"224.0.0.0/12", 26, false},
		{"127.0.0.0/8", 26, false}, {"0.0.0.0/8", 26, false},
	} {
		if err := Validate(netip.MustParsePrefix(tc.rng), tc.bits); (err == nil) != tc.ok {
			t.Errorf("Validate(%s, %d) = %v; want ok=%v", tc.rng, tc.bits, err, tc.ok)
		}
	}
	if err := Validate(netip.Prefix{}, 26); err == nil {
		t.Error("the zero range is accepted")
	}
}

func TestDefaultBlockBitsFitEveryRange(t *testing.T) {
	for bits := minRangeBits; bits <= maxRangeBits; bits++ {
		rng := netip.PrefixFrom(netip.MustParseAddr("10.0.0.0"), bits)
		if err := Validate(rng, DefaultBlockBits(rng)); err != nil {
			t.Errorf("%s: %v", rng, err)
		}
	}
	if got := DefaultBlockBits(netip.MustParsePrefix("10.32.0.0/12")); got != 26 {
		t.Errorf("the /12 has blocks of /%d, want /26", got)
	}
}

func TestAllocationIsPackedLowAndSkipsReserved(t *testing.T) {
	c := founder(t, "10.32.0.0/29", 30)
	var got []string
	for {
		a, e, err := c.Allocate("c")
		if errors.Is(err, ErrNoSpace) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if len(e.Send) > 0 || e.Gossip != nil {
			t.Error("an allocation sends something")
		}
		got = append(got, a.String())
	}
	if len(got) != 6 || got[0] != "10.32.0.1" || got[5] != "10.32.0.6" {
		t.Errorf("allocated %v; want .1 to .6", got)
	}
	c.Release("c", netip.MustParseAddr("10.32.0.3"))
	if a, _, err := c.Allocate("d"); err != nil || a.String() != "10.32.0.3" {
		t.Errorf("after a release: %v, %v; want the freed address", a, err)
	}
}

func TestClaimSaysWhatIsWrong(t *testing.T) {
	c := founder(t, "10.32.0.0/12", 26)
	request(t, c, peer(2), 1)
	claim := func(owner, a string) error {
		_, err := c.Claim(owner, netip.MustParseAddr(a))
		return err
	}
	if err := claim("a", "10.32.0.9"); err != nil {
		t.Fatal(err)
	}
	if err := claim("a", "10.32.0.9"); err != nil {
		t.Errorf("the same claim again: %v", err)
	}
	for _, tc := range []struct {
		addr string
		want error
	}{
		{"10.32.0.9", ErrTaken}, {"10.31.0.9", ErrOutside}, {"10.48.0.0", ErrOutside},
		{"10.32.0.0", ErrReserved}, {"10.47.255.255", ErrReserved}, {"fd00::1", ErrOutside},
	} {
		if err := claim("b", tc.addr); !errors.Is(err, tc.want) {
			t.Errorf("claim of %s: %v; want %v", tc.addr, err, tc.want)
		}
	}
	var elsewhere *ElsewhereError
	if err := claim("b", "10.47.255.193"); !errors.As(err, &elsewhere) || elsewhere.Peer != peer(2) {
		t.Errorf("claim of another's address: %v", err)
	}
	empty := newCore(t, peer(3), "10.32.0.0/12", 26)
	if _, err := empty.Claim("b", netip.MustParseAddr("10.32.0.9")); !errors.Is(err, ErrUnowned) {
		t.Errorf("claim before founding: %v", err)
	}
}

// request lets a peer ask the core for blocks, and returns what it got.
func request(t testing.TB, c *Core, from uuid.UUID, blocks int) Effects {
	t.Helper()
	other := newCore(t, from, c.rng.String(), c.blockBits)
	ask := other.Request(c.self, blocks, 7)
	e, err := c.Receive(from, ask.Send[0].Body)
	if err != nil {
		t.Fatal(err)
	}
	got, err := other.Receive(c.self, e.Send[0].Body)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestNewcomerGetsTheUpperHalf(t *testing.T) {
	c := founder(t, "10.32.0.0/12", 26)
	if _, _, err := c.Allocate("weft:gateway"); err != nil {
		t.Fatal(err)
	}
	got := request(t, c, peer(2), 0)
	if len(got.Granted) != 1 || got.Granted[0].String() != "10.40.0.0/13" {
		t.Errorf("granted %v; want 10.40.0.0/13", got.Granted)
	}
	if p := c.Prefixes(c.self); len(p) != 1 || p[0].String() != "10.32.0.0/13" {
		t.Errorf("the founder keeps %v", p)
	}
}

func TestRepeatedRequestIsGrantedOnce(t *testing.T) {
	c := founder(t, "10.32.0.0/12", 26)
	first := request(t, c, peer(2), 0)
	second := request(t, c, peer(2), 0)
	if first.Granted[0] != second.Granted[0] || count(c.table.owned(peer(2))) != c.blocks()/2 {
		t.Errorf("granted %v, then %v", first.Granted, second.Granted)
	}
}

func TestRequestRepeatedAfterTheDonorsRestartIsGrantedOnce(t *testing.T) {
	c := founder(t, "10.32.0.0/12", 26)
	saved := map[string]Write{}
	keep := func(e Effects) {
		for _, w := range e.Writes {
			saved[w.Bucket] = w
		}
	}
	keep(Effects{Writes: []Write{c.tableWrite()}})
	ask := newCore(t, peer(2), "10.32.0.0/12", 26).Request(c.self, 0, 7)
	first, err := c.Receive(peer(2), ask.Send[0].Body)
	if err != nil {
		t.Fatal(err)
	}
	keep(first)
	again, err := New(Config{c.self, c.rng, c.blockBits}, slices.Collect(maps.Values(saved)))
	if err != nil {
		t.Fatal(err)
	}
	second, err := again.Receive(peer(2), ask.Send[0].Body)
	if err != nil || !bytes.Equal(second.Send[0].Body, first.Send[0].Body) || len(second.Writes) != 0 {
		t.Errorf("after the restart: %+v, %v; want the same grant and no new one", second, err)
	}
}

func TestBlocksAtTheStartOfTheRangeAreNeverGivenForAnothers(t *testing.T) {
	c := newCore(t, peer(1), "10.0.0.0/26", 30)
	// One block at 0 and three elsewhere: no aligned pair fits before block 1.
	c.merge([]Row{{0, 1, Register{1, 1, peer(1), uuid.Nil}}, {1, 4, Register{1, 1, peer(2), uuid.Nil}},
		{5, 3, Register{1, 1, peer(1), uuid.Nil}}})
	for _, a := range []string{"10.0.0.21", "10.0.0.25"} { // leaves only block 0 and 7
		if _, err := c.Claim("c", netip.MustParseAddr(a)); err != nil {
			t.Fatal(err)
		}
	}
	if sp, ok := c.spare(0); !ok || sp != (span{7, 1}) {
		t.Errorf("spare = %+v, %v; want block 7", sp, ok)
	}
}

func TestReasonOfARefusalIsMadePrintable(t *testing.T) {
	c := founder(t, "10.32.0.0/12", 26)
	evil := newCore(t, peer(2), "10.32.0.0/12", 26)
	e := evil.refuse(c.self, 1, "\x1b[2Jno\nspace"+strings.Repeat("!", 500))
	got, err := c.Receive(peer(2), e.Send[0].Body)
	if err != nil || got.Answer == nil || !strings.HasPrefix(got.Answer.Reason, "[2Jnospace!") || len(got.Answer.Reason) != mostReason {
		t.Errorf("%+v, %v", got.Answer, err)
	}
}

func TestOwnTableIsReadAgainHoweverManyRowsItHas(t *testing.T) {
	c := founder(t, "10.0.0.0/8", 26)
	var rows []Row
	for b := 0; b < c.blocks(); b += 2 {
		rows = append(rows, Row{b, 1, Register{1, 2, peer(2), peer(1)}})
	}
	c.merge(rows)
	if len(c.table) != c.blocks() {
		t.Fatalf("%d rows of %d blocks", len(c.table), c.blocks())
	}
	again, err := New(Config{c.self, c.rng, c.blockBits}, []Write{c.tableWrite()})
	if err != nil || !slices.Equal(again.table, c.table) {
		t.Errorf("%v", err)
	}
}

func TestPeerThatLeavesIsNobodysHeir(t *testing.T) {
	a, b := founder(t, "10.32.0.0/12", 26), newCore(t, peer(2), "10.32.0.0/12", 26)
	offer := a.Offer(b.self, 1)
	b.Offer(a.self, 1)
	e, err := b.Receive(a.self, offer.Send[0].Body)
	if err != nil {
		t.Fatal(err)
	}
	got, err := a.Receive(b.self, e.Send[0].Body)
	if err != nil || !got.Answer.Refused {
		t.Errorf("%+v, %v; want a refusal", got.Answer, err)
	}
	b.Stay()
	e, _ = b.Receive(a.self, offer.Send[0].Body)
	if got, _ := a.Receive(b.self, e.Send[0].Body); got.Answer.Refused {
		t.Error("refused by a peer that stays")
	}
}

func TestBlocksInUseAreNotGiven(t *testing.T) {
	c := founder(t, "10.32.0.0/28", 30) // four blocks of four addresses
	for _, a := range []string{"10.32.0.1", "10.32.0.5", "10.32.0.9", "10.32.0.13"} {
		if _, err := c.Claim("c", netip.MustParseAddr(a)); err != nil {
			t.Fatal(err)
		}
	}
	if got := request(t, c, peer(2), 0); got.Answer == nil || !got.Answer.Refused {
		t.Errorf("with every block in use: %+v; want a refusal", got)
	}
	c.Release("c", netip.MustParseAddr("10.32.0.9"))
	if got := request(t, c, peer(3), 0); len(got.Granted) != 1 || got.Granted[0].String() != "10.32.0.8/30" {
		t.Errorf("granted %v; want the one free block", got.Granted)
	}
}

func TestHandOverGivesEverythingAndIsRepeatable(t *testing.T) {
	c := founder(t, "10.32.0.0/12", 26)
	heir := newCore(t, peer(2), "10.32.0.0/12", 26)
	a, _, _ := c.Allocate("c")
	if _, err := c.HandOver(peer(2), 1); !errors.Is(err, ErrInUse) {
		t.Fatalf("with an address in use: %v", err)
	}
	c.Release("c", a)
	for nonce := range uint64(2) {
		e, err := c.HandOver(peer(2), nonce+1)
		if err != nil {
			t.Fatal(err)
		}
		answer, err := heir.Receive(c.self, e.Send[0].Body)
		if err != nil {
			t.Fatal(err)
		}
		back, err := c.Receive(peer(2), answer.Send[0].Body)
		if err != nil || back.Answer == nil || back.Answer.Refused || back.Answer.Nonce != nonce+1 {
			t.Fatalf("answer to hand-over %d: %+v, %v", nonce+1, back, err)
		}
	}
	if p := heir.Prefixes(peer(2)); len(p) != 1 || p[0].String() != "10.32.0.0/12" {
		t.Errorf("the heir owns %v", p)
	}
}

func TestSharesAreBalancedAndOnePrefixEach(t *testing.T) {
	const peers = 64
	cores := []*Core{founder(t, "10.32.0.0/12", 26)}
	if _, _, err := cores[0].Allocate("weft:gateway"); err != nil {
		t.Fatal(err)
	}
	for i := byte(2); i <= peers; i++ {
		free := map[uuid.UUID]int{}
		byID := map[uuid.UUID]*Core{}
		for _, c := range cores {
			free[c.self], byID[c.self] = c.Status().FreeBlocks, c
		}
		donor := byID[Donors(free)[0]]
		n := newCore(t, peer(i), "10.32.0.0/12", 26)
		if _, err := n.Merge(donor.State()); err != nil {
			t.Fatal(err)
		}
		e, _ := donor.Receive(n.self, n.Request(donor.self, 0, 1).Send[0].Body)
		if _, err := n.Receive(donor.self, e.Send[0].Body); err != nil {
			t.Fatal(err)
		}
		if _, _, err := n.Allocate("weft:gateway"); err != nil {
			t.Fatal(err)
		}
		cores = append(cores, n)
	}
	least, most := cores[0].blocks(), 0
	for _, c := range cores {
		if p := c.Prefixes(c.self); len(p) != 1 {
			t.Errorf("peer %s has %d prefixes: %v", c.self, len(p), p)
		}
		n := count(c.table.owned(c.self))
		least, most = min(least, n), max(most, n)
	}
	t.Logf("%d peers own %d to %d blocks each", peers, least, most)
	if most > 2*least {
		t.Errorf("shares are from %d to %d blocks; want at most a factor of two", least, most)
	}
}

func TestRestartKnowsWhatWasCommitted(t *testing.T) {
	c := newCore(t, peer(1), "10.32.0.0/12", 26)
	var saved []Write
	found, _ := c.Found()
	a, alloc, _ := c.Allocate("c1")
	saved = append(append(saved, found.Writes...), alloc.Writes...)
	again, err := New(Config{peer(1), c.rng, 26}, saved)
	if err != nil {
		t.Fatal(err)
	}
	if got := again.Allocations(); len(got) != 1 || got[0] != (Allocation{a, "c1"}) {
		t.Errorf("allocations after a restart: %v", got)
	}
	if b, _, err := again.Allocate("c2"); err != nil || b == a {
		t.Errorf("next address after a restart: %v, %v", b, err)
	}
	if _, err := New(Config{peer(1), netip.MustParsePrefix("10.64.0.0/12"), 26}, saved); err == nil {
		t.Error("a store for another range is accepted")
	}
}

func TestLostBlocksAreReportedAndNothingElseIsTouched(t *testing.T) {
	c := founder(t, "10.32.0.0/12", 26)
	a, _, _ := c.Allocate("c")
	rival := newCore(t, peer(9), "10.32.0.0/12", 26)
	rival.merge([]Row{{0, 1, Register{Epoch: 2, Version: 1, Owner: peer(9)}}})
	e, err := c.Merge(rival.State())
	if err != nil {
		t.Fatal(err)
	}
	if len(e.Lost) != 1 || e.Lost[0].String() != "10.32.0.0/26" {
		t.Errorf("lost %v", e.Lost)
	}
	if s := c.Status(); len(s.CutOff) != 1 || s.CutOff[0] != a || s.Peers[1].Blocks != c.blocks()-1 {
		t.Errorf("status after the loss: %+v", s)
	}
}

func BenchmarkAllocate(b *testing.B) {
	c := founder(b, "10.0.0.0/8", 26)
	for b.Loop() {
		if _, _, err := c.Allocate("c"); err != nil {
			b.Fatal(err)
		}
	}
}
