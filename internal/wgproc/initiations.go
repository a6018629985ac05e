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
// whoever has had it takes the second for a replay. (Where the answer was lost it stays
// at five seconds.)
//
// And where both ends begin at once, each answers the other's initiation, for which it
// forgets its own; both answers are for nothing. So of two initiations that cross, that
// with the greater ephemeral key, which both ends see, is answered at once. The other
// one waits, and is answered if the first got no answer: the other end may not have
// known this one yet, or be a kernel, which answers in any case. That also keeps apart a
// peer's initiation and its answer, which the library handles in two goroutines, where
// the one can overwrite half of the other.
const (
	// againAfter is from one sending of an initiation to the next. It is no divisor of
	// a second, so that what is repeated does not meet what is begun anew: of two
	// initiations within 20 ms the second is dropped.
	againAfter = 700 * time.Millisecond
	// sendings is how often an initiation is sent at most; after the last one the
	// library begins anew.
	sendings = 8
	// heldFor is how long a peer's initiation waits for the answer to this end's: more
	// than a way there and back.
	heldFor = 500 * time.Millisecond
	// mostHeld bounds those that come from one place, since nobody has proven yet that
	// it is the peer who sends them.
	mostHeld = 4
	// Copies of an initiation can come together, when a neighbour is found for which the
	// kernel has kept them. The library, which handles them in two goroutines, may answer
	// both, and forget the first. So for a moment copies of the last few are dropped.
	together = 100 * time.Millisecond
	few      = 16
)

// Where in an initiation the sender's index and its ephemeral key are.
const (
	indexAt     = 4
	ephemeralAt = 8
)

// initiations are those of this end that have had no answer yet, by where they went.
type initiations struct {
	send   func(packet []byte, to *endpoint) // once more
	accept func(batch)                       // what was held, as if it came now

	mu   sync.Mutex
	open map[netip.AddrPort]*initiation
	last [few]handled // of others
	next int          // in last
}

// handled is an initiation that the library got.
type handled struct {
	packet [device.MessageInitiationSize]byte
	at     time.Time
}

type initiation struct {
	packet []byte
	to     *endpoint
	sent   int         // how often
	again  *time.Timer // until the next time
	held   batch       // the peer's own
}

func newInitiations(send func([]byte, *endpoint), accept func(batch)) *initiations {
	return &initiations{send: send, accept: accept, open: map[netip.AddrPort]*initiation{}}
}

func isInitiation(packet []byte) bool {
	return len(packet) == device.MessageInitiationSize && kindOf(packet) == device.MessageInitiationType
}

func isResponse(packet []byte) bool {
	return len(packet) == device.MessageResponseSize && kindOf(packet) == device.MessageResponseType
}

// sent is told of each datagram that leaves. Who answers a peer's initiation has
// forgotten the own one.
func (s *initiations) sent(packet []byte, to *endpoint) {
	if !isInitiation(packet) && !isResponse(packet) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forget(to.AddrPort)
	if isInitiation(packet) {
		o := &initiation{packet: slices.Clone(packet), to: to, sent: 1}
		o.again = time.AfterFunc(againAfter, func() { s.repeat(o) })
		s.open[to.AddrPort] = o
	}
}

// received is told of each datagram that comes, and whether it may be handled now.
func (s *initiations) received(packet []byte, from *endpoint) bool {
	switch {
	case isInitiation(packet):
		return s.begun(packet, from)
	case isResponse(packet):
		s.answered(packet)
	}
	return true
}

// answered is told of an answer, which may come from elsewhere.
func (s *initiations) answered(packet []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for at, o := range s.open {
		if receiverOf(packet) == wordAt(o.packet, indexAt) {
			s.forget(at)
		}
	}
}

// begun is told of a peer's initiation.
func (s *initiations) begun(packet []byte, from *endpoint) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.open[from.AddrPort]
	if o == nil || bytes.Compare(ephemeralOf(packet), ephemeralOf(o.packet)) > 0 {
		return s.isNew(packet)
	}
	first := len(o.held.packets) == 0
	same := func(other []byte) bool { return bytes.Equal(packet, other) }
	if len(o.held.packets) < mostHeld && !slices.ContainsFunc(o.held.packets, same) {
		o.held.from, o.held.packets = from, append(o.held.packets, slices.Clone(packet))
	}
	if first {
		time.AfterFunc(heldFor, func() { s.give(o) })
		o.again.Reset(together) // whoever begins knows this end, which it may not have when this end began
	}
	return false
}

// isNew notes an initiation that the library gets, unless it is a copy. The lock is held.
func (s *initiations) isNew(packet []byte) bool {
	now := time.Now()
	for i := range s.last {
		if l := &s.last[i]; bytes.Equal(l.packet[:], packet) && now.Sub(l.at) < together {
			return false
		}
	}
	s.last[s.next] = handled{[device.MessageInitiationSize]byte(packet), now}
	s.next = (s.next + 1) % few
	return true
}

// repeat sends an initiation once more, if it is waited for still. The last sending is
// waited for as long as the others.
func (s *initiations) repeat(o *initiation) {
	s.mu.Lock()
	waited := s.open[o.to.AddrPort] == o
	last := o.sent == sendings
	switch {
	case waited && !last:
		o.sent++
		o.again.Reset(againAfter)
	case waited && len(o.held.packets) == 0:
		s.forget(o.to.AddrPort)
	}
	s.mu.Unlock()
	if waited && !last {
		s.send(o.packet, o.to)
	}
}

// give has the peer's initiations answered for which this end's was in vain.
func (s *initiations) give(o *initiation) {
	s.mu.Lock()
	waited, held := s.open[o.to.AddrPort] == o, o.held
	o.held = batch{}
	if waited && o.sent == sendings {
		s.forget(o.to.AddrPort)
	}
	s.mu.Unlock()
	if waited {
		s.accept(held)
	}
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
	return initiation[ephemeralAt : ephemeralAt+device.NoisePublicKeySize]
}
