package encap

import (
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// ends of a link on one segment, which can do everything.
func trustingEnds(own, peer string) (End, End) {
	trusts := func(list string) []string {
		if list == "" {
			return nil
		}
		return strings.Split(list, ",")
	}
	return End{"h1", addr("192.0.2.1"), prefixes(trusts(own)...), fastestFirst}, End{"h2", addr("192.0.2.2"), prefixes(trusts(peer)...), fastestFirst}
}

func allowed(verdicts []Verdict) (out []string) {
	for _, v := range verdicts {
		if v.Allowed {
			out = append(out, v.Transport)
		}
	}
	return out
}

func TestPolicyOfEachMode(t *testing.T) {
	const segment, both = "192.0.2.0/24", "192.0.2.1/32,192.0.2.2/32"
	for _, tc := range []struct {
		mode      Mode
		own, peer string // trusted subnets
		onSegment bool
		want      string
	}{
		{ModeAuto, "", "", true, "wireguard"},
		{ModeAuto, segment, "", true, "wireguard"},
		{ModeAuto, "", segment, true, "wireguard"},
		{ModeAuto, segment, segment, true, "direct vxlan wireguard"},
		{ModeAuto, segment, both, true, "direct vxlan wireguard"},
		{ModeAuto, segment, segment, false, "vxlan wireguard"},
		{ModeAuto, segment, "192.0.2.1/32", true, "wireguard"}, // its own address is missing
		{ModeAuto, segment, "192.0.2.2/32", true, "wireguard"},
		{ModeAuto, "192.0.2.2/32", segment, true, "wireguard"},
		{ModeWireGuard, segment, segment, true, "wireguard"},
		{ModeVXLAN, "", "", true, "vxlan"},
		{ModeDirect, "", "", true, "direct vxlan"},
		{ModeDirect, "", "", false, "vxlan"},
	} {
		own, peer := trustingEnds(tc.own, tc.peer)
		verdicts := Policy(tc.mode, own, peer, tc.onSegment)
		if got := strings.Join(allowed(verdicts), " "); got != tc.want {
			t.Errorf("%s, %q and %q trusted, one segment %v: %s; want %s", tc.mode, tc.own, tc.peer, tc.onSegment, got, tc.want)
		}
		for _, v := range verdicts {
			if v.Why == "" {
				t.Errorf("no reason for %+v", v)
			}
		}
	}
}

func TestPolicySaysWhatIsMissing(t *testing.T) {
	own, peer := trustingEnds("192.0.2.0/24", "192.0.2.0/24")
	own.Can, peer.Can = []string{TransportDirect, TransportWireGuard}, []string{TransportVXLAN}
	got := map[string]string{}
	for _, v := range Policy(ModeAuto, own, peer, false) {
		if v.Allowed {
			t.Errorf("allowed: %+v", v)
		}
		got[v.Transport] = v.Why
	}
	if got[TransportVXLAN] != "this host cannot do it" || got[TransportWireGuard] != "h2 does not offer it" || got[TransportDirect] != "h2 does not offer it" {
		t.Errorf("%v", got)
	}
	own, peer = trustingEnds("192.0.2.0/24", "192.0.2.1/32")
	if got := Untrusted(own, peer); got != "192.0.2.2 is in none of the trusted subnets of h2" {
		t.Errorf("%s", got)
	}
}

func TestBothEndsOfALinkAgreeOnWhatIsInTheClear(t *testing.T) {
	subnets := rapid.SliceOfN(rapid.SampledFrom(prefixes("192.0.2.0/24", "192.0.2.1/32", "192.0.2.2/32", "0.0.0.0/0", "198.51.100.0/24")), 0, 3)
	rapid.Check(t, func(t *rapid.T) {
		a := End{"a", addr("192.0.2.1"), subnets.Draw(t, "a trusts"), fastestFirst}
		b := End{"b", addr("192.0.2.2"), subnets.Draw(t, "b trusts"), fastestFirst}
		mode := rapid.SampledFrom(Modes).Draw(t, "mode")
		segment := rapid.Bool().Draw(t, "segment")
		here, there := allowed(Policy(mode, a, b, segment)), allowed(Policy(mode, b, a, segment))
		if !slices.Equal(here, there) {
			t.Fatalf("%s: a allows %v, b %v", mode, here, there)
		}
		if mode == ModeWireGuard && !slices.Equal(here, []string{TransportWireGuard}) || mode == ModeAuto && !slices.Contains(here, TransportWireGuard) {
			t.Fatalf("%s allows %v", mode, here)
		}
	})
}
