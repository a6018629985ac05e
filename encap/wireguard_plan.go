package encap

import (
	"bytes"
	"cmp"
	"maps"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/google/uuid"
	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"

	"github.com/weft-net/weft/internal/nl"
)

const (
	// keepalive holds NAT and firewalls between the hosts open, and has the
	// session ready before the first packet of a container needs it.
	keepalive = 25 * time.Second
	// sessionTime is how long WireGuard believes in a session
	// (REJECT_AFTER_TIME).
	sessionTime = 180 * time.Second
)

// tunnelEnd is a peer of a WireGuard device.
type tunnelEnd struct {
	peer      uuid.UUID
	key       PublicKey
	endpoints []netip.AddrPort // where it is looked for, one after the other
	allowed   []netip.Prefix   // exactly these: what else it sends is dropped
	patience  time.Duration    // see Way
}

// planWG is everything that a WireGuard device needs: for n peers n ends, and
// a route for each prefix.
type planWG struct {
	ends   []tunnelEnd
	routes []nl.Route // Device is filled in when it is known
	links  []Link
}

// planWireGuard computes the plan. Each peer's end is known by its key.
func planWireGuard(local Local, peers []Peer) planWG {
	var p planWG
	for _, j := range judge(local, peers, local.Key.Public(), keyOf) {
		if j.usable() {
			endpoints := j.peer.Endpoints
			if len(endpoints) == 0 {
				endpoints = []netip.AddrPort{netip.AddrPortFrom(j.peer.Underlay, cmp.Or(j.peer.Port, local.Port))}
			}
			p.ends = append(p.ends, tunnelEnd{j.peer.ID, j.end, endpoints, slices.Concat(local.IPv6.Both(j.peer.Carries()), j.peer.linkPrefix()), j.peer.Patience})
			p.routes = append(p.routes, routesTo(local, j.peer, hop{}, hop{})...)
		}
		p.links = append(p.links, j.link)
	}
	return p
}

func keyOf(peer Peer) (key PublicKey, reason string) {
	if peer.Key == (PublicKey{}) {
		reason = "it has said no WireGuard key"
	}
	return peer.Key, reason
}

// ownChanges is what differs between a device and this host's end of the
// tunnels; nil for nothing.
func ownChanges(local Local, have *wgtypes.Device) *wgtypes.Config {
	var c wgtypes.Config
	if key := wgtypes.Key(local.Key); have.PrivateKey != key {
		c.PrivateKey = &key
	}
	if port := int(local.Port); have.ListenPort != port {
		c.ListenPort = &port
	}
	if c.PrivateKey == nil && c.ListenPort == nil {
		return nil
	}
	return &c
}

// firstKeepalive is the interval for a peer. The first keepalive begins a
// session; of two ends that begin one at the same moment each forgets its own
// beginning for the other's, and both wait for seconds before they try again. So
// one of them, which is known by its key, begins once the other has had a moment.
func firstKeepalive(self, peer PublicKey, known bool) time.Duration {
	if !known && bytes.Compare(self[:], peer[:]) < 0 {
		return 0
	}
	return keepalive
}

// peerChanges is what differs between a device's peers and the ends of a plan;
// nil for nothing. It goes on with the searches for the peers, of which it keeps
// those that are needed.
func peerChanges(self PublicKey, ends []tunnelEnd, have *wgtypes.Device, searches map[PublicKey]search, now time.Time) *wgtypes.Config {
	there := map[PublicKey]wgtypes.Peer{}
	for _, p := range have.Peers {
		there[PublicKey(p.PublicKey)] = p
	}
	var changes []wgtypes.PeerConfig
	for _, end := range ends {
		old, known := there[end.key]
		delete(there, end.key)
		change := wgtypes.PeerConfig{PublicKey: wgtypes.Key(end.key), UpdateOnly: known}
		differs := !known
		at, set := searches[end.key].next(old, end.endpoints, end.patience, now)
		if searches[end.key] = at; set {
			change.Endpoint, differs = net.UDPAddrFromAddrPort(at.place()), true
		}
		if interval := firstKeepalive(self, end.key, known); old.PersistentKeepaliveInterval != interval {
			change.PersistentKeepaliveInterval, differs = &interval, true
		}
		missing, extra := compare(old.AllowedIPs, end.allowed)
		switch {
		case extra:
			change.ReplaceAllowedIPs, change.AllowedIPs, differs = true, toIPNets(end.allowed), true
		case len(missing) > 0:
			change.AllowedIPs, differs = toIPNets(missing), true
		}
		if differs {
			changes = append(changes, change)
		}
	}
	wanted := map[PublicKey]bool{}
	for _, end := range ends {
		wanted[end.key] = true
	}
	maps.DeleteFunc(searches, func(key PublicKey, _ search) bool { return !wanted[key] })
	for key := range there {
		changes = append(changes, wgtypes.PeerConfig{PublicKey: wgtypes.Key(key), Remove: true})
	}
	if changes == nil {
		return nil
	}
	return &wgtypes.Config{Peers: changes}
}

// compare returns which of the prefixes a peer does not have, and whether it
// has others.
func compare(have []net.IPNet, want []netip.Prefix) (missing []netip.Prefix, extra bool) {
	absent := map[netip.Prefix]bool{}
	for _, p := range want {
		absent[p] = true
	}
	for _, n := range have {
		addr, _ := netip.AddrFromSlice(n.IP)
		bits, _ := n.Mask.Size()
		p := netip.PrefixFrom(addr.Unmap(), bits)
		_, wanted := absent[p]
		extra = extra || !wanted
		delete(absent, p)
	}
	return slices.SortedFunc(maps.Keys(absent), netip.Prefix.Compare), extra
}

func toIPNets(prefixes []netip.Prefix) []net.IPNet {
	out := make([]net.IPNet, len(prefixes))
	for i, p := range prefixes {
		out[i] = net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
	}
	return out
}
