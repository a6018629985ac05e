package ula

import (
	"net/netip"

	"github.com/google/uuid"
)

// Ranges are where all addresses of a mesh are, IPv4 and IPv6, whether or not a host
// has both. They tell its routes from those of another mesh on the same host.
type Ranges [2]netip.Prefix

// RangesOf are those of a mesh with an IPv4 range.
func RangesOf(mesh uuid.UUID, v4 netip.Prefix) Ranges { return Ranges{v4, Of(mesh).Prefix(v4)} }

// Hold tells whether a prefix is one of the mesh's; the zero value, of a mesh of which
// nothing is known, holds all.
func (r Ranges) Hold(p netip.Prefix) bool {
	for _, own := range r {
		if own.IsValid() && own.Bits() <= p.Bits() && own.Contains(p.Addr()) {
			return true
		}
	}
	return r == Ranges{}
}
