package ipam

import (
	"encoding/binary"
	"fmt"
	"net/netip"
)

// Limits of a range and its blocks.
const (
	minRangeBits = 8
	maxRangeBits = 29 // leaves five addresses to hosts and containers
	maxBlockBits = 30
	maxBlocks    = 1 << 20 // bounds what a table can grow to
)

// DefaultBlockBits is the prefix length of the blocks that a range is cut into
// unless it is told: blocks of 64 addresses, smaller in a small range, so that
// there are about a thousand to share out.
func DefaultBlockBits(rng netip.Prefix) int {
	return max(rng.Bits(), min(max(rng.Bits()+10, 26), maxBlockBits))
}

// Validate finds what is wrong with a range and its block size.
func Validate(rng netip.Prefix, blockBits int) error {
	switch {
	case !rng.IsValid() || !rng.Addr().Is4():
		return fmt.Errorf("range %s is not an IPv4 prefix such as 10.32.0.0/12", rng)
	case rng != rng.Masked():
		return fmt.Errorf("range %s has bits set after its prefix length: did you mean %s?", rng, rng.Masked())
	case rng.Bits() < minRangeBits || rng.Bits() > maxRangeBits:
		return fmt.Errorf("range %s is not between /%d and /%d", rng, minRangeBits, maxRangeBits)
	case rng.Addr().IsMulticast() || rng.Addr().IsLoopback() || rng.Addr().As4()[0] == 0 || rng.Addr().As4()[0] >= 240:
		return fmt.Errorf("range %s is not of unicast addresses", rng)
	case blockBits < rng.Bits() || blockBits > maxBlockBits:
		return fmt.Errorf("a block of /%d is not between the range's /%d and /%d", blockBits, rng.Bits(), maxBlockBits)
	case 1<<(blockBits-rng.Bits()) > maxBlocks:
		return fmt.Errorf("range %s has more than %d blocks of /%d: use larger blocks", rng, maxBlocks, blockBits)
	}
	return nil
}

// space does the arithmetic of a range and its blocks.
type space struct {
	rng       netip.Prefix
	blockBits int
}

func (s space) blocks() int    { return 1 << (s.blockBits - s.rng.Bits()) }
func (s space) blockSize() int { return 1 << (32 - s.blockBits) }

func (s space) offset(a netip.Addr) int { return int(toUint(a) - toUint(s.rng.Addr())) }

func (s space) addr(offset int) netip.Addr { return fromUint(toUint(s.rng.Addr()) + uint32(offset)) }

func (s space) blockOf(a netip.Addr) int { return s.offset(a) / s.blockSize() }

// reserved: the range's network and broadcast address.
func (s space) reserved(offset int) bool {
	return offset == 0 || offset == s.blocks()*s.blockSize()-1
}

// prefixes covers spans of blocks by the fewest CIDR prefixes.
func (s space) prefixes(spans []span) []netip.Prefix {
	out := []netip.Prefix{}
	for _, sp := range spans {
		for first, left := sp.first, sp.count; left > 0; {
			n := floorPow2(left)
			if first > 0 {
				n = min(n, first&-first) // the largest size that first is aligned to
			}
			out = append(out, s.prefix(first, n))
			first, left = first+n, left-n
		}
	}
	return out
}

// prefix of n blocks from first, where n is a power of two that first is aligned to.
func (s space) prefix(first, n int) netip.Prefix {
	bits := s.blockBits
	for ; n > 1; n /= 2 {
		bits--
	}
	return netip.PrefixFrom(s.addr(first*s.blockSize()), bits)
}

func toUint(a netip.Addr) uint32 {
	b := a.As4()
	return binary.BigEndian.Uint32(b[:])
}

func fromUint(v uint32) netip.Addr {
	return netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, v)))
}
