package bridge

import (
	"bytes"
	"cmp"
	"net/netip"
	"slices"
)

// span is a part of the range that is one peer's: from the first address to the
// last.
type span struct {
	first, last netip.Addr
	peer        GuardedPeer
	bits        int // of the prefix that it is of
}

// spans are the peers' prefixes without overlaps, in order: an address is of the
// peer with the longest prefix that it is in, as in routes. Of two that have the
// same prefix the one with the smaller id has it.
func spans(peers []GuardedPeer) []span {
	var all []span
	for _, p := range peers {
		for _, prefix := range p.Prefixes {
			all = append(all, span{prefix.Addr(), lastOf(prefix), p, prefix.Bits()})
		}
	}
	// The wider before those in it.
	slices.SortFunc(all, func(a, b span) int {
		return cmp.Or(a.first.Compare(b.first), a.bits-b.bits, bytes.Compare(a.peer.ID[:], b.peer.ID[:]))
	})
	var out, open []span // open are those around the present address, the innermost last
	emit := func(s span, last netip.Addr) {
		if s.first.IsValid() && s.first.Compare(last) <= 0 {
			out = append(out, span{s.first, last, s.peer, s.bits})
		}
	}
	closeBefore := func(first netip.Addr) {
		for n := len(open); n > 0 && (!first.IsValid() || open[n-1].last.Less(first)); n = len(open) {
			s := open[n-1]
			emit(s, s.last)
			if open = open[:n-1]; n > 1 {
				open[n-2].first = s.last.Next() // what is left of the one around it
			}
		}
	}
	for _, s := range all {
		closeBefore(s.first)
		if n := len(open); n > 0 {
			if open[n-1].bits == s.bits { // so it is the same prefix
				continue
			}
			emit(open[n-1], s.first.Prev())
			open[n-1].first = s.first
		}
		open = append(open, s)
	}
	closeBefore(netip.Addr{})
	return out
}

// of is the span as an element of a set of a family's addresses.
func (s span) of(f family) string {
	if s.last == s.first {
		return f.addr(s.first).String()
	}
	return f.addr(s.first).String() + "-" + f.addr(s.last).String()
}

// lastOf is the last address of an IPv4 prefix.
func lastOf(p netip.Prefix) netip.Addr {
	a := p.Addr().As4()
	for i := p.Bits(); i < 32; i++ {
		a[i/8] |= 0x80 >> (i % 8)
	}
	return netip.AddrFrom4(a)
}
