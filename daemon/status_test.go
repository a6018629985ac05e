package daemon

import (
	"net/netip"
	"testing"

	"github.com/google/uuid"

	"github.com/weft-net/weft/encap"
	"github.com/weft-net/weft/mesh"
)

func TestAWayIsEncryptedOnlyIfAllOfItIs(t *testing.T) {
	trusted := []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
	all := []string{encap.TransportDirect, encap.TransportVXLAN, encap.TransportWireGuard}
	peers := map[uuid.UUID]mesh.Peer{}
	add := func(addr string, trusts []netip.Prefix) uuid.UUID {
		id := uuid.New()
		peers[id] = mesh.Peer{Record: mesh.Body{Underlay: []netip.Addr{netip.MustParseAddr(addr)}, Trusted: trusts, Transports: all}}
		return id
	}
	a, b, wary := add("192.0.2.1", trusted), add("192.0.2.2", trusted), add("192.0.2.3", nil)
	outside, six := add("198.51.100.1", trusted), add("2001:db8::1", trusted)
	for name, tc := range map[string]struct {
		mode encap.Mode
		way  []uuid.UUID
		want bool
	}{
		"two that trust the network between them": {encap.ModeAuto, []uuid.UUID{a, b}, false},
		"at the end of a longer way":              {encap.ModeAuto, []uuid.UUID{wary, a, b}, false},
		"one of them does not":                    {encap.ModeAuto, []uuid.UUID{a, wary, b}, true},
		"one is elsewhere":                        {encap.ModeAuto, []uuid.UUID{a, outside}, true},
		"of another family":                       {encap.ModeAuto, []uuid.UUID{a, six}, true},
		"all is encrypted":                        {encap.ModeWireGuard, []uuid.UUID{a, b}, true},
		"nothing is":                              {encap.ModeVXLAN, []uuid.UUID{wary, outside}, false},
		"no link of others":                       {encap.ModeVXLAN, []uuid.UUID{a}, true},
	} {
		if got := encryptedOn(tc.mode, tc.way, peers); got != tc.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
