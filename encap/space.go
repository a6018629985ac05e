package encap

import "net/netip"

// space is a set of prefixes that finds what overlaps in a time that does not
// grow with their number: there may be thousands of peers.
//
// A single address may be part of a larger prefix of another: it was leased out
// of it, and the longer match wins. So single addresses are in the way of one
// another only.
type space struct {
	held map[netip.Prefix]bool
	// below has for every prefix that is wider than a held one such a held one.
	below map[netip.Prefix]netip.Prefix
}

func newSpace() space {
	return space{held: map[netip.Prefix]bool{}, below: map[netip.Prefix]netip.Prefix{}}
}

// add takes a masked prefix.
func (s space) add(p netip.Prefix) {
	s.held[p] = true
	if p.IsSingleIP() {
		return
	}
	for bits := range p.Bits() {
		s.below[netip.PrefixFrom(p.Addr(), bits).Masked()] = p
	}
}

// covering returns the widest held prefix that p is part of.
func (s space) covering(p netip.Prefix) (netip.Prefix, bool) {
	for bits := range p.Bits() + 1 {
		if q := netip.PrefixFrom(p.Addr(), bits).Masked(); s.held[q] {
			return q, true
		}
	}
	return netip.Prefix{}, false
}

// overlapping returns a held prefix that is in the way of p.
func (s space) overlapping(p netip.Prefix) (netip.Prefix, bool) {
	if p.IsSingleIP() {
		return p, s.held[p]
	}
	if q, ok := s.covering(p); ok {
		return q, true
	}
	q, ok := s.below[p]
	return q, ok
}
