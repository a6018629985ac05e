package encap

import (
	"fmt"
	"net"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"
	"pgregory.net/rapid"

	"github.com/weft-net/weft/internal/nl"
)

// selfWG is this host as a WireGuard driver is told of it.
var selfWG = Local{ID: uuid.UUID{1}, Device: "weft-wg", Underlay: addr("192.0.2.1"), Source: addr("10.32.0.1"), Port: 6785, Key: PrivateKey{1}}

// keyed gives drawn peers keys, a few of which are none, this host's, or
// another's.
func keyed(t *rapid.T) []Peer {
	peers := anyPeers(t)
	for i := range peers {
		peers[i].Key = PublicKey{peers[i].ID[0]}
		if rapid.IntRange(0, 5).Draw(t, "odd key") == 0 {
			peers[i].Key = rapid.SampledFrom([]PublicKey{{}, {3}, selfWG.Key.Public()}).Draw(t, "key")
		}
	}
	return peers
}

func TestWireGuardPlanOfOnePeerIsAnEndAndARouteForEachPrefix(t *testing.T) {
	id, key := uuid.UUID{2}, PublicKey{2}
	p := planWireGuard(selfWG, []Peer{{ID: id, Underlay: addr("192.0.2.2"), Prefixes: prefixes("10.40.0.0/13", "10.36.0.0/16"), Key: key}})
	want := planWG{
		ends: []tunnelEnd{{id, key, []netip.AddrPort{netip.MustParseAddrPort("192.0.2.2:6785")}, prefixes("10.40.0.0/13", "10.36.0.0/16"), 0}},
		routes: []nl.Route{
			{Dst: prefixes("10.40.0.0/13")[0], Src: addr("10.32.0.1")},
			{Dst: prefixes("10.36.0.0/16")[0], Src: addr("10.32.0.1")},
		},
		links: []Link{{Peer: id, Device: "weft-wg", Underlay: addr("192.0.2.2")}},
	}
	if !reflect.DeepEqual(p, want) {
		t.Errorf("plan:\n%+v\nwant:\n%+v", p, want)
	}
}

func TestPeerWithoutAKeyOfItsOwnHasNoEnd(t *testing.T) {
	first := Peer{ID: uuid.UUID{2}, Underlay: addr("192.0.2.2"), Prefixes: prefixes("10.40.0.0/16"), Key: PublicKey{7}}
	for name, key := range map[string]PublicKey{"no key": {}, "WireGuard key": selfWG.Key.Public(), "another peer's": {7}} {
		p := planWireGuard(selfWG, []Peer{{ID: uuid.UUID{3}, Underlay: addr("192.0.2.3"), Prefixes: prefixes("10.36.0.0/16"), Key: key}, first})
		if len(p.ends) != 1 || p.links[0].Reason != "" || !strings.Contains(p.links[1].Reason, "WireGuard key") && !strings.Contains(p.links[1].Reason, "another peer's") {
			t.Errorf("%s: %+v", name, p.links)
		}
	}
}

func TestWireGuardPlanDependsOnThePeersAndNotOnTheirOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		peers := keyed(t)
		p := planWireGuard(selfWG, peers)
		if q := planWireGuard(selfWG, rapid.Permutation(peers).Draw(t, "order")); !reflect.DeepEqual(p, q) {
			t.Fatalf("another order gives another plan:\n%+v\n%+v", p, q)
		}
	})
}

func TestEachAddressHasOneEndAndNoTunnelLeadsIntoATunnel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := planWireGuard(selfWG, keyed(t))
		keys, owner := map[PublicKey]bool{{}: true, selfWG.Key.Public(): true}, map[netip.Prefix]PublicKey{}
		for _, end := range p.ends {
			if keys[end.key] {
				t.Fatalf("two ends have key %s", end.key)
			}
			keys[end.key] = true
			for _, prefix := range end.allowed {
				for other, key := range owner {
					if other.Overlaps(prefix) && key != end.key && other.IsSingleIP() == prefix.IsSingleIP() {
						t.Fatalf("%s and %s are of two ends", other, prefix)
					}
				}
				owner[prefix] = end.key
			}
		}
		for _, r := range p.routes {
			if _, ok := owner[r.Dst]; !ok || r.Dst.Contains(selfWG.Underlay) {
				t.Fatalf("route %+v leads nowhere, or covers the underlay", r)
			}
			for _, end := range p.ends {
				if r.Dst.Contains(end.endpoints[0].Addr()) {
					t.Fatalf("route %+v covers endpoint %s", r, end.endpoints)
				}
			}
		}
	})
}

// apply does to a device what WireGuard does with a configuration.
func apply(dev *wgtypes.Device, c *wgtypes.Config) {
	if c == nil {
		return
	}
	if c.PrivateKey != nil {
		dev.PrivateKey = *c.PrivateKey
	}
	if c.ListenPort != nil {
		dev.ListenPort = *c.ListenPort
	}
	for _, change := range c.Peers {
		i := slices.IndexFunc(dev.Peers, func(p wgtypes.Peer) bool { return p.PublicKey == change.PublicKey })
		switch {
		case change.Remove:
			dev.Peers = slices.Delete(dev.Peers, i, i+1)
			continue
		case i < 0 && change.UpdateOnly:
			continue
		case i < 0:
			dev.Peers = append(dev.Peers, wgtypes.Peer{PublicKey: change.PublicKey})
			i = len(dev.Peers) - 1
		}
		p := &dev.Peers[i]
		if change.Endpoint != nil {
			p.Endpoint = change.Endpoint
		}
		if change.PersistentKeepaliveInterval != nil {
			p.PersistentKeepaliveInterval = *change.PersistentKeepaliveInterval
		}
		if change.ReplaceAllowedIPs {
			p.AllowedIPs = nil
		}
		for _, n := range change.AllowedIPs { // each is of one peer only
			for j := range dev.Peers {
				dev.Peers[j].AllowedIPs = slices.DeleteFunc(dev.Peers[j].AllowedIPs, func(o net.IPNet) bool { return o.String() == n.String() })
			}
			p.AllowedIPs = append(p.AllowedIPs, n)
		}
	}
}

func TestChangesBringAnyDeviceToThePlanAndThenThereAreNone(t *testing.T) {
	now := time.Now()
	rapid.Check(t, func(t *rapid.T) {
		dev := &wgtypes.Device{}
		searches := map[PublicKey]search{}
		for range 4 {
			ends := planWireGuard(selfWG, keyed(t)).ends
			apply(dev, ownChanges(selfWG, dev))
			apply(dev, peerChanges(selfWG.Key.Public(), ends, dev, searches, now))
			apply(dev, peerChanges(selfWG.Key.Public(), ends, dev, searches, now)) // keepalives of new peers
			if c := ownChanges(selfWG, dev); c != nil {
				t.Fatalf("still differs: %+v", c)
			}
			if c := peerChanges(selfWG.Key.Public(), ends, dev, searches, now); c != nil {
				t.Fatalf("still differs: %+v", c.Peers)
			}
			if len(dev.Peers) != len(ends) {
				t.Fatalf("%d peers of %d", len(dev.Peers), len(ends))
			}
		}
	})
}

func TestPrivateKeyIsNotPrinted(t *testing.T) {
	k := newKey(t)
	if got := strings.ToLower(strings.Join([]string{fmt.Sprintf("%v", k), fmt.Sprintf("%x", k), fmt.Sprintf("%+v", Local{Key: k}), fmt.Sprintf("%s", k)}, " ")); strings.Count(got, "private key") != 4 {
		t.Errorf("printed as %s", got)
	}
}
