package bridge

import (
	"net/netip"
	"testing"

	"pgregory.net/rapid"
)

func TestNamesAndAddressesOfPorts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := rapid.Uint32().Draw(t, "a"), rapid.Uint32().Draw(t, "b")
		x := netip.AddrFrom4([4]byte{byte(a >> 24), byte(a >> 16), byte(a >> 8), byte(a)})
		y := netip.AddrFrom4([4]byte{byte(b >> 24), byte(b >> 16), byte(b >> 8), byte(b)})
		if (x == y) != (MACOf(x).String() == MACOf(y).String()) || MACOf(x)[0]&3 != 2 {
			t.Fatalf("%s has %s, %s has %s", x, MACOf(x), y, MACOf(y))
		}
		if n := HostInterfaceName(uint64(a), "eth0"); len(n) > 15 || n == HostInterfaceName(uint64(a), "eth1") {
			t.Fatalf("name %q", n)
		}
	})
}
