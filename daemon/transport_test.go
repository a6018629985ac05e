package daemon

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/weft-net/weft/encap"
)

func TestOnlyTransportsThatMayComeToUseAreLookedFor(t *testing.T) {
	for _, tc := range []struct {
		mode    encap.Mode
		trusted bool
		want    []string
	}{
		{encap.ModeAuto, false, []string{"wireguard"}},
		{encap.ModeAuto, true, []string{"wireguard", "vxlan", "direct"}},
		{encap.ModeWireGuard, true, []string{"wireguard"}},
		{encap.ModeVXLAN, true, []string{"vxlan"}},
		{encap.ModeDirect, false, []string{"direct", "vxlan"}},
	} {
		var trusted []netip.Prefix
		if tc.trusted {
			trusted = append(trusted, netip.MustParsePrefix("192.0.2.0/24"))
		}
		if got := candidates(tc.mode, trusted); !slices.Equal(got, tc.want) {
			t.Errorf("%s, trusting %v: %v; want %v", tc.mode, tc.trusted, got, tc.want)
		}
	}
}

func TestTrustedSubnetsAreKeptUntilOthersAreGiven(t *testing.T) {
	net := []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
	kept := func(h HostOptions) HostOptions {
		var again HostOptions
		if err := strict.Unmarshal(encode(h), &again); err != nil {
			t.Fatal(err)
		}
		return again
	}
	first := kept(HostOptions{Trusted: net})
	if got := (HostOptions{}).or(first).Trusted; !slices.Equal(got, net) {
		t.Errorf("a later launch that says nothing trusts %v", got)
	}
	if got := kept((HostOptions{Trusted: []netip.Prefix{}}).or(first)).Trusted; len(got) != 0 {
		t.Errorf("after `none` it trusts %v", got)
	}
	o := DefaultOptions()
	o.Trusted = []netip.Prefix{netip.MustParsePrefix("192.0.2.1/24")}
	if err := o.Validate(); err == nil {
		t.Error("host bits in a trusted subnet are taken")
	}
}
