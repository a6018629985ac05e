package ula

import (
	"net/netip"
	"testing"

	"github.com/google/uuid"
	"pgregory.net/rapid"
)

var mesh = uuid.MustParse("7d1c6f9e-0c1b-4d6e-9a53-2f5f5b0f8a11")

func TestAddressesEmbedTheIPv4OneBehindTheMeshsOwnPrefix(t *testing.T) {
	n := Of(mesh)
	for v4, want := range map[string]string{
		"10.32.0.5/32": "fdb4:56b9:c5a1::a20:5/128",
		"10.32.0.0/12": "fdb4:56b9:c5a1::a20:0/108",
		"0.0.0.0/0":    "fdb4:56b9:c5a1::/96",
	} {
		if got := n.Prefix(netip.MustParsePrefix(v4)); got != netip.MustParsePrefix(want) {
			t.Errorf("%s becomes %s, want %s", v4, got, want)
		}
	}
	if !netip.MustParsePrefix("fd00::/8").Contains(n.base.Addr()) {
		t.Errorf("%s is no unique local prefix", n.base)
	}
}

func TestMeshesHavePrefixesOfTheirOwn(t *testing.T) {
	seen := map[Net]bool{}
	for range 1000 {
		seen[Of(uuid.New())] = true
	}
	if len(seen) != 1000 {
		t.Errorf("1000 meshes have %d prefixes", len(seen))
	}
}

func TestRangesHoldWhatIsTheMeshsOwn(t *testing.T) {
	own := RangesOf(mesh, netip.MustParsePrefix("10.32.0.0/12"))
	for p, want := range map[string]bool{
		"10.32.0.0/12": true, "10.40.1.0/24": true, "10.32.0.0/11": false, "10.64.0.0/16": false, "0.0.0.0/0": false, "240.1.2.3/32": false,
		"fdb4:56b9:c5a1::a20:0/108": true, "fdb4:56b9:c5a1::a20:5/128": true, "fdb4:56b9:c5a2::a20:5/128": false,
	} {
		if got := own.Hold(netip.MustParsePrefix(p)); got != want {
			t.Errorf("%s: %v", p, got)
		}
		if !(Ranges{}).Hold(netip.MustParsePrefix(p)) {
			t.Errorf("%s is in no mesh of which nothing is known", p)
		}
	}
}

func TestNoNetHasNoAddresses(t *testing.T) {
	var none Net
	p := netip.MustParsePrefix("10.32.0.0/12")
	if none.IsValid() || none.Prefix(p).IsValid() || none.Addr(p.Addr()).IsValid() || none.Contains(netip.IPv6Unspecified()) {
		t.Error("the zero value has addresses")
	}
	if both := none.Both([]netip.Prefix{p}); len(both) != 1 || both[0] != p {
		t.Errorf("with no net %v", both)
	}
	if got := Of(mesh).Prefix(netip.Prefix{}); got.IsValid() {
		t.Errorf("no prefix becomes %s", got)
	}
	if got := Of(mesh).Addr(netip.MustParseAddr("2001:db8::1")); got.IsValid() {
		t.Errorf("an IPv6 address becomes %s", got)
	}
}

func TestPrefixesContainEachOtherInBothFamiliesAlike(t *testing.T) {
	n := Of(mesh)
	prefix := rapid.Custom(func(t *rapid.T) netip.Prefix {
		b := rapid.Uint32().Draw(t, "address")
		a := netip.AddrFrom4([4]byte{byte(b >> 24), byte(b >> 16), byte(b >> 8), byte(b)})
		return netip.PrefixFrom(a, rapid.IntRange(0, 32).Draw(t, "bits")).Masked()
	})
	rapid.Check(t, func(t *rapid.T) {
		p, q := prefix.Draw(t, "p"), prefix.Draw(t, "q")
		p6, q6 := n.Prefix(p), n.Prefix(q)
		if p6 != p6.Masked() || p.Overlaps(q) != p6.Overlaps(q6) || p.Contains(q.Addr()) != p6.Contains(q6.Addr()) || (p == q) != (p6 == q6) {
			t.Fatalf("%s and %s become %s and %s", p, q, p6, q6)
		}
		back, ok := n.IPv4(p6.Addr())
		if !ok || back != p.Addr() {
			t.Fatalf("%s becomes %s and back %s", p.Addr(), p6.Addr(), back)
		}
		if _, ok := n.IPv4(p.Addr()); ok {
			t.Fatalf("%s is not of the net", p.Addr())
		}
	})
}
