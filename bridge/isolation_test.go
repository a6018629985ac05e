package bridge

import (
	"net/netip"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func TestAnAddressIsInTheSmallestSubnetThatHasItAndInNoOther(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		addr := func(what string) netip.Addr {
			return netip.AddrFrom4([4]byte{10, 40, byte(rapid.IntRange(0, 3).Draw(t, what)), rapid.Byte().Draw(t, what)})
		}
		var subnets []netip.Prefix
		for range rapid.IntRange(0, 6).Draw(t, "subnets") {
			subnets = append(subnets, netip.PrefixFrom(addr("subnet"), rapid.IntRange(20, 31).Draw(t, "bits")).Masked())
		}
		a := addr("address")
		var want netip.Prefix
		for _, s := range subnets {
			if s.Contains(a) && (!want.IsValid() || s.Bits() > want.Bits()) {
				want = s
			}
		}
		if got := Network(subnets, a); got != want {
			t.Fatalf("%s is in %v; want %v of %v", a, got, want, subnets)
		}
		found := 0
		for _, n := range networks(subnets) {
			if slices.ContainsFunc(n.parts, func(p netip.Prefix) bool { return p.Contains(a) }) {
				found++
			}
		}
		if found > 1 {
			t.Fatalf("%s is in %d networks of %v", a, found, subnets)
		}
	})
}
