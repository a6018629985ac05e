package e2e

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/weft-net/weft/api"
	"github.com/weft-net/weft/internal/netlab"
)

func tokenOf(t *testing.T, h *netlab.Host) string {
	t.Helper()
	var tok api.Token
	if err := json.Unmarshal([]byte(h.Run("weft", "token", "show", "-o", "json")), &tok); err != nil {
		t.Fatal(err)
	}
	return tok.Token
}

func TestTokenIsChangedWhileContainersTalk(t *testing.T) {
	lab, hosts := launched(t, 4)
	away := hosts[3]
	away.Run("weft", "stop")
	netlab.Eventually(t, "it is missed by all", func() bool {
		for _, h := range hosts[:3] {
			if stateOf(status(t, h), away.Name) != "failed" {
				return false
			}
		}
		return true
	})
	a, _ := attached(t, hosts[0], "a")
	_, addr := attached(t, hosts[2], "c")
	old := tokenOf(t, hosts[0])
	check := pinging(t, a, addr, "across a change of the token")
	r := hosts[1].Try("weft", "token", "rotate", "--yes")
	if r.Code != 0 || !strings.Contains(r.Stdout, "weft launch --join") || strings.Contains(r.Stdout, old) || !strings.Contains(r.Stderr, away.Name+" did not answer") {
		t.Fatalf("rotate: %+v", r)
	}
	fresh := tokenOf(t, hosts[1])
	for _, h := range hosts[:3] {
		if got := tokenOf(t, h); got != fresh {
			t.Errorf("%s has another token", h.Name)
		}
	}
	check()

	newcomer := lab.Host("newcomer")
	refuses(t, newcomer, 1, "secret is not this mesh's", "weft", "launch", "--join", hosts[0].Addr.String(), "--token", old)
	newcomer.Run("weft", "launch", "--join", hosts[0].Addr.String(), "--token", fresh)

	// Who was away is told by hand, and an old token in a unit file does no harm.
	if r := away.Try("weft", "launch"); r.Code != 0 || !strings.Contains(r.Stderr, "no host of the mesh lets this one in") || !warns(t, away, "refused-by-mesh") {
		t.Errorf("a host that missed the change is told: %+v", r)
	}
	away.Run("weft", "stop")
	away.Run("weft", "launch", "--token", fresh)
	kill9(t, hosts[0])
	hosts[0].Run("weft", "launch", "--token", old)
	newcomer.Run("weft", "stop")
	if r := newcomer.Try("weft", "launch", "--token", old); r.Code != 0 || !strings.Contains(r.Stderr, "keep the token") || tokenOf(t, newcomer) != fresh {
		t.Errorf("an old token, given to a host that never had it: %+v", r)
	}
	for _, h := range append(hosts, newcomer) {
		netlab.Eventually(t, h.Name+" sees all five", func() bool {
			n := 0
			for _, p := range status(t, h).Peers {
				if p.State == "alive" {
					n++
				}
			}
			return n == 5
		})
	}
}

func TestRevokedHostIsOutForGood(t *testing.T) {
	_, hosts := launched(t, 3)
	stolen := hosts[2]
	c, addr := attached(t, stolen, "c")
	a, _ := attached(t, hosts[0], "a")
	mustPing(t, a, addr, "before")
	hosts[0].Run("weft", "rmpeer", "--yes", "--revoke", stolen.Name)
	if netlab.Pings(a, addr) || netlab.Pings(c, status(t, hosts[0]).Bridge.Gateway.Addr().String()) {
		t.Error("packets pass between a revoked host and the others")
	}
	// Gossip takes some seconds to see that it is out: else it would not be seen to come back.
	netlab.Eventually(t, "the revoked host is alive no more", func() bool { return stateOf(status(t, hosts[0]), stolen.Name) != "alive" })
	kill9(t, stolen)
	stolen.Try("weft", "launch", "--timeout", "5s")
	if got := stateOf(status(t, hosts[0]), stolen.Name); got == "alive" {
		t.Error("a revoked host is back")
	}
	if netlab.Pings(a, addr) {
		t.Error("packets pass to a revoked host")
	}
}

// The first host to launch is the only voter of two, and an observer has nothing in the
// address plan: neither keeps a revocation from being done.
func TestTheOnlyVoterAndAnObserverAreRevoked(t *testing.T) {
	lab, hosts := launched(t, 2)
	voter, stays := hosts[0], hosts[1]
	observer := lab.Host("observer")
	observer.Run("weft", "launch", "--observer", "--join", stays.Addr.String(), "--token", tokenOf(t, stays))
	old := tokenOf(t, stays)
	for _, gone := range []*netlab.Host{observer, voter} {
		stays.Run("weft", "rmpeer", "--yes", "--revoke", gone.Name)
		fresh := tokenOf(t, stays)
		if fresh == old || tokenOf(t, gone) != old {
			t.Fatalf("after %s was revoked: the token is the old one, or %s has another", gone.Name, gone.Name)
		}
		gone.Run("weft", "stop")
		old = fresh
	}
	if p := status(t, stays).IPAM; len(p.Voters) != 1 || p.Voters[0] != stays.Name || len(p.Shares) != 1 || len(p.Pending) != 0 {
		t.Errorf("the voters are %v, the shares %v, and pending are %v", p.Voters, p.Shares, p.Pending)
	}
}
