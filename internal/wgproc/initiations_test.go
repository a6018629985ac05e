package wgproc

import (
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.zx2c4.com/wireguard/device"
)

var there = newEndpoint(netip.MustParseAddrPort("192.0.2.2:6785"))

// sized is a message with the length that its kind has.
func sized(size int, message []byte) []byte {
	b := make([]byte, size)
	copy(b, message)
	return b
}

func initiationOf(index uint32, ephemeral byte) []byte {
	b := sized(device.MessageInitiationSize, message(device.MessageInitiationType, index))
	b[ephemeralAt] = ephemeral
	return b
}

func responseTo(index uint32) []byte {
	return sized(device.MessageResponseSize, message(device.MessageResponseType, 99, index))
}

// watched are initiations, with a note of what they have sent and let in since the start.
func watched() (s *initiations, seen func() string) {
	var mu sync.Mutex
	var words []string
	start := time.Now()
	note := func(word string) {
		mu.Lock()
		defer mu.Unlock()
		words = append(words, word+" "+time.Since(start).String())
	}
	s = newInitiations(func([]byte, *endpoint) { note("sent") }, func(b batch) {
		for range b.packets {
			note("let in")
		}
	})
	return s, func() string {
		mu.Lock()
		defer mu.Unlock()
		return strings.Join(words, ", ")
	}
}

func TestInitiationsAreSentAgainUntilAnswered(t *testing.T) {
	const whole = "sent 700ms, sent 1.4s, sent 2.1s, sent 2.8s, sent 3.5s, sent 4.2s, sent 4.9s"
	for name, c := range map[string]struct {
		meanwhile func(*initiations)
		want      string
	}{
		"no answer":            {func(*initiations) {}, whole},
		"an answer":            {func(s *initiations) { s.received(responseTo(7), there) }, "sent 700ms"},
		"an answer to another": {func(s *initiations) { s.received(responseTo(8), there) }, whole},
		"an answer from elsewhere": {func(s *initiations) {
			s.received(responseTo(7), newEndpoint(netip.MustParseAddrPort("192.0.2.3:6785")))
		}, "sent 700ms"},
		"an answer to the peer's own": {func(s *initiations) {
			if !s.received(initiationOf(5, 99), there) {
				t.Error("the greater one is not handled")
			}
			s.sent(responseTo(5), there)
		}, "sent 700ms"},
		"a peer's own that gets no answer, which anybody may have made up": {func(s *initiations) { s.received(initiationOf(5, 99), there) }, whole},
		"the device goes down": {(*initiations).forgetAll, "sent 700ms"},
		"one begun anew": {func(s *initiations) { s.sent(initiationOf(8, 9), there) },
			"sent 700ms, sent 1.7s, sent 2.4s, sent 3.1s, sent 3.8s, sent 4.5s, sent 5.2s, sent 5.9s"},
		"a datagram as long": {func(s *initiations) {
			s.sent(sized(device.MessageInitiationSize, message(device.MessageTransportType, 8)), there)
		}, whole},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, seen := watched()
				s.sent(initiationOf(7, 9), there)
				time.Sleep(time.Second)
				c.meanwhile(s)
				time.Sleep(time.Minute)
				if got := seen(); got != c.want {
					t.Errorf("got:  %s\nwant: %s", got, c.want)
				}
			})
		})
	}
}

func TestOfTwoInitiationsThatCrossTheLesserOneWaits(t *testing.T) {
	const repeats = ", sent 800ms, sent 1.5s, sent 2.2s, sent 2.9s, sent 3.6s, sent 4.3s"
	for name, c := range map[string]struct {
		own, other byte // their ephemeral keys begin so
		meanwhile  func(*initiations)
		handled    bool
		want       string
	}{
		"the other's is greater": {own: 1, other: 2, handled: true, meanwhile: func(s *initiations) { s.sent(responseTo(5), there) }},
		"the other's is lesser, and this one's is answered": {own: 2, other: 1,
			meanwhile: func(s *initiations) { s.received(responseTo(7), there) }},
		"the other's is lesser, and this one's is answered when it is sent again": {own: 2, other: 1, meanwhile: func(s *initiations) {
			time.Sleep(200 * time.Millisecond)
			s.received(responseTo(7), there)
		}, want: "sent 100ms"},
		"the other's is lesser, and nothing helps": {own: 2, other: 1, want: "sent 100ms, let in 500ms" + repeats},
		"the other's is lesser, and answered then": {own: 2, other: 1, meanwhile: func(s *initiations) {
			time.Sleep(600 * time.Millisecond)
			s.sent(responseTo(5), there)
		}, want: "sent 100ms, let in 500ms"},
		"the other's is lesser, and sent more often": {own: 2, other: 1, meanwhile: func(s *initiations) {
			s.received(initiationOf(5, 1), there)
			s.received(initiationOf(5, 1), there)
		}, want: "sent 100ms, let in 500ms" + repeats},
		"there are more than a peer sends": {own: 2, other: 1, meanwhile: func(s *initiations) {
			for i := range uint32(9) {
				s.received(initiationOf(10+i, 1), there)
			}
		}, want: "sent 100ms, " + strings.Join(slices.Repeat([]string{"let in 500ms"}, mostHeld), ", ") + repeats},
		"the device goes down": {own: 2, other: 1, meanwhile: (*initiations).forgetAll},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, seen := watched()
				s.sent(initiationOf(7, c.own), there)
				if handled := s.received(initiationOf(5, c.other), there); handled != c.handled {
					t.Errorf("handled at once: %v", handled)
				}
				if c.meanwhile != nil {
					c.meanwhile(s)
				}
				time.Sleep(time.Minute)
				if got := seen(); got != c.want {
					t.Errorf("got:  %s\nwant: %s", got, c.want)
				}
				if !s.received(initiationOf(6, 0), there) || len(s.open) > 0 {
					t.Error("one that comes later is not handled")
				}
			})
		})
	}
}

// An initiation that crosses the last sending of this end's is held, and answered.
func TestInitiationIsHeldToTheEndOfTheWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, seen := watched()
		s.sent(initiationOf(7, 2), there)
		time.Sleep((sendings-1)*againAfter + 300*time.Millisecond)
		if s.received(initiationOf(5, 1), there) {
			t.Error("it is not held")
		}
		time.Sleep(time.Minute)
		if got := seen(); !strings.HasSuffix(got, "sent 4.9s, let in 5.7s") || len(s.open) > 0 {
			t.Errorf("got: %s", got)
		}
	})
}

func TestCopiesOfAnInitiationThatComeTogetherAreHandledOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := watched()
		handled := 0
		for range 3 {
			for i := range uint32(few) {
				if s.received(initiationOf(i, 1), there) {
					handled++
				}
			}
		}
		if handled != few {
			t.Errorf("%d of %d are handled", handled, few)
		}
		time.Sleep(together) // the peer may not have been known then
		if !s.received(initiationOf(0, 1), there) {
			t.Error("one that is repeated later is not handled")
		}
	})
}

// begin has both ends begin a session at once, as if there had been none.
func begin(a, b *side) {
	var both sync.WaitGroup
	for _, ends := range [][2]*side{{a, b}, {b, a}} {
		s, other := ends[0], ends[1]
		s.configure("public_key=" + other.publicKey() + "\nremove=true\n")
		s.configure(other.asPeer())
	}
	for _, ends := range [][2]*side{{a, b}, {b, a}} {
		both.Go(func() { ends[0].configure(ends[1].keepalive()) })
	}
	both.Wait()
}

// sessionAfter is how long it takes until packets pass.
func sessionAfter(a, b *side) time.Duration {
	start := time.Now()
	for {
		if _, err := a.try("ping -c 1 -W 0.2 %s", b.inside); err == nil || time.Since(start) > 20*time.Second {
			return time.Since(start)
		}
	}
}

func TestBothEndsBeginAtOnceAndHaveASessionAtOnce(t *testing.T) {
	a, b := pair(t, false)
	lengthen(t, a, b, 50*time.Millisecond, func([]byte) bool { return true })
	for range 5 {
		begin(a, b)
		// The library alone takes five seconds for the next attempt.
		if took := sessionAfter(a, b); took > 4*time.Second {
			t.Errorf("a session after %s", took)
		}
	}
}

func TestSessionBeginsSoonAfterTheWayIsThere(t *testing.T) {
	a, b := pair(t, false)
	var cut atomic.Bool
	lengthen(t, a, b, time.Millisecond, func([]byte) bool { return !cut.Load() })
	for _, out := range []time.Duration{300 * time.Millisecond, 1500 * time.Millisecond} {
		cut.Store(true)
		begin(a, b)
		time.Sleep(out)
		cut.Store(false)
		// The library alone would begin again five seconds after the first time.
		if took := sessionAfter(a, b); took > 5*time.Second-out-500*time.Millisecond {
			t.Errorf("cut for %s: a session after %s", out, took)
		}
	}
}

func TestSessionBeginsWhereOneOfTwoInitiationsIsLost(t *testing.T) {
	a, b := pair(t, false)
	const none = -1
	var lost atomic.Int64 // the index in the one that is lost, with its copies
	lengthen(t, a, b, time.Millisecond, func(packet []byte) bool {
		if kindOf(packet) != device.MessageInitiationType {
			return true
		}
		index := int64(wordAt(packet, indexAt))
		lost.CompareAndSwap(none, index)
		return index != lost.Load()
	})
	for range 4 { // in about half of them the one that is lost is the greater
		lost.Store(none)
		begin(a, b)
		if took := sessionAfter(a, b); took > 4*time.Second {
			t.Errorf("a session after %s", took)
		}
	}
}
