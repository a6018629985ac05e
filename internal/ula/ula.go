// Package ula gives a mesh its IPv6 addresses. Each follows from an IPv4 one
// and the mesh's id, so there is no second address plan. It is pure; what the
// addresses are used for is left to others.
package ula

import (
	"crypto/sha256"
	"net/netip"

	"github.com/google/uuid"
)

// v4Bits is where the IPv4 part of an address begins.
const v4Bits = 96

// Net is where the IPv6 addresses of a mesh are. The zero value is that of a
// mesh, or of a host, without IPv6.
type Net struct{ base netip.Prefix }

// Of returns the net of a mesh: of its own /48 (RFC 4193: fd, and 40 bits that
// nobody else is likely to have), the first /96, of which the last 32 bits are
// the IPv4 address.
func Of(mesh uuid.UUID) Net {
	sum := sha256.Sum256(append([]byte("weft ula\x00"), mesh[:]...))
	a := [16]byte{0: 0xfd}
	copy(a[1:6], sum[:])
	return Net{netip.PrefixFrom(netip.AddrFrom16(a), v4Bits)}
}

// IsValid is false for the zero value.
func (n Net) IsValid() bool { return n.base.IsValid() }

// Contains tells whether an address is one of the net's.
func (n Net) Contains(a netip.Addr) bool { return n.base.Contains(a) }

// Addr is the IPv6 address that goes with an IPv4 one; the zero value if either
// the net or the address is that.
func (n Net) Addr(v4 netip.Addr) netip.Addr {
	if !n.IsValid() || !v4.Is4() {
		return netip.Addr{}
	}
	a, low := n.base.Addr().As16(), v4.As4()
	copy(a[12:], low[:])
	return netip.AddrFrom16(a)
}

// Prefix is the IPv6 prefix that goes with an IPv4 one: all that is in the one,
// and nothing else, has its counterpart in the other.
func (n Net) Prefix(v4 netip.Prefix) netip.Prefix {
	a := n.Addr(v4.Addr())
	if !a.IsValid() || !v4.IsValid() {
		return netip.Prefix{}
	}
	return netip.PrefixFrom(a, v4Bits+v4.Bits())
}

// Both returns IPv4 prefixes, and behind them their IPv6 counterparts if the
// net has any.
func (n Net) Both(v4 []netip.Prefix) []netip.Prefix {
	out := append([]netip.Prefix(nil), v4...)
	for _, p := range v4 {
		if six := n.Prefix(p); six.IsValid() {
			out = append(out, six)
		}
	}
	return out
}

// IPv4 is the way back; ok is false for what is not one of the net's addresses.
func (n Net) IPv4(six netip.Addr) (v4 netip.Addr, ok bool) {
	if !n.Contains(six) {
		return netip.Addr{}, false
	}
	a := six.As16()
	return netip.AddrFrom4([4]byte(a[12:])), true
}
