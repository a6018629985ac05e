package ipam

import (
	"net/netip"
	"slices"

	"github.com/google/uuid"

	"github.com/weft-net/weft/ipam/council"
)

// use is what stands behind an address that is held here.
type use uint8

const (
	useWanted use = 0 // nothing: it must not be used, and is claimed
	useOwn    use = 1 // a block of ours
	useLeased use = 2 // a lease in a block of another's
)

// holding is an address that somebody here uses or wants.
type holding struct {
	owner string
	use   use
	token uint64 // of a lease, or of a claim to one
	// refused is why the owner of the block does not give it; "" if it has not
	// said so.
	refused string
}

// lease is an address of the book's owner that another uses.
type lease = council.Lease

// book is every lease that a member has given, in the order of addresses. Only
// that member writes it, and the larger version wins.
type book struct {
	owner   ID
	version uint64
	leases  []lease
}

func (b book) find(a netip.Addr) (int, bool) {
	return slices.BinarySearchFunc(b.leases, a, func(l lease, a netip.Addr) int { return l.Addr.Compare(a) })
}

// setHeld changes what is held at an address; nil forgets it.
func (c *Core) setHeld(a netip.Addr, h *holding) {
	if old, ok := c.held[a]; ok && old.use == useOwn {
		c.unuse(a)
	}
	mark(&c.dirty.held, a)
	if h == nil {
		delete(c.held, a)
		delete(c.asked, a)
		return
	}
	c.held[a] = *h
	if h.use == useOwn {
		c.used[c.blockOf(a)]++
	}
}

func (c *Core) unuse(a netip.Addr) {
	b := c.blockOf(a)
	if c.used[b]--; c.used[b] <= 0 {
		delete(c.used, b)
	}
	c.low = min(c.low, c.offset(a))
}

// want takes the right to use an address away. Whoever uses it must stop now.
func (c *Core) want(a netip.Addr) {
	h := c.held[a]
	if h.use != useWanted {
		c.out.Cut = append(c.out.Cut, a)
	}
	h.use, h.token, h.refused = useWanted, 0, ""
	c.setHeld(a, &h)
	delete(c.asked, a)
}

// grantHeld gives the right to use an address that is wanted.
func (c *Core) grantHeld(a netip.Addr, u use) {
	h := c.held[a]
	h.use, h.refused = u, ""
	c.setHeld(a, &h)
	delete(c.asked, a)
}

// newToken is a number for the use of an address. It grows with every use that
// this member begins, so that of two claims the later one counts, in whatever
// order they arrive.
func (c *Core) newToken() uint64 {
	c.tokens++
	return (c.seq+1)<<16 | c.tokens&0xffff
}

// ownsBlock tells whether a block is one that this peer may use.
func (c *Core) ownsBlock(block int) bool { return inSpans(c.own, block) }

// ownBook is this member's book, to be changed by setBook.
func (c *Core) ownBook() book {
	b := c.books[c.self]
	b.owner = c.self
	return b
}

func (c *Core) setBook(b book) {
	c.books[b.owner] = b
	mark(&c.dirty.books, b.owner)
	c.news.Books = append(c.news.Books, b)
	if b.owner == c.self {
		c.recount()
	}
}

// recount makes used what follows from what is held and leased.
func (c *Core) recount() {
	clear(c.used)
	for a, h := range c.held {
		if h.use == useOwn {
			c.used[c.blockOf(a)]++
		}
	}
	for _, l := range c.books[c.self].leases {
		if b := c.blockOf(l.Addr); c.ownsBlock(b) {
			c.used[b]++
		}
	}
	c.low = 0
}

// writeBook changes this member's book.
func (c *Core) writeBook(change func(book) []lease) {
	b := c.ownBook()
	b.leases = change(b)
	b.version++
	c.setBook(b)
}

func (c *Core) addLease(l lease) {
	c.writeBook(func(b book) []lease {
		i, found := b.find(l.Addr)
		if found {
			return slices.Replace(slices.Clone(b.leases), i, i+1, l)
		}
		return slices.Insert(slices.Clone(b.leases), i, l)
	})
}

func (c *Core) dropLeases(gone func(lease) bool) {
	if slices.ContainsFunc(c.books[c.self].leases, gone) {
		c.writeBook(func(b book) []lease { return slices.DeleteFunc(slices.Clone(b.leases), gone) })
	}
}

// mergeBook takes in another member's book.
func (c *Core) mergeBook(b book) {
	if b.owner == c.self || b.version <= c.books[b.owner].version || !c.isMember(b.owner) {
		return
	}
	c.setBook(b)
}

// dropBooks forgets the books of who is shut out, and frees what they leased of
// ours: not when they were sealed, since somebody may not have heard of it and
// still hear them, but when what they had has been inherited.
func (c *Core) dropBooks() {
	for _, id := range sortedIDs(c.books) {
		if id != c.self && c.isSealed(id) {
			delete(c.books, id)
			mark(&c.dirty.books, id)
		}
	}
	if c.self == uuid.Nil {
		return
	}
	c.dropLeases(func(l lease) bool {
		at, sealed, _ := c.standing(l.Holder)
		return sealed && at <= c.view.Reclaimed
	})
}

// holder is the member that may use an address, as far as this peer knows: the
// block's owner, or whom that one has leased it to.
func (c *Core) holder(a netip.Addr) (ID, bool) {
	owner := c.table.at(c.blockOf(a)).Owner
	if owner == uuid.Nil || !c.isMember(owner) {
		return ID{}, false
	}
	b := c.books[owner]
	if i, found := b.find(a); found {
		return b.leases[i].Holder, c.isMember(b.leases[i].Holder)
	}
	return owner, true
}
