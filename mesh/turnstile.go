package mesh

import (
	"net"
	"net/netip"
	"sync"
)

// turnstile lets in so many at a time, and so many of each address that is one of a
// network.
type turnstile struct {
	most, each int

	mu  sync.Mutex
	all int
	of  map[netip.Addr]int
}

func newTurnstile(most, each int) *turnstile {
	return &turnstile{most: most, each: each, of: map[netip.Addr]int{}}
}

// enter tells whether there was room; who has entered has to leave.
func (t *turnstile) enter(from net.Addr) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	key := origin(from)
	if t.all == t.most || key.IsValid() && t.of[key] == t.each {
		return false
	}
	t.all++
	t.of[key]++
	return true
}

func (t *turnstile) leave(from net.Addr) {
	t.mu.Lock()
	defer t.mu.Unlock()
	key := origin(from)
	t.all--
	if t.of[key]--; t.of[key] == 0 {
		delete(t.of, key)
	}
}

// origin is the address alone; the zero one if it is none of a network.
func origin(from net.Addr) netip.Addr {
	at, _ := netip.ParseAddrPort(from.String())
	return at.Addr().Unmap()
}
