// Package encap carries traffic between hosts. Each transport is a Driver: a
// thin edge that makes the kernel follow a plan, and a pure function that
// computes the plan from the peers. Which peers there are and which prefixes
// are theirs is decided elsewhere; a driver believes what it is given.
package encap

import (
	"cmp"
	"net/netip"
	"time"

	"github.com/google/uuid"

	"github.com/weft-net/weft/internal/nl"
	"github.com/weft-net/weft/internal/ula"
)

// Local is this host's end of a transport.
type Local struct {
	ID       uuid.UUID  // of this peer
	Device   string     // name of the tunnel device
	Alias    string     // marks the device; begins with nl.AliasPrefix
	Underlay netip.Addr // this host's address that the tunnels end at
	Also     netip.Addr // another, of the other family; the zero value for none
	Port     uint16     // UDP, of this host's end and of every other that says no other
	VNI      uint32     // VXLAN network identifier
	Key      PrivateKey // of WireGuard
	MTU      int        // bytes inside of the tunnel, at most; 0 for what the underlay allows
	Source   netip.Addr // by which the host itself speaks to containers elsewhere
	IPv6     ula.Net    // where prefixes have their IPv6 counterparts; the zero value for none
	Own      ula.Ranges // in which routes are this mesh's; the zero value for all of weft's
}

// Peer is the other end of a link.
type Peer struct {
	ID       uuid.UUID
	Underlay netip.Addr     // where its tunnel ends
	VTEP     netip.Addr     // its own address on the network: the next hop to its prefixes
	Prefixes []netip.Prefix // that the address plan gives it
	// Relayed tells that another peer leads to Prefixes, and Behind are those of the
	// peers that this one leads to.
	Relayed bool
	Behind  []netip.Prefix
	// Link is the address to which this very link leads, whoever leads to Prefixes;
	// the zero value for none.
	Link netip.Addr
	Key  PublicKey // of WireGuard
	Port uint16    // UDP, where its tunnel ends; 0 for the same as here
	MTU  int       // bytes, the most that the way to it takes; 0 for what the device does
	// Endpoints are where its end of WireGuard is looked for, one after the other;
	// none for Underlay and Port alone.
	Endpoints []netip.AddrPort
	Patience  time.Duration // with that end of WireGuard; see Way
	// Metric of the routes to it: 0 for those that carry its traffic, more for
	// those by which only what is bound to the device finds its way, and less for
	// no routes at all.
	Metric int
	// MetricIPv6 is that of the routes in IPv6, where 0 and less mean the same.
	MetricIPv6 int
}

// Link is the way to one peer, as it was last set.
type Link struct {
	Peer     uuid.UUID
	Device   string
	Underlay netip.Addr
	MTU      int    // bytes
	Reason   string // why there is no usable link; "" if there is
	// Traffic is what went over the link, nil where the transport cannot tell.
	Traffic *Traffic
}

// Traffic counts bytes since the link was made, headers of the transport included.
type Traffic struct {
	Received, Sent int64
	Heard          time.Time      // when a session was last made; of WireGuard
	From           netip.AddrPort // where its other end is heard; of WireGuard
}

// and is the sum of both; nil where neither is known.
func (t *Traffic) and(other *Traffic) *Traffic {
	if t == nil || other == nil {
		return cmp.Or(t, other)
	}
	sum := Traffic{Received: t.Received + other.Received, Sent: t.Sent + other.Sent, Heard: t.Heard}
	if other.Heard.After(t.Heard) {
		sum.Heard = other.Heard
	}
	return &sum
}

// Driver carries traffic by one transport. Its methods are not safe for
// concurrent use.
type Driver interface {
	// Name of the transport, as users give it.
	Name() string
	// Up makes this host's end what local says; it adopts what is there and
	// changes only what differs.
	Up(local Local) error
	// Set makes this host's end be ready for exactly these peers, and repairs
	// whatever somebody else changed. Up comes first. Routes are the caller's.
	Set(peers []Peer) error
	// Routes lead to the peers as they were last set; none where the device is
	// missing.
	Routes() []nl.Route
	// Links are the links as they were last set, in the order of the peers' ids.
	Links() []Link
	// MTU is what fits into the tunnel, in bytes; known after Up.
	MTU() int
	// Encrypted tells whether a stranger on the underlay can neither read nor
	// forge what is carried.
	Encrypted() bool
	// Userspace tells whether each packet passes through a process, which is
	// slower than the kernel alone; known after Up.
	Userspace() bool
	// Remove takes every trace of the transport out of the kernel and says what
	// it removed. It needs no Up.
	Remove(device string) (removed []string, err error)
	// End ends the processes of the transport, and traffic with them; one that
	// the kernel carries by itself goes on. It needs no Up.
	End() error
	// Close lets go of this process's resources; traffic goes on.
	Close() error
}
