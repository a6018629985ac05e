package ipam

import (
	"fmt"
	"net/netip"
)

// Allocate gives the owner the lowest free address of this peer's blocks. It
// asks nobody and sends nothing; ErrNoSpace says that blocks have to be asked for.
func (c *Core) Allocate(owner string) (netip.Addr, Effects, error) {
	if err := validOwner(owner); err != nil {
		return netip.Addr{}, Effects{}, err
	}
	if !c.hasFree() {
		return netip.Addr{}, Effects{}, ErrNoSpace
	}
	a := c.addr(c.low)
	c.low++
	return a, c.take(owner, a), nil
}

// hasFree tells whether this peer's own blocks have a free address; c.low is
// then the lowest.
func (c *Core) hasFree() bool {
	for _, sp := range c.own {
		for o := max(sp.first*c.blockSize(), c.low); o < sp.end()*c.blockSize(); o++ {
			if _, taken := c.addrs[c.addr(o)]; !taken && !c.reserved(o) {
				c.low = o
				return true
			}
		}
	}
	return false
}

func (c *Core) take(owner string, a netip.Addr) Effects {
	c.hold(owner, a)
	return Effects{Writes: []Write{addrWrite(a, owner)}}
}

func (c *Core) hold(owner string, a netip.Addr) {
	c.addrs[a] = owner
	c.used[c.blockOf(a)]++
}

// Claim gives the owner a certain address. For the owner that has it already
// it changes nothing. Errors: ErrOutside, ErrReserved, ErrTaken, ErrUnowned, or
// an *ElsewhereError.
func (c *Core) Claim(owner string, a netip.Addr) (Effects, error) {
	if err := validOwner(owner); err != nil {
		return Effects{}, err
	}
	if !c.rng.Contains(a) {
		return Effects{}, fmt.Errorf("address %s is %w %s", a, ErrOutside, c.rng)
	}
	if c.reserved(c.offset(a)) {
		return Effects{}, fmt.Errorf("address %s is %w: it is the network or broadcast address of %s", a, ErrReserved, c.rng)
	}
	if holder, taken := c.addrs[a]; taken {
		if holder == owner {
			return Effects{}, nil
		}
		return Effects{}, fmt.Errorf("address %s is %w by %s", a, ErrTaken, holder)
	}
	switch reg := c.table.at(c.blockOf(a)); {
	case reg.Epoch == 0:
		return Effects{}, fmt.Errorf("address %s is %w", a, ErrUnowned)
	case reg.Owner != c.self:
		return Effects{}, &ElsewhereError{a, reg.Owner}
	}
	return c.take(owner, a), nil
}

// Release frees an address; one that the owner does not have is no error.
func (c *Core) Release(owner string, a netip.Addr) Effects {
	if c.addrs[a] != owner || owner == "" {
		return Effects{}
	}
	delete(c.addrs, a)
	block := c.blockOf(a)
	if c.used[block]--; c.used[block] == 0 {
		delete(c.used, block)
	}
	c.low = min(c.low, c.offset(a))
	return Effects{Writes: []Write{{bucketAddrs, a.AsSlice(), nil}}}
}
