package ipam

import (
	"errors"
	"net/netip"
	"testing"

	"github.com/google/uuid"
)

func peerID(n int) uuid.UUID { return uuid.UUID{14: byte(n >> 8), 15: byte(n)} }

// tester is a *testing.T, *testing.B or *rapid.T.
type tester interface {
	Helper()
	Fatal(...any)
}

// small is a few cores whose messages all arrive at once.
type small struct {
	t     tester
	cores map[uuid.UUID]*Core
	last  map[uuid.UUID]Effects // of the last message that each received
	said  int                   // bytes, if they are counted
	count bool
	nonce uint64
}

func newSmall(t tester) *small {
	return &small{t: t, cores: map[uuid.UUID]*Core{}, last: map[uuid.UUID]Effects{}}
}

func (s *small) add(n int, rng string, bits int, saved ...Write) *Core {
	s.t.Helper()
	c, err := New(Config{peerID(n), simMesh, netip.MustParsePrefix(rng), bits}, saved, uint64(n)<<32|s.nonce)
	if err != nil {
		s.t.Fatal(err)
	}
	s.cores[c.cfg.Peer] = c
	s.do(c, c.Start())
	return c
}

func (s *small) founder(rng string, bits int) *Core {
	s.t.Helper()
	c := s.add(1, rng, bits)
	e, err := c.Found(1)
	s.must(err)
	s.do(c, e)
	return c
}

func (s *small) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// do delivers what an operation says, and what is said in answer. Gossip goes
// to nobody.
func (s *small) do(c *Core, e Effects) {
	s.t.Helper()
	type flight struct {
		from *Core
		m    Message
	}
	var queue []flight
	add := func(c *Core, e Effects) {
		for _, m := range e.Send {
			queue = append(queue, flight{c, m})
		}
	}
	for add(c, e); len(queue) > 0; queue = queue[1:] {
		f := queue[0]
		to := s.cores[f.m.To]
		if to == nil {
			continue
		}
		if s.count {
			s.said += len(f.from.EncodeMsg(f.m.Body))
		}
		e, err := to.Receive(f.from.cfg.Peer, f.m.Body)
		s.must(err)
		if e.Answer != nil {
			s.last[to.cfg.Peer] = e
		}
		add(to, e)
	}
}

// meet lets one hear of another's state.
func (s *small) meet(c, of *Core) {
	s.t.Helper()
	e, err := of.Merge(c.State())
	s.must(err)
	s.do(of, e)
}

// join makes a newcomer a member.
func (s *small) join(c, by *Core) Effects {
	s.t.Helper()
	s.meet(c, by)
	s.do(c, c.Enforced(c.Fence()))
	s.nonce++
	e, err := c.Join(by.cfg.Peer, 0, s.nonce, s.nonce)
	s.must(err)
	s.do(c, e)
	return s.last[c.cfg.Peer]
}

func (s *small) request(c, by *Core, blocks int) Effects {
	s.t.Helper()
	s.nonce++
	s.do(c, c.Request(by.cfg.Peer, blocks, s.nonce))
	return s.last[c.cfg.Peer]
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
	c := newSmall(t).founder("10.32.0.0/29", 30)
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

func TestAllocateInStaysWithinItsPartAndOffItsEnds(t *testing.T) {
	c := newSmall(t).founder("10.32.0.0/24", 28)
	part := netip.MustParsePrefix("10.32.0.64/29")
	for want := 65; want <= 70; want++ {
		if a, _, err := c.AllocateIn("c", part); err != nil || int(a.As4()[3]) != want {
			t.Errorf("%v, %v; want .%d", a, err, want)
		}
	}
	if _, _, err := c.AllocateIn("c", part); !errors.Is(err, ErrNoSpace) {
		t.Errorf("of a full part: %v", err)
	}
	for _, bad := range []string{"10.32.1.0/29", "10.0.0.0/8", "10.32.0.65/29"} {
		if _, _, err := c.AllocateIn("c", netip.MustParsePrefix(bad)); err == nil || errors.Is(err, ErrNoSpace) {
			t.Errorf("in %s: %v", bad, err)
		}
	}
	if a, _, err := c.Allocate("c"); err != nil || a.String() != "10.32.0.1" {
		t.Errorf("in the whole range after a part: %v, %v", a, err)
	}
}

func TestClaimSaysWhatIsWrong(t *testing.T) {
	s := newSmall(t)
	c := s.founder("10.32.0.0/12", 26)
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
	if err := claim("b\n", "10.32.0.10"); err == nil {
		t.Error("an owner that cannot be printed is accepted")
	}
	empty := s.add(3, "10.32.0.0/12", 26)
	if _, err := empty.Claim("b", netip.MustParseAddr("10.32.0.9")); !errors.Is(err, ErrUnowned) {
		t.Errorf("claim before founding: %v", err)
	}
}

func TestNewcomerGetsTheUpperHalf(t *testing.T) {
	s := newSmall(t)
	c := s.founder("10.32.0.0/12", 26)
	if _, _, err := c.Allocate("weft:gateway"); err != nil {
		t.Fatal(err)
	}
	n := s.add(2, "10.32.0.0/12", 26)
	if got := s.join(n, c); len(got.Granted) != 1 || got.Granted[0].String() != "10.40.0.0/13" {
		t.Errorf("granted %v; want 10.40.0.0/13", got.Granted)
	}
	if p := c.Prefixes(c.cfg.Peer); len(p) != 1 || p[0].String() != "10.32.0.0/13" {
		t.Errorf("the founder keeps %v", p)
	}
}

func TestRepeatedRequestIsGrantedOnceAlsoAfterARestart(t *testing.T) {
	s := newSmall(t)
	c := s.founder("10.32.0.0/12", 26)
	n := s.add(2, "10.32.0.0/12", 26)
	s.join(n, c)
	before := count(n.own)
	ask := n.Request(c.cfg.Peer, 4, 77)
	s.do(n, ask)
	first := count(n.own)
	s.do(n, ask)
	if first != before+4 || count(n.own) != first {
		t.Errorf("from %d blocks to %d to %d", before, first, count(n.own))
	}
	s.nonce++
	again := s.add(1, "10.32.0.0/12", 26, saved(t, c)...)
	s.do(n, ask)
	if count(n.own) != first || count(again.own)+first != c.blocks() {
		t.Errorf("after a restart: %d and %d blocks", count(again.own), count(n.own))
	}
}

// saved is all that a core has to have on its disk.
func saved(t testing.TB, c *Core) []Write {
	t.Helper()
	c.dirty = dirty{self: true, view: true, table: true, own: true, members: true, wards: true, grants: true, releases: true, poisoned: true}
	for a := range c.held {
		mark(&c.dirty.held, a)
	}
	for id := range c.books {
		mark(&c.dirty.books, id)
	}
	for id := range c.seen {
		mark(&c.dirty.seen, id)
	}
	for _, w := range c.disk {
		c.dirty.raft = append(c.dirty.raft, w)
	}
	var out []Write
	for _, w := range c.writes() {
		again, err := DecodeWrite(w.Bucket, w.Key, EncodeWrite(w))
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, again)
	}
	c.dirty = dirty{}
	sortWrites(out)
	return out
}

func TestBlocksInUseAreNotGiven(t *testing.T) {
	s := newSmall(t)
	c := s.founder("10.32.0.0/28", 30) // four blocks of four addresses
	for _, a := range []string{"10.32.0.1", "10.32.0.5", "10.32.0.9", "10.32.0.13"} {
		if _, err := c.Claim("c", netip.MustParseAddr(a)); err != nil {
			t.Fatal(err)
		}
	}
	n := s.add(2, "10.32.0.0/28", 30)
	if got := s.join(n, c); got.Answer == nil || !got.Answer.Refused {
		t.Errorf("with every block in use: %+v; want a refusal", got.Answer)
	}
	if !n.Lodged() {
		t.Error("who gets no space is no member")
	}
	c.Release("c", netip.MustParseAddr("10.32.0.9"))
	if got := s.request(n, c, 1); len(got.Granted) != 1 || got.Granted[0].String() != "10.32.0.8/30" {
		t.Errorf("granted %v; want the one free block", got.Granted)
	}
}

func TestHandOverGivesEverythingAndIsRepeatable(t *testing.T) {
	s := newSmall(t)
	c := s.founder("10.32.0.0/12", 26)
	heir := s.add(2, "10.32.0.0/12", 26)
	s.join(heir, c)
	a, _, _ := c.Allocate("c")
	if _, err := c.HandOver(heir.cfg.Peer, 1); !errors.Is(err, ErrInUse) {
		t.Fatalf("with an address in use: %v", err)
	}
	c.Release("c", a)
	if _, err := c.HandOver(peerID(9), 1); !errors.Is(err, ErrUnknownPeer) {
		t.Errorf("to who is no member: %v", err)
	}
	for nonce := range uint64(2) {
		e, err := c.HandOver(heir.cfg.Peer, nonce+1)
		s.must(err)
		s.do(c, e)
		if got := s.last[c.cfg.Peer].Answer; got == nil || got.Refused || got.Nonce != nonce+1 {
			t.Fatalf("answer to hand-over %d: %+v", nonce+1, got)
		}
	}
	if p := heir.Prefixes(heir.cfg.Peer); len(p) != 1 || p[0].String() != "10.32.0.0/12" {
		t.Errorf("the heir owns %v", p)
	}
}

func TestSharesAreBalancedAndOnePrefixEach(t *testing.T) {
	const peers = 64
	s := newSmall(t)
	cores := []*Core{s.founder("10.32.0.0/12", 26)}
	if _, _, err := cores[0].Allocate("weft:gateway"); err != nil {
		t.Fatal(err)
	}
	for i := 2; i <= peers; i++ {
		free := map[uuid.UUID]int{}
		for _, c := range cores {
			free[c.cfg.Peer] = c.Status().FreeBlocks
		}
		n, donor := s.add(i, "10.32.0.0/12", 26), s.cores[Donors(free)[0]]
		s.join(n, donor)
		if _, _, err := n.Allocate("weft:gateway"); err != nil {
			t.Fatal(err)
		}
		cores = append(cores, n)
	}
	least, most := cores[0].blocks(), 0
	for _, c := range cores {
		if p := c.Prefixes(c.cfg.Peer); len(p) != 1 {
			t.Errorf("peer %s has %d prefixes: %v", c.cfg.Peer, len(p), p)
		}
		least, most = min(least, count(c.own)), max(most, count(c.own))
	}
	t.Logf("%d peers own %d to %d blocks each", peers, least, most)
	if most > 2*least {
		t.Errorf("shares are from %d to %d blocks; want at most a factor of two", least, most)
	}
}

func TestRestartKnowsWhatWasCommitted(t *testing.T) {
	s := newSmall(t)
	c := s.founder("10.32.0.0/12", 26)
	a, _, _ := c.Allocate("c1")
	disk := saved(t, c)
	s.nonce++
	again := s.add(1, "10.32.0.0/12", 26, disk...)
	if got := again.Allocations(); len(got) != 1 || got[0] != (Allocation{Addr: a, Owner: "c1", Active: true}) {
		t.Errorf("allocations after a restart: %v", got)
	}
	if again.Self() != c.Self() || *again.digestNow() != *c.digestNow() {
		t.Error("it is not who it was, or knows less")
	}
	if b, _, err := again.Allocate("c2"); err != nil || b == a {
		t.Errorf("next address after a restart: %v, %v", b, err)
	}
	for name, cfg := range map[string]Config{
		"range": {peerID(1), simMesh, netip.MustParsePrefix("10.64.0.0/16"), 26}, "mesh": {peerID(1), uuid.UUID{9}, c.rng, 26},
		"peer": {peerID(2), simMesh, c.rng, 26},
	} {
		if _, err := New(cfg, disk, 9); err == nil {
			t.Errorf("the store of another %s is accepted", name)
		}
	}
}

func TestSpareNeverGivesWhatIsNotOwned(t *testing.T) {
	c := newSmall(t).founder("10.32.0.0/24", 30)
	for first := range 60 {
		for n := 1; n <= 4; n++ {
			c.own = []span{{first, n}}
			if sp, ok := c.spare(0); ok && (sp.first < first || sp.end() > first+n) {
				t.Errorf("of blocks %d+%d it gives %d+%d", first, n, sp.first, sp.count)
			}
		}
	}
}

func TestMinusLeavesWhatIsNotInTheOther(t *testing.T) {
	for _, tc := range []struct{ a, b, want []span }{
		{[]span{{0, 10}}, nil, []span{{0, 10}}},
		{[]span{{0, 10}}, []span{{0, 10}}, nil},
		{[]span{{0, 10}}, []span{{3, 2}, {7, 1}}, []span{{0, 3}, {5, 2}, {8, 2}}},
		{[]span{{2, 3}, {8, 4}}, []span{{0, 3}, {4, 6}}, []span{{3, 1}, {10, 2}}},
		{[]span{{2, 2}, {6, 2}}, []span{{0, 20}}, nil},
	} {
		got := minus(tc.a, tc.b)
		if len(got) != len(tc.want) {
			t.Errorf("%v minus %v is %v; want %v", tc.a, tc.b, got, tc.want)
			continue
		}
		for i := range got {
			if got[i] != tc.want[i] {
				t.Errorf("%v minus %v is %v; want %v", tc.a, tc.b, got, tc.want)
			}
		}
	}
}

func BenchmarkAllocate(b *testing.B) {
	c := newSmall(b).founder("10.0.0.0/8", 26)
	for b.Loop() {
		if _, _, err := c.Allocate("c"); err != nil {
			b.Fatal(err)
		}
	}
}
