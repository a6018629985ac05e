package daemon

import (
	"net/netip"
	"testing"

	"github.com/google/uuid"

	"github.com/weft-net/weft/encap"
	"github.com/weft-net/weft/encap/probe"
)

func TestPathTakesWhatIsKnownUntilItIsMeasured(t *testing.T) {
	prefix := netip.MustParsePrefix("10.32.4.0/24")
	p := tunnelPeer{Peer: encap.Peer{ID: uuid.UUID{1}, Prefixes: []netip.Prefix{prefix}}, slots: map[string]theirSlot{"weft-wg": {}, "weft-w1": {}}}
	adopted := encap.Adopted{MTUs: map[encap.Hop]int{{Dst: prefix, Device: "weft-vx"}: 1350, {Dst: prefix, Device: "weft-wg"}: 1340}}
	type mtus = map[string]int
	for name, tc := range map[string]struct {
		measured mtus
		adopted  encap.Adopted
		want     mtus
	}{
		"nothing":                              {nil, encap.Adopted{}, mtus{"weft-wg": 0, "weft-w1": 0, "weft-vx": 0}},
		"what an earlier process found":        {nil, adopted, mtus{"weft-wg": 1340, "weft-w1": 0, "weft-vx": 1350}},
		"what was measured since":              {mtus{"weft-wg": 1330, "weft-vx": 0}, adopted, mtus{"weft-wg": 1330, "weft-w1": 1330, "weft-vx": 0}},
		"what the older key takes":             {mtus{"weft-wg": 1330}, encap.Adopted{}, mtus{"weft-wg": 1330, "weft-w1": 1330, "weft-vx": 0}},
		"the newer key has been measured, too": {mtus{"weft-wg": 1330, "weft-w1": 1420}, encap.Adopted{}, mtus{"weft-wg": 1330, "weft-w1": 1420}},
	} {
		quality := map[probe.Path]probe.Quality{}
		for device, mtu := range tc.measured {
			quality[probe.Path{Peer: p.ID, Device: device}] = probe.Quality{MTU: mtu}
		}
		for device, want := range tc.want {
			i := encap.Instance{Transport: encap.TransportWireGuard, Device: device}
			if device == "weft-vx" {
				i.Transport = encap.TransportVXLAN
			}
			if got := knownMTU(p, i, quality, tc.adopted); got != want {
				t.Errorf("%s: %s takes %d; want %d", name, device, got, want)
			}
		}
	}
}
