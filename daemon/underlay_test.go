package daemon

import (
	"net/netip"
	"slices"
	"testing"
)

func TestOwnAddressesFollowTheInterfacesAndWhatWasGiven(t *testing.T) {
	one, two, outer := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("198.51.100.1"), netip.MustParseAddr("203.0.113.1")
	list := func(a ...netip.Addr) []netip.Addr { return a }
	for name, c := range map[string]struct{ given, forwarded, local, want []netip.Addr }{
		"nothing is given":                  {nil, nil, list(one), list(one)},
		"one of two is gone":                {list(two, one), nil, list(one), list(one)},
		"all that were given are gone":      {list(two), nil, list(one), nil},
		"a router has it":                   {list(outer), list(outer), list(one), list(one)},
		"a router has one of two":           {list(outer, one), list(outer), list(one, two), list(one)},
		"an interface has it that was down": {list(two), list(two), list(one, two), list(two)},
	} {
		local := map[netip.Addr]string{}
		for _, a := range c.local {
			local[a] = "eth"
		}
		got := renewed(c.given, c.forwarded, local, func() []netip.Addr { return list(one) })
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}
