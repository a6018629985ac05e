package mesh

import (
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/hashicorp/memberlist"
)

// network is memberlist's mock network with what it lacks: packets that do not
// wait for their receiver, partitions, and hosts that go down and come up.
type network struct {
	mock  memberlist.MockNetwork
	hosts []*host
	stop  chan struct{}
	wg    sync.WaitGroup

	mu    sync.Mutex
	side  map[*host]int // hosts on different sides do not reach each other
	down  map[*host]chan struct{}
	dials map[string]int // by address
}

// host is one place in the network; a Mesh uses it as its transport.
type host struct {
	*memberlist.MockTransport
	net  *network
	addr netip.AddrPort
	out  chan packet
}

type packet struct {
	to  *host
	buf []byte
}

var errUnreachable = errors.New("no route to host")

// newNetwork has n hosts, all of them from the start: the mock cannot add one
// while it is in use.
func newNetwork(t *testing.T, n int) *network {
	t.Helper()
	w := &network{stop: make(chan struct{}), side: map[*host]int{}, down: map[*host]chan struct{}{}, dials: map[string]int{}}
	for range n {
		h := &host{MockTransport: w.mock.NewTransport(""), net: w, out: make(chan packet, 4096)}
		ip, port, err := h.FinalAdvertiseAddr("", 0)
		if err != nil {
			t.Fatal(err)
		}
		addr, _ := netip.AddrFromSlice(ip.To4())
		h.addr = netip.AddrPortFrom(addr, uint16(port))
		w.hosts = append(w.hosts, h)
		w.wg.Go(h.carry)
	}
	t.Cleanup(func() {
		time.Sleep(time.Minute) // memberlist's own timers run out; virtual time stops with the test
		close(w.stop)
		w.wg.Wait()
	})
	return w
}

func (h *host) carry() {
	for {
		select {
		case <-h.net.stop:
			return
		case p := <-h.out:
			_, _ = h.MockTransport.WriteTo(p.buf, p.to.addr.String())
		}
	}
}

// reach is the host at an address, nil if no packet gets there now.
func (h *host) reach(addr string, dial bool) *host {
	w := h.net
	w.mu.Lock()
	defer w.mu.Unlock()
	if dial {
		w.dials[addr]++
	}
	for _, o := range w.hosts {
		if o.addr.String() == addr && w.side[o] == w.side[h] && w.down[o] == nil && w.down[h] == nil {
			return o
		}
	}
	return nil
}

func (h *host) WriteTo(b []byte, addr string) (time.Time, error) {
	if to := h.reach(addr, false); to != nil {
		select {
		case h.out <- packet{to, append([]byte{}, b...)}:
		default:
		}
	}
	return time.Now(), nil
}

func (h *host) WriteToAddress(b []byte, a memberlist.Address) (time.Time, error) {
	return h.WriteTo(b, a.Addr)
}

func (h *host) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	if h.reach(addr, true) == nil {
		return nil, errUnreachable
	}
	return h.MockTransport.DialTimeout(addr, timeout)
}

func (h *host) DialAddressTimeout(a memberlist.Address, timeout time.Duration) (net.Conn, error) {
	return h.DialTimeout(a.Addr, timeout)
}

// Shutdown takes the host down; what is still on its way to it is lost.
func (h *host) Shutdown() error {
	w := h.net
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.down[h] != nil {
		return nil
	}
	up := make(chan struct{})
	w.down[h] = up
	w.wg.Go(func() {
		for {
			select {
			case <-h.PacketCh():
			case c := <-h.StreamCh():
				c.Close()
			case <-up:
				return
			case <-w.stop:
				return
			}
		}
	})
	return nil
}

// power brings a host up again.
func (w *network) power(h *host) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if up := w.down[h]; up != nil {
		close(up)
		delete(w.down, h)
	}
}

// cut parts the hosts from number n on from those before; 0 heals.
func (w *network) cut(n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i, h := range w.hosts {
		w.side[h] = 0
		if i >= n && n > 0 {
			w.side[h] = 1
		}
	}
}

func (w *network) dialsTo(h *host) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.dials[h.addr.String()]
}

// board is a Channel: a set of words that only grows.
type board struct {
	mu       sync.Mutex
	words    map[string]bool
	received []string
}

func (b *board) Name() string { return "board" }

func (b *board) State() []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	var all []string
	for w := range b.words {
		all = append(all, w)
	}
	return []byte(strings.Join(all, "\n"))
}

func (b *board) Merge(state []byte) []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	var news []string
	for w := range strings.SplitSeq(string(state), "\n") {
		if w != "" && !b.words[w] {
			b.words[w] = true
			news = append(news, w)
		}
	}
	if news == nil {
		return nil
	}
	return []byte(strings.Join(news, "\n"))
}

func (b *board) Receive(from uuid.UUID, msg []byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.received = append(b.received, from.String()+" "+string(msg))
}

func (b *board) has(w string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.words[w]
}

func (b *board) messages() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]string{}, b.received...)
}

func quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }
