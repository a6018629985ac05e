// Package probe measures the paths to other peers: small packets that travel
// through one tunnel device, as containers' packets do, and are answered by the
// prober at the other end. It says what works, how fast, and how large a packet
// may be. Which path is taken is decided elsewhere.
package probe

import (
	"net/netip"
	"time"

	"github.com/google/uuid"
)

// Path is one way to a peer. It is comparable.
type Path struct {
	Peer   uuid.UUID
	Device string // by which its packets leave this host
}

// Target is a path that is to be measured.
type Target struct {
	Path
	Addr netip.Addr // of the peer: its gateway, or another to which the device's route leads
	MTU  int        // bytes; the most that is worth trying, headers of the probe's IP included
	// Known is what the path took when somebody else measured it, in bytes; 0 for nothing.
	// It is believed of a path that is new here, until that is measured.
	Known int
}

// Quality is what is known of a path.
type Quality struct {
	// Works tells whether probes come back. A path that was never answered does
	// not work; Sent tells it from one that was not tried yet.
	Works bool
	// Doubt tells that a path that works has not been answered for a while, and may be
	// found dead soon.
	Doubt bool
	Since time.Time     // when Works became what it is
	Heard time.Time     // the last answer; of no meaning if RTT is 0
	Sent  int           // probes, since the path is a target
	RTT   time.Duration // smoothed; 0 if nothing was ever answered
	Loss  float64       // of the last probes, 0 to 1
	MTU   int           // bytes, the largest IP packet that came through both ways, or Target.Known before any did; 0 if not known
	Every time.Duration // the longest time between two probes, at present
}
