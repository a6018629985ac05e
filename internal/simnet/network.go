// Package simnet is a network without a kernel, on which many peers run in one
// process, in virtual time if the test is in a testing/synctest bubble. It is
// memberlist's mock network with what that lacks: packets that do not wait for
// their receiver, partitions, hosts that go down and come up, and a count of
// what is sent. It knows nothing of what peers say.
package simnet

import (
	"errors"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"
)

// Network is the network; all of its hosts exist from the start, since the mock
// cannot add one while it is in use.
type Network struct {
	Hosts []*Host

	mock memberlist.MockNetwork
	at   map[string]*Host
	stop chan struct{}
	wg   sync.WaitGroup

	mu    sync.Mutex
	side  map[*Host]int // hosts on different sides do not reach each other
	down  map[*Host]chan struct{}
	shut  map[*Host]bool // hosts that reach others and are not reached
	dials map[string]int // by address
}

// Host is one place in the network. It is a memberlist transport.
type Host struct {
	*memberlist.MockTransport
	Addr netip.AddrPort
	net  *Network
	out  chan packet
	sent atomic.Int64
}

type packet struct {
	to  *Host
	buf []byte
}

var errUnreachable = errors.New("no route to host")

// New makes a network of n hosts, which ends with the test.
func New(t testing.TB, n int) *Network {
	t.Helper()
	w := &Network{at: map[string]*Host{}, stop: make(chan struct{}), side: map[*Host]int{}, down: map[*Host]chan struct{}{}, shut: map[*Host]bool{}, dials: map[string]int{}}
	for range n {
		h := &Host{MockTransport: w.mock.NewTransport(""), net: w, out: make(chan packet, 1024)}
		ip, port, err := h.FinalAdvertiseAddr("", 0)
		if err != nil {
			t.Fatal(err)
		}
		addr, _ := netip.AddrFromSlice(ip.To4())
		h.Addr = netip.AddrPortFrom(addr, uint16(port))
		w.Hosts, w.at[h.Addr.String()] = append(w.Hosts, h), h
		w.wg.Go(h.carry)
	}
	t.Cleanup(func() {
		time.Sleep(time.Minute) // memberlist's own timers run out; virtual time stops with the test
		close(w.stop)
		w.wg.Wait()
	})
	return w
}

func (h *Host) carry() {
	for {
		select {
		case <-h.net.stop:
			return
		case p := <-h.out:
			_, _ = h.MockTransport.WriteTo(p.buf, p.to.Addr.String())
		}
	}
}

// Bytes of headers as on an IPv4 network: those of a datagram, those of a segment
// with so much in it, and those of the segments that open and close a stream.
const (
	datagramHeader = 28
	segmentHeader  = 52
	segment        = 1448
	streamSegments = 7 * segmentHeader
)

// Sent is how many bytes this host has sent with their headers, and received on
// the streams that it opened: what both sides of a stream said counts for who
// opened it.
func (h *Host) Sent() int64 { return h.sent.Load() }

// Sent is how many bytes all hosts have sent.
func (w *Network) Sent() (n int64) {
	for _, h := range w.Hosts {
		n += h.Sent()
	}
	return n
}

// reach is the host at an address, nil if no packet gets there now.
func (h *Host) reach(addr string, dial bool) *Host {
	w := h.net
	w.mu.Lock()
	defer w.mu.Unlock()
	if dial {
		w.dials[addr]++
	}
	if o := w.at[addr]; o != nil && !w.shut[o] && w.side[o] == w.side[h] && w.down[o] == nil && w.down[h] == nil {
		return o
	}
	return nil
}

// WriteTo sends a packet.
func (h *Host) WriteTo(b []byte, addr string) (time.Time, error) {
	h.sent.Add(int64(len(b)) + datagramHeader)
	if to := h.reach(addr, false); to != nil {
		select {
		case h.out <- packet{to, append([]byte{}, b...)}:
		default:
		}
	}
	return time.Now(), nil
}

// WriteToAddress sends a packet.
func (h *Host) WriteToAddress(b []byte, a memberlist.Address) (time.Time, error) {
	return h.WriteTo(b, a.Addr)
}

// apart tells whether what is sent to an address is lost on the way.
func (h *Host) apart(addr string) bool {
	w := h.net
	w.mu.Lock()
	defer w.mu.Unlock()
	o := w.at[addr]
	return o != nil && w.side[o] != w.side[h]
}

// DialTimeout opens a stream. A host that is down is known to be; who is cut off
// answers nothing.
func (h *Host) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	if h.reach(addr, true) == nil {
		if h.apart(addr) {
			time.Sleep(timeout)
		}
		return nil, errUnreachable
	}
	conn, err := h.MockTransport.DialTimeout(addr, timeout)
	if err != nil {
		return nil, err
	}
	h.sent.Add(streamSegments)
	return &counted{conn, &h.sent}, nil
}

// DialAddressTimeout opens a stream.
func (h *Host) DialAddressTimeout(a memberlist.Address, timeout time.Duration) (net.Conn, error) {
	return h.DialTimeout(a.Addr, timeout)
}

// counted is a stream whose bytes are counted, both ways.
type counted struct {
	net.Conn
	bytes *atomic.Int64
}

func (c *counted) count(n int) {
	c.bytes.Add(int64(n + (n+segment-1)/segment*segmentHeader))
}

func (c *counted) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.count(n)
	return n, err
}

func (c *counted) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.count(n)
	return n, err
}

// Shutdown takes the host down; what is still on its way to it is lost.
func (h *Host) Shutdown() error {
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

// Power brings a host up again.
func (h *Host) Power() {
	w := h.net
	w.mu.Lock()
	defer w.mu.Unlock()
	if up := w.down[h]; up != nil {
		close(up)
		delete(w.down, h)
	}
}

// Confine keeps everything from a host but what comes on streams that it has
// opened, as behind NAT.
func (h *Host) Confine() {
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	h.net.shut[h] = true
}

// Free ends what Confine began.
func (h *Host) Free() {
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	delete(h.net.shut, h)
}

// Cut parts the hosts from number n on from those before; 0 heals.
func (w *Network) Cut(n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i, h := range w.Hosts {
		w.side[h] = 0
		if i >= n && n > 0 {
			w.side[h] = 1
		}
	}
}

// DialsTo is how many streams were opened to a host, or tried.
func (w *Network) DialsTo(h *Host) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.dials[h.Addr.String()]
}
