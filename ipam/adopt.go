package ipam

import (
	"net/netip"
	"slices"

	"github.com/google/uuid"
)

// merge takes in rows of others and says what they mean for this peer.
func (c *Core) merge(rows []Row) {
	if !inOrder(rows) {
		for _, r := range rows {
			c.merge([]Row{r})
		}
		return
	}
	mine := func(r Row) bool { return r.From == c.self && c.self != uuid.Nil }
	known := c.ofKnown(rows)
	if news := c.write(known); slices.ContainsFunc(news, mine) || len(known) < len(rows) && slices.ContainsFunc(rows, c.isForgotten) {
		// Only an owner writes, and this one knows nothing of it: its store was
		// set back to before it gave that away.
		c.poison(c.self)
		return
	}
	c.adopt()
}

// isForgotten tells whether a row is a gift of ours to somebody unknown, of a
// register that we still have.
func (c *Core) isForgotten(r Row) bool {
	return r.From == c.self && c.self != uuid.Nil && !c.isKnown(r.Owner) && r.compare(c.table.at(r.First)) > 0
}

// ofKnown leaves out rows of owners that are not known here: nobody could tell
// when such a one is shut out, and what it owns would be lost for good. They
// come again, with who that is.
func (c *Core) ofKnown(rows []Row) []Row {
	unknown := func(r Row) bool {
		_, sealed := c.view.Sealed[r.Owner]
		return r.Owner != uuid.Nil && !sealed && !c.isKnown(r.Owner)
	}
	if !slices.ContainsFunc(rows, unknown) {
		return rows
	}
	return slices.DeleteFunc(slices.Clone(rows), unknown)
}

// write puts rows into the registers, and returns what of them was news.
func (c *Core) write(rows []Row) []Row {
	merged, news := c.table.merge(rows)
	if len(news) > 0 {
		c.table, c.dirty.table = merged, true
		c.news.Rows = append(c.news.Rows, news...)
	}
	return news
}

// inOrder tells whether rows can be merged in one pass.
func inOrder(rows []Row) bool {
	for i := 1; i < len(rows); i++ {
		if rows[i].First < rows[i-1].end() {
			return false
		}
	}
	return true
}

// give is merge of rows by which this peer gives blocks away, which is no loss.
func (c *Core) give(rows []Row) {
	c.own = minus(c.own, spansOf(rows))
	c.dirty.own = true
	c.write(rows)
	c.adopt()
}

func spansOf(rows []Row) []span {
	var out []span
	for _, r := range rows {
		out = appendSpan(out, span{r.First, r.Count})
	}
	return out
}

// adopt makes what this peer uses follow from what it owns. To own a block is
// not enough: who gave it must have had the right to, as far as is known here.
// What was taken into use once stays so, whatever happens to the giver.
func (c *Core) adopt() {
	if c.self == uuid.Nil || c.view.Index == 0 {
		return
	}
	var owned, may []span
	for _, r := range c.table {
		if r.Owner != c.self {
			continue
		}
		owned = appendSpan(owned, span{r.First, r.Count})
		if c.hasRight(r.Register) {
			may = appendSpan(may, span{r.First, r.Count})
		}
	}
	lost := minus(c.own, owned)
	gained := minus(may, c.own)
	if len(lost) == 0 && len(gained) == 0 {
		return
	}
	c.own = minus(c.own, lost)
	c.own = union(c.own, gained)
	c.dirty.own, c.low = true, 0
	c.out.Granted = append(c.out.Granted, c.prefixes(gained)...)
	c.out.Lost = append(c.out.Lost, c.prefixes(lost)...)
	c.uncover(lost)
	c.cover(gained)
	c.recount()
}

// hasRight tells whether a block that this peer owns may be used: the council
// gave it, and all that goes with the decision is known; or a member did who is
// not shut out.
func (c *Core) hasRight(r Register) bool {
	if r.From == uuid.Nil {
		return r.Epoch <= c.view.Epoch(c.view.Index)
	}
	return c.isMember(r.From)
}

// uncover takes the right to addresses away whose blocks are lost.
func (c *Core) uncover(lost []span) {
	for _, a := range sortedAddrs(c.held) {
		if c.held[a].use == useOwn && inSpans(lost, c.blockOf(a)) {
			c.want(a)
		}
	}
	c.dropLeases(func(l lease) bool { return inSpans(lost, c.blockOf(l.Addr)) })
}

// cover takes over what belongs to blocks that are new to this peer: leases
// that the one before had given, and what is held or wanted here.
func (c *Core) cover(gained []span) {
	var legacy []lease
	for _, l := range c.view.Legacies {
		b := c.blockOf(l.Lease.Addr)
		if inSpans(gained, b) && c.table.at(b).Epoch == l.Epoch && l.Lease.Holder != c.self && c.isMember(l.Lease.Holder) {
			legacy = append(legacy, l.Lease)
		}
	}
	for _, l := range legacy {
		c.addLease(l)
	}
	for _, a := range sortedAddrs(c.held) {
		if !inSpans(gained, c.blockOf(a)) || c.held[a].use == useOwn {
			continue
		}
		if c.held[a].use == useLeased && c.isLeasedOut(a) {
			c.want(a)
		}
		c.settle(a)
		if _, ok := c.releases[a]; ok {
			delete(c.releases, a)
			c.dirty.releases = true
		}
	}
}

func (c *Core) isLeasedOut(a netip.Addr) bool {
	_, found := c.books[c.self].find(a)
	return found
}

// union of spans in order.
func union(a, b []span) []span {
	all := slices.Concat(a, b)
	slices.SortFunc(all, func(x, y span) int { return x.first - y.first })
	var out []span
	for _, s := range all {
		out = appendSpan(out, s)
	}
	return out
}
