package ipam

import (
	"fmt"
	"net/netip"

	"github.com/google/uuid"
)

// Allocate gives the owner the lowest free address of this peer's own blocks,
// without asking anybody, or fails with ErrNoSpace.
func (c *Core) Allocate(owner string) (netip.Addr, Effects, error) {
	return c.AllocateIn(owner, c.rng)
}

// AllocateIn is Allocate within a part of the range. The first and the last
// address of the part are not given.
func (c *Core) AllocateIn(owner string, part netip.Prefix) (netip.Addr, Effects, error) {
	if err := validOwner(owner); err != nil {
		return netip.Addr{}, Effects{}, fmt.Errorf("allocate: %w", err)
	}
	if err := c.checkPart(part); err != nil {
		return netip.Addr{}, Effects{}, fmt.Errorf("allocate: %w", err)
	}
	a, ok := c.free(part)
	if !ok {
		return netip.Addr{}, Effects{}, ErrNoSpace
	}
	c.setHeld(a, &holding{owner: owner, use: useOwn})
	return a, c.finish(), nil
}

// checkPart finds what is wrong with a part of the range.
func (c *Core) checkPart(part netip.Prefix) error {
	switch {
	case !part.IsValid() || part != part.Masked():
		return fmt.Errorf("%s is not a network", part)
	case part.Bits() < c.rng.Bits() || !c.rng.Contains(part.Addr()):
		return fmt.Errorf("%s is %w %s", part, ErrOutside, c.rng)
	}
	return nil
}

// free finds the lowest free address of our own in a part of the range.
func (c *Core) free(part netip.Prefix) (netip.Addr, bool) {
	whole := part == c.rng
	first := c.offset(part.Addr())
	end := first + 1<<(32-part.Bits())
	if !whole && part.Bits() < 31 {
		first, end = first+1, end-1
	}
	if whole {
		first = max(first, c.low)
	}
	for _, sp := range c.own {
		for o := max(sp.first*c.blockSize(), first); o < min(sp.end()*c.blockSize(), end); o++ {
			a := c.addr(o)
			if _, taken := c.held[a]; taken || c.reserved(o) || c.isLeasedOut(a) {
				continue
			}
			if whole {
				c.low = o
			}
			return a, true
		}
	}
	return netip.Addr{}, false
}

// Claim gives the owner a certain address, or begins to ask for it: Held tells
// whether it may be used. For the owner that has it already it does nothing.
// Errors: ErrOutside, ErrReserved, ErrTaken, ErrUnowned.
func (c *Core) Claim(owner string, a netip.Addr) (Effects, error) {
	switch {
	case validOwner(owner) != nil:
		return Effects{}, fmt.Errorf("claim %s: %w", a, validOwner(owner))
	case !c.rng.Contains(a):
		return Effects{}, fmt.Errorf("address %s is %w %s", a, ErrOutside, c.rng)
	case c.reserved(c.offset(a)):
		return Effects{}, fmt.Errorf("address %s is %w", a, ErrReserved)
	}
	if h, ok := c.held[a]; ok {
		if h.owner == owner {
			return Effects{}, nil
		}
		return Effects{}, fmt.Errorf("address %s is %w by %s", a, ErrTaken, h.owner)
	}
	block := c.blockOf(a)
	switch {
	case c.table.at(block).Owner == uuid.Nil:
		return Effects{}, fmt.Errorf("address %s: %w", a, ErrUnowned)
	case !c.ownsBlock(block):
		c.setHeld(a, &holding{owner: owner})
		c.claim(a)
		return c.finish(), nil
	case c.isLeasedOut(a):
		return Effects{}, fmt.Errorf("address %s is %w on %s", a, ErrTaken, c.peerOf(c.books[c.self], a))
	}
	c.setHeld(a, &holding{owner: owner, use: useOwn})
	return c.finish(), nil
}

func (c *Core) peerOf(b book, a netip.Addr) uuid.UUID {
	if i, found := b.find(a); found {
		m, _ := c.member(b.leases[i].Holder)
		return m.Peer
	}
	return uuid.Nil
}

// Held tells whether an owner may use an address, and why not; both zero while
// that is not known.
func (c *Core) Held(owner string, a netip.Addr) (ok bool, refused string) {
	h, found := c.held[a]
	if !found || h.owner != owner {
		return false, "it was released"
	}
	return h.use != useWanted, h.refused
}

// Release frees an address of an owner; one that is not the owner's stays.
func (c *Core) Release(owner string, a netip.Addr) Effects {
	h, ok := c.held[a]
	if !ok || h.owner != owner {
		return Effects{}
	}
	c.setHeld(a, nil)
	if h.use != useOwn && h.token != 0 {
		// Of a claim, too: the answer may be on its way.
		c.releases[a] = h.token
		c.dirty.releases = true
		c.tellRelease(a)
	}
	return c.finish()
}
