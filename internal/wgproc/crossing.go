package wgproc

import (
	"bytes"
	"net/netip"
	"sync"
	"time"

	"golang.zx2c4.com/wireguard/conn"
	"golang.zx2c4.com/wireguard/device"
)

// crossing sees to it that of two ends that begin a session at the same moment only
// one does. WireGuard's library handles an initiation and a response of one peer in
// two goroutines, each of which may overwrite what the other has half done: the
// session has an index then that the other end does not know, and what that end sends
// is lost until the next one is begun, seconds later. After a link was cut both ends
// try every five seconds, so that they meet often. Both see both initiations, so that
// they agree without a word: that with the smaller ephemeral key goes on.
type crossing struct {
	mu    sync.Mutex
	begun map[netip.AddrPort]initiation
}

// initiation is one that this end has sent, and that was not answered yet.
type initiation struct {
	at  time.Time
	key [ephemeralLen]byte
}

const (
	// crossTime is how long an initiation may be on its way there, and another one
	// here: of ends that are farther away both go on. It has to be short, since the
	// one that was sent may be lost.
	crossTime = 250 * time.Millisecond
	// Where the ephemeral key is in an initiation.
	ephemeralAt, ephemeralLen = 8, 32
)

func newCrossing() *crossing { return &crossing{begun: map[netip.AddrPort]initiation{}} }

// sent notes a datagram that leaves.
func (c *crossing) sent(packet []byte, to netip.AddrPort, now time.Time) {
	if kindOf(packet) != device.MessageInitiationType || len(packet) != device.MessageInitiationSize {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for at, b := range c.begun {
		if now.Sub(b.at) > crossTime {
			delete(c.begun, at)
		}
	}
	c.begun[to] = initiation{now, [ephemeralLen]byte(packet[ephemeralAt:])}
}

// received sets the size of initiations that give way to 0.
func (c *crossing) received(bufs [][]byte, sizes []int, eps []conn.Endpoint, now time.Time) {
	for i, size := range sizes {
		if kind := kindOf(bufs[i][:size]); kind != device.MessageInitiationType && kind != device.MessageResponseType {
			continue
		}
		if c.givesWay(bufs[i][:size], eps[i].(*endpoint).AddrPort, now) {
			sizes[i] = 0 // the other end answers this one's
		}
	}
}

// givesWay tells whether an initiation has crossed one of this end that goes on. It
// forgets what is answered.
func (c *crossing) givesWay(packet []byte, from netip.AddrPort, now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	own, ok := c.begun[from]
	if kindOf(packet) == device.MessageResponseType {
		delete(c.begun, from)
		return false
	}
	return ok && now.Sub(own.at) <= crossTime && len(packet) == device.MessageInitiationSize &&
		bytes.Compare(own.key[:], packet[ephemeralAt:][:ephemeralLen]) < 0
}
