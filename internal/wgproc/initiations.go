package wgproc

import (
	"bytes"
	"net/netip"
	"slices"
	"sync"
	"time"

	"golang.zx2c4.com/wireguard/device"
)

// WireGuard's handshake has two weaknesses, which cost a link that has just come to
// work five seconds, since that is how long an end waits before it begins again.
//
// An initiation that was lost is not repeated before. So it is sent again, as it is:
// whoever has had it takes the second for a replay, and nothing comes of it.
//
// And where both ends begin at once, each answers the other's initiation, for which it
// forgets its own; both answers are for nothing. So of two initiations that cross only
// one is answered: that with the greater ephemeral key, which both ends see. The other
// one waits, and is answered after all if the first got no answer: the other end may
// not have known this one yet, or be a kernel, which answers in any case. That also
// keeps apart a peer's initiation and its answer, which the library handles in two
// goroutines, where the one can overwrite half of the other.
const (
	// againAfter is from one sending of an initiation to the next. It is no divisor of
	// a second, so that what is repeated does not meet what is begun anew: of two
	// initiations within 50 ms the second is dropped.
	againAfter = 700 * time.Millisecond
	// sendings is how often an initiation is sent at most; after the last one the
	// library begins anew.
	sendings = 7
	// heldFor is how long a peer's initiation waits for the answer to this end's: more
	// than a way there and back.
	heldFor = 500 * time.Millisecond
	// mostHeld bounds those that come from one place, since nobody has proven yet that
	// it is the peer who sends them.
	mostHeld = 4
)

// Where in an initiation the sender's index and its ephemeral key are.
const (
	indexAt     = 4
	ephemeralAt = 8
	keyLength   = 32
)

// initiations are those of this end that have had no answer yet, by where they went.
type initiations struct {
	send   func(packet []byte, to *endpoint) // once more
	accept func(batch)                       // what was held, as if it came now

	mu   sync.Mutex
	open map[netip.AddrPort]*initiation
}

type initiation struct {
	packet []byte
	to     *endpoint
	left   int         // sendings
	again  *time.Timer // until the next one
	held   [][]byte    // the peer's own
}

func newInitiations(send func([]byte, *endpoint), accept func(batch)) *initiations {
	return &initiations{send: send, accept: accept, open: map[netip.AddrPort]*initiation{}}
}

// sent is told of each datagram that leaves.
func (s *initiations) sent(packet []byte, to *endpoint) {
	if len(packet) != device.MessageInitiationSize || kindOf(packet) != device.MessageInitiationType {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forget(to.AddrPort)
	o := &initiation{packet: slices.Clone(packet), to: to, left: sendings - 1}
	o.again = time.AfterFunc(againAfter, func() { s.repeat(o) })
	s.open[to.AddrPort] = o
}

// received is told of each datagram that comes, and whether it may be handled now.
func (s *initiations) received(packet []byte, from netip.AddrPort) bool {
	switch {
	case len(packet) == device.MessageInitiationSize && kindOf(packet) == device.MessageInitiationType:
		return s.begun(packet, from)
	case len(packet) == device.MessageResponseSize && kindOf(packet) == device.MessageResponseType:
		s.answered(packet, from)
	}
	return true
}

func (s *initiations) answered(packet []byte, from netip.AddrPort) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if o := s.open[from]; o != nil && receiverOf(packet) == wordAt(o.packet, indexAt) {
		s.forget(from)
	}
}

// begun is told of a peer's initiation.
func (s *initiations) begun(packet []byte, from netip.AddrPort) bool {
	s.mu.Lock()
	o := s.open[from]
	if o == nil || bytes.Compare(ephemeralOf(packet), ephemeralOf(o.packet)) > 0 {
		s.forget(from)
		s.mu.Unlock()
		return true
	}
	first := len(o.held) == 0
	if len(o.held) < mostHeld {
		o.held = append(o.held, slices.Clone(packet))
	}
	s.mu.Unlock()
	if first {
		time.AfterFunc(heldFor, func() { s.give(o) })
		// Whoever begins knows this end, which it may not have when this end began.
		s.send(o.packet, o.to)
	}
	return false
}

// repeat sends an initiation once more, if it is waited for still.
func (s *initiations) repeat(o *initiation) {
	s.mu.Lock()
	waited := s.open[o.to.AddrPort] == o
	if o.left--; waited && o.left > 0 {
		o.again.Reset(againAfter)
	} else if waited {
		s.forget(o.to.AddrPort)
	}
	s.mu.Unlock()
	if waited {
		s.send(o.packet, o.to)
	}
}

// give has the peer's initiations answered for which this end's was in vain.
func (s *initiations) give(o *initiation) {
	s.mu.Lock()
	if s.open[o.to.AddrPort] != o {
		s.mu.Unlock()
		return
	}
	s.forget(o.to.AddrPort)
	s.mu.Unlock()
	s.accept(batch{from: o.to.AddrPort, packets: o.held})
}

// forgetAll is for a device that goes down, or is another process's from now on.
func (s *initiations) forgetAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for at := range s.open {
		s.forget(at)
	}
}

// forget ends the wait for an answer. The lock is held.
func (s *initiations) forget(at netip.AddrPort) {
	if o := s.open[at]; o != nil {
		o.again.Stop()
		delete(s.open, at)
	}
}

func ephemeralOf(initiation []byte) []byte {
	return initiation[ephemeralAt : ephemeralAt+keyLength]
}
