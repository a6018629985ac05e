package daemon

import (
	"net/netip"
	"testing"
	"time"

	"github.com/weft-net/weft/bridge"
	"github.com/weft-net/weft/encap"
)

func TestKernelIsLeftAloneOnlyWhereTheSameIsWantedAgainSoon(t *testing.T) {
	now := time.Now()
	want := func() desired {
		return desired{
			bridge: bridge.Config{Name: "weft", Prefixes: []netip.Prefix{netip.MustParsePrefix("10.32.0.0/16")}},
			peers:  []encap.Remote{{Peer: encap.Peer{Prefixes: []netip.Prefix{netip.MustParsePrefix("10.33.0.0/16")}}}},
		}
	}
	other := want()
	other.peers[0].Prefixes = []netip.Prefix{netip.MustParsePrefix("10.34.0.0/16")}
	ported := want()
	ported.bridge.Ports = append(ported.bridge.Ports, bridge.Port{})
	for name, c := range map[string]struct {
		made made
		want desired
		is   bool
	}{
		"the same, a moment ago":      {made{want(), now.Add(-trusted / 2)}, want(), true},
		"the same, long ago":          {made{want(), now.Add(-trusted)}, want(), false},
		"another prefix":              {made{want(), now}, other, false},
		"another port":                {made{want(), now}, ported, false},
		"nothing was made, or failed": {made{}, want(), false},
	} {
		if got := c.made.stands(c.want, now); got != c.is {
			t.Errorf("%s: %v", name, got)
		}
	}
}
