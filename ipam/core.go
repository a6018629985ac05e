package ipam

import (
	"bytes"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/google/uuid"

	"github.com/weft-net/weft/ipam/council"
)

// ID of a member of the plan; see council.ID.
type ID = council.ID

// Config is what a plan is made of.
type Config struct {
	Peer      uuid.UUID // this peer, in the mesh
	Mesh      uuid.UUID
	Range     netip.Prefix
	BlockBits int
}

// Core is the plan as one peer knows it. It is not safe for concurrent use. An
// operation that fails has changed nothing.
type Core struct {
	space
	cfg   Config
	start uint64 // a number that no other start of this or another peer has
	begun uint64 // seq at this start

	// self is the member that this peer is; zero while it is none. me is what
	// it stands for.
	self ID
	me   council.Member
	// lodged: the sponsor has said that it let this member in.
	lodged bool
	// former are earlier lives of this peer that the council has not sealed yet.
	former []ID
	// seq counts what was committed.
	seq uint64
	// tokens counts the uses of addresses that one transaction may begin.
	tokens uint64

	// view is the latest state of the council that is known; Index 0 for none.
	view   council.State
	domain council.Hash
	node   *council.Node // of a voter, or one that was
	disk   map[string]council.Write

	table table
	// own is what this peer uses: it owns it by the table, and whoever gave it
	// had the right to.
	own []span
	// held is every address that is used here, or is wanted.
	held map[netip.Addr]holding
	// used counts the addresses in use of each block of ours: those held, and
	// those leased to others.
	used map[int]int
	// low: every allocatable address of our own below this offset is taken.
	low int
	// books are the leases that others, and we, have given.
	books map[ID]book
	// members are those known that the council has not admitted.
	members map[ID]council.Member
	// wards are those of members that this one sponsors.
	wards map[ID]bool
	// grants are the latest, oldest first.
	grants []grant
	// releases are to be told to the lessor until it has answered.
	releases map[netip.Addr]uint64
	seen     map[ID][]life
	// poisoned are members that are in the world more than once.
	poisoned map[ID]bool
	// removed is what Removed has returned since the last operation that changed it;
	// nil for nothing.
	removed map[uuid.UUID]bool

	volatile
	out   Effects
	news  Delta
	dirty dirty
}

// volatile is what a restart may forget.
type volatile struct {
	leaving bool
	ticks   int
	// fence counts the changes of who may send; enforced is the last one that
	// the data plane is known to follow.
	fence, enforced uint64
	// wishes are seals that this peer asks the council for: true for a member
	// that is to go whether or not it answers, false for one that does not.
	wishes map[ID]bool
	live   map[uuid.UUID]bool // as of the last tick: peers that answer; true if they may decide
	up     map[ID]int         // ticks that a member has been live, negative for down
	round  round
	// sealing are members that somebody lately asked this peer, as the leader,
	// to seal: the tick at which. ledSince is the last tick at which it did not
	// lead.
	sealing  map[ID]int
	ledSince int
	lags     int // ticks that this peer has led by a log that is behind
	// heard are wards that know that they are let in. Nobody is behind one that
	// never heard of it, and the council must not count on it.
	heard map[ID]bool
	// unadmitted are the peers of members that were shut out before they were admitted:
	// the council knows such a one by its id alone.
	unadmitted map[uuid.UUID]bool
	asked      map[netip.Addr]int // the tick at which a wanted address was claimed last
	// said counts the messages of this start, and counts is the most that was
	// heard of others': of two copies of a running process one is behind.
	said   uint64
	counts map[ID]said
}

func (cfg Config) space() space { return space{cfg.Range, cfg.BlockBits} }

// New returns the plan with what was committed before. The start is any number
// that was never used before. Errors: those of Validate, ErrForeign, ErrNewer,
// ErrCorrupt.
func New(cfg Config, saved []Write, start uint64) (*Core, error) {
	if err := Validate(cfg.Range, cfg.BlockBits); err != nil {
		return nil, err
	}
	if cfg.Peer == uuid.Nil || cfg.Mesh == uuid.Nil {
		return nil, fmt.Errorf("new address plan: the peer or the mesh has no id")
	}
	c := &Core{
		space: cfg.space(), cfg: cfg, start: start, disk: map[string]council.Write{},
		held: map[netip.Addr]holding{}, used: map[int]int{}, books: map[ID]book{}, members: map[ID]council.Member{},
		wards: map[ID]bool{}, releases: map[netip.Addr]uint64{}, seen: map[ID][]life{}, poisoned: map[ID]bool{},
	}
	c.wishes, c.sealing = map[ID]bool{}, map[ID]int{}
	c.up, c.heard, c.asked = map[ID]int{}, map[ID]bool{}, map[netip.Addr]int{}
	c.counts, c.unadmitted = map[ID]said{}, map[uuid.UUID]bool{}
	c.fence = 1
	c.table = newTable(c.blocks())
	var disk council.Disk
	for _, w := range saved {
		if err := c.load(w, &disk); err != nil {
			return nil, err
		}
	}
	if err := c.loaded(disk); err != nil {
		return nil, err
	}
	return c, nil
}

// Start makes this start known to the disk; it is the first operation.
func (c *Core) Start() Effects {
	c.begun = c.seq + 1
	c.dirty.self = true
	c.afterCouncil()
	return c.finish()
}

// Found makes this peer the first member of a mesh and the owner of the whole
// range. It fails if anything is known of the mesh already.
func (c *Core) Found(nonce uint64) (Effects, error) {
	if c.view.Index != 0 || len(c.table) != 1 || c.table[0].Owner != uuid.Nil {
		return Effects{}, fmt.Errorf("found: the range %s has owners already", c.rng)
	}
	c.me = council.Member{Peer: c.cfg.Peer, Nonce: nonce}
	c.self, c.lodged, c.dirty.self = c.me.ID(), true, true
	view := council.Found(c.cfg.Mesh, c.me)
	if err := c.beginNode(view); err != nil {
		return Effects{}, err
	}
	c.setView(view)
	c.merge([]Row{{0, c.blocks(), Register{Epoch: view.Epoch(view.Index), Version: 1, Owner: c.self}}})
	return c.finish(), nil
}

// Self is the member that this peer is; zero while it is none.
func (c *Core) Self() ID { return c.self }

// Lodged tells whether this peer has been let in.
func (c *Core) Lodged() bool { return c.self != uuid.Nil && c.lodged }

// sponsor of a member that is not admitted; ok is false for one that is not known.
func (c *Core) sponsor(id ID) (ID, bool) {
	m, ok := c.members[id]
	if id == c.self {
		m, ok = c.me, true
	}
	return m.Sponsor, ok
}

// standing is what follows from who vouches for a member: the index of the
// decision by which it, or one of those, is shut out; or that somebody admitted
// vouches for it. Neither holds for one that is not known.
func (c *Core) standing(id ID) (at uint64, sealed, member bool) {
	for range maxChain {
		if at, sealed := c.view.Sealed[id]; sealed {
			return at, true, false
		}
		if _, in := c.view.Admitted[id]; in {
			return 0, false, true
		}
		sponsor, known := c.sponsor(id)
		if !known {
			break
		}
		id = sponsor
	}
	return 0, false, false
}

// maxChain bounds how many members that are not admitted yet may have let each
// other in, one after the other.
const maxChain = 64

// isSealed tells whether a member is shut out: it was sealed, or is not admitted
// and was let in by one that is sealed.
func (c *Core) isSealed(id ID) bool {
	_, sealed, _ := c.standing(id)
	return sealed
}

// isMember tells whether a member is one: somebody admitted vouches for it, and
// nobody in between is shut out.
func (c *Core) isMember(id ID) bool {
	_, _, member := c.standing(id)
	return member
}

// member looks up who is behind an id.
func (c *Core) member(id ID) (council.Member, bool) {
	if a, ok := c.view.Admitted[id]; ok {
		return a.Member, true
	}
	if id == c.self && id != uuid.Nil {
		return c.me, true
	}
	m, ok := c.members[id]
	return m, ok
}

// MemberOf is the member that a peer is now, as far as is known.
func (c *Core) MemberOf(peer uuid.UUID) (ID, bool) {
	if peer == c.cfg.Peer {
		return c.self, c.self != uuid.Nil
	}
	return c.lastWhere(peer, c.isMember)
}

// lastLife is the member that a peer is now, or was last.
func (c *Core) lastLife(peer uuid.UUID) (ID, bool) {
	if id, ok := c.MemberOf(peer); ok {
		return id, true
	}
	return c.lastWhere(peer, func(ID) bool { return true })
}

// lastWhere is the latest life of a peer that is so.
func (c *Core) lastWhere(peer uuid.UUID, is func(ID) bool) (ID, bool) {
	var best ID
	var nonce uint64
	found := false
	look := func(id ID, m council.Member) {
		if m.Peer == peer && (!found || m.Nonce > nonce || m.Nonce == nonce && bytes.Compare(id[:], best[:]) > 0) && is(id) {
			best, nonce, found = id, m.Nonce, true
		}
	}
	for id, a := range c.view.Admitted {
		look(id, a.Member)
	}
	for id, m := range c.members {
		look(id, m)
	}
	return best, found
}

// ownerOf is the peer that owns the block of an address.
func (c *Core) ownerOf(a netip.Addr) uuid.UUID {
	m, _ := c.member(c.table.at(c.blockOf(a)).Owner)
	return m.Peer
}

// owns tells whether a member owns anything, by the registers.
func (c *Core) owns(id ID) bool {
	return slices.ContainsFunc(c.table, func(r Row) bool { return r.Owner == id })
}

// looksFree tells whether an address may be had from whoever owns its block, as
// far as is known.
func (c *Core) looksFree(a netip.Addr) bool {
	if _, held := c.held[a]; held || c.reserved(c.offset(a)) {
		return false
	}
	owner := c.table.at(c.blockOf(a)).Owner
	_, leased := c.books[owner].find(a)
	return owner != uuid.Nil && !leased
}

// learn takes in members that are not admitted, if it is known who vouches for
// them. Those that are shut out are learnt, too: a block may be theirs.
func (c *Core) learn(list []council.Member) {
	for again := true; again; {
		again = false
		for _, m := range list {
			id := m.ID()
			if _, in := c.view.Admitted[id]; in || id == c.self {
				continue
			}
			if _, known := c.members[id]; known || !c.isKnown(m.Sponsor) {
				continue
			}
			if _, sealed := c.view.Sealed[id]; m.Sponsor == c.self && !c.wards[id] && !sealed {
				continue
			}
			c.members[id] = m
			c.dirty.members = true
			c.news.Members = append(c.news.Members, m)
			again = true
		}
	}
}

func (c *Core) isKnown(id ID) bool {
	_, known := c.member(id)
	return known
}

// forget drops members that are admitted now, and those that are shut out when
// all that they had has been inherited.
func (c *Core) forget() {
	var owners map[ID]bool
	for _, id := range sortedIDs(c.members) {
		_, in := c.view.Admitted[id]
		if at, sealed, _ := c.standing(id); !in && (!sealed || at > c.view.Reclaimed) {
			continue
		}
		if owners == nil {
			owners = map[ID]bool{}
			for _, r := range c.table {
				owners[r.Owner], owners[r.From] = true, true
			}
			for _, m := range c.members {
				owners[m.Sponsor] = true
			}
		}
		if in || !owners[id] {
			if !in {
				c.unadmitted[c.members[id].Peer] = true
			}
			delete(c.members, id)
			c.dirty.members = true
		}
	}
}

func sortedIDs[V any](m map[ID]V) []ID {
	return slices.SortedFunc(maps.Keys(m), compareIDs)
}

func sortedAddrs[V any](m map[netip.Addr]V) []netip.Addr {
	return slices.SortedFunc(maps.Keys(m), netip.Addr.Compare)
}

func compareIDs(a, b ID) int { return bytes.Compare(a[:], b[:]) }
