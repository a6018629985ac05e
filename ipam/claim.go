package ipam

import (
	"net/netip"

	"github.com/google/uuid"
)

// Times in ticks.
const (
	claimEvery   = 6   // an address that is wanted
	refusedEvery = 60  // one that was refused
	auditEvery   = 120 // every lease, by both sides
	claimsAtOnce = 32
)

// claim asks the owner of a block, which is not ours, for an address that is wanted.
func (c *Core) claim(a netip.Addr) {
	h := c.held[a]
	owner := c.table.at(c.blockOf(a)).Owner
	if c.self == uuid.Nil || !c.lodged || owner == c.self || !c.isMember(owner) {
		return
	}
	if h.token == 0 {
		h.token = c.newToken()
		c.setHeld(a, &h)
	}
	c.asked[a] = c.ticks + 1
	c.sendTo(owner, &Msg{Kind: kindClaim, Addr: a, Token: h.token})
}

// tickClaims repeats what has not been answered.
func (c *Core) tickClaims() {
	budget := claimsAtOnce
	for _, a := range sortedAddrs(c.held) {
		h := c.held[a]
		if h.use != useWanted || budget == 0 {
			continue
		}
		if c.ownsBlock(c.blockOf(a)) {
			c.settle(a)
			continue
		}
		every := claimEvery
		if h.refused != "" {
			every = refusedEvery
		}
		if at := c.asked[a]; at == 0 || c.ticks-at >= every {
			c.claim(a)
			budget--
		}
	}
	if c.ticks%claimEvery == 0 {
		for _, a := range sortedAddrs(c.releases) {
			c.tellRelease(a)
		}
	}
	if c.ticks%auditEvery == int(c.start%auditEvery) {
		c.Audit()
	}
}

// settle answers a claim of our own to an address of a block of ours.
func (c *Core) settle(a netip.Addr) {
	h := c.held[a]
	switch {
	case !c.isLeasedOut(a):
		c.grantHeld(a, useOwn)
	case h.refused == "":
		h.refused = "it is used on another host"
		c.setHeld(a, &h)
	}
}

// Audit has every lease compared by both of its sides: a holder that its lessor
// does not know stops, and a lessor whose holder is no more frees the address.
func (c *Core) Audit() {
	for _, a := range sortedAddrs(c.held) {
		if h := c.held[a]; h.use == useLeased {
			c.sendTo(c.table.at(c.blockOf(a)).Owner, &Msg{Kind: kindAudit, Addr: a, Token: h.token})
		}
	}
	for _, l := range c.books[c.self].leases {
		c.sendTo(l.Holder, &Msg{Kind: kindLeased, Addr: l.Addr, Token: l.Token})
	}
}

func (c *Core) tellRelease(a netip.Addr) {
	owner := c.table.at(c.blockOf(a)).Owner
	if owner == c.self {
		delete(c.releases, a)
		c.dirty.releases = true
		return
	}
	c.sendTo(owner, &Msg{Kind: kindRelease, Addr: a, Token: c.releases[a]})
}

// onClaim answers one who wants an address of ours: with the whole block, if it
// is empty and not our last; else with a lease.
func (c *Core) onClaim(m *Msg) {
	a, b := m.Addr, 0
	if !c.rng.Contains(a) || c.reserved(c.offset(a)) || m.Token == 0 || !c.isMember(m.FromID) {
		return
	}
	if b = c.blockOf(a); !c.ownsBlock(b) {
		return // it will hear who does
	}
	refuse := func(reason string) {
		c.send(m.Peer, &Msg{Kind: kindNoLease, To: m.FromID, Addr: a, Token: m.Token, Reason: reason})
	}
	own := c.ownBook()
	if i, found := own.find(a); found {
		switch l := own.leases[i]; {
		case l.Holder != m.FromID:
			refuse("it is used on another host")
			return
		case m.Token < l.Token:
			return // it has begun anew since
		case m.Token > l.Token:
			c.addLease(lease{Addr: a, Holder: m.FromID, Token: m.Token})
		}
		c.send(m.Peer, &Msg{Kind: kindLeased, To: m.FromID, Addr: a, Token: m.Token})
		return
	}
	if _, taken := c.held[a]; taken {
		refuse("it is in use there")
		return
	}
	if c.used[b] == 0 && count(c.own) > 1 && !c.leaving {
		row := Row{b, 1, c.table.at(b)}.given(m.FromID)
		c.give([]Row{row})
		c.send(m.Peer, &Msg{Kind: kindSync, Delta: &Delta{Rows: []Row{row}}})
		return
	}
	c.addLease(lease{Addr: a, Holder: m.FromID, Token: m.Token})
	c.send(m.Peer, &Msg{Kind: kindLeased, To: m.FromID, Addr: a, Token: m.Token})
}

// onLeased takes in a lease that is wanted; another is given back.
func (c *Core) onLeased(m *Msg) {
	h, ok := c.held[m.Addr]
	if ok && h.token == m.Token && h.use != useOwn && m.Token != 0 {
		if h.use == useWanted && c.table.at(c.blockOf(m.Addr)).Owner == m.FromID {
			c.grantHeld(m.Addr, useLeased)
		}
		return
	}
	c.send(m.Peer, &Msg{Kind: kindRelease, To: m.FromID, Addr: m.Addr, Token: m.Token})
}

func (c *Core) onNoLease(m *Msg) {
	h, ok := c.held[m.Addr]
	if !ok || h.token != m.Token || h.use == useOwn || c.table.at(c.blockOf(m.Addr)).Owner != m.FromID {
		return
	}
	if h.use == useLeased {
		c.want(m.Addr) // it is claimed again, as a new use
		return
	}
	h.refused = printable(m.Reason, mostReason)
	c.setHeld(m.Addr, &h)
}

func (c *Core) onRelease(m *Msg) {
	if !c.rng.Contains(m.Addr) || !c.ownsBlock(c.blockOf(m.Addr)) {
		return
	}
	c.dropLeases(func(l lease) bool { return l.Addr == m.Addr && l.Holder == m.FromID && l.Token == m.Token })
	c.send(m.Peer, &Msg{Kind: kindReleased, To: m.FromID, Addr: m.Addr, Token: m.Token})
}

func (c *Core) onReleased(m *Msg) {
	if t, ok := c.releases[m.Addr]; ok && t == m.Token {
		delete(c.releases, m.Addr)
		c.dirty.releases = true
	}
}

// onAudit answers a holder whose lease is not in our book.
func (c *Core) onAudit(m *Msg) {
	if !c.rng.Contains(m.Addr) || !c.ownsBlock(c.blockOf(m.Addr)) {
		return
	}
	own := c.ownBook()
	if i, found := own.find(m.Addr); found && own.leases[i].Holder == m.FromID && own.leases[i].Token == m.Token {
		return
	}
	c.send(m.Peer, &Msg{Kind: kindNoLease, To: m.FromID, Addr: m.Addr, Token: m.Token, Reason: "the lease is not known"})
}
