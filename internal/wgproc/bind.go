package wgproc

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/conn"
)

// inspector sees every datagram while a hand-over is under way.
type inspector interface {
	// sent is called before a datagram leaves; one that is not to leave is false.
	sent(packet []byte) bool
	// received may set the size of datagrams that are not for this process to 0.
	received(bufs [][]byte, sizes []int, eps []conn.Endpoint)
}

// bind has WireGuard's UDP sockets, which can be another process's as well.
// They are kept until another port is asked for or the process ends, so that
// the port is nobody else's while the device is down for a moment.
type bind struct {
	inspect atomic.Pointer[inspector]
	passed  chan batch // what the reader of the sockets gives to this process, which is not
	begun   *initiations

	mu      sync.Mutex
	socks   []*socket
	reading bool // it is this process's turn to read
	gate    *gate
	closed  chan struct{} // ends the readers
}

// batch is datagrams from one place.
type batch struct {
	from    *endpoint
	packets [][]byte
}

var _ conn.Bind = (*bind)(nil)

// newBind makes a bind which opens sockets, or one with those that are open,
// which reads by its start.
func newBind(socks []*socket) *bind {
	b := &bind{passed: make(chan batch), socks: socks, reading: socks == nil, closed: make(chan struct{})}
	b.begun = newInitiations(b.repeat, func(held batch) { _ = b.deliver(held) }) // nobody is there for it any more
	return b
}

// Open begins to read.
func (b *bind) Open(port uint16) ([]conn.ReceiveFunc, uint16, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.gate != nil {
		return nil, 0, conn.ErrBindAlreadyOpen
	}
	if len(b.socks) == 0 || port != 0 && port != b.socks[0].port() {
		b.release()
		var err error
		if b.socks, err = listenBoth(port); err != nil {
			return nil, 0, err
		}
	}
	b.gate, b.closed = newGate(b.reading), make(chan struct{})
	fns := []conn.ReceiveFunc{b.readPassed(b.closed)}
	for _, s := range b.socks {
		s.resume()
		fns = append(fns, b.readSocket(s, b.gate))
	}
	return fns, b.socks[0].port(), nil
}

// listenBoth opens a socket of each family that the host has, of one port.
func listenBoth(port uint16) (socks []*socket, err error) {
	const tries = 100
	for range tries {
		at := port
		socks = nil
		for _, network := range []string{"udp4", "udp6"} {
			var s *socket
			if s, err = listenUDP(network, at); err != nil {
				for _, s := range socks {
					s.udp.Close()
				}
				break
			}
			if s != nil {
				at, socks = s.port(), append(socks, s)
			}
		}
		if err == nil && len(socks) == 0 {
			return nil, syscall.EAFNOSUPPORT
		}
		if port != 0 || !errors.Is(err, unix.EADDRINUSE) {
			break
		}
	}
	return socks, err
}

func (b *bind) readSocket(s *socket, g *gate) conn.ReceiveFunc {
	return func(bufs [][]byte, sizes []int, eps []conn.Endpoint) (int, error) {
		for {
			if !g.enter() {
				return 0, net.ErrClosed
			}
			n, err := s.read(bufs, sizes, eps)
			if i := b.inspect.Load(); i != nil && err == nil {
				(*i).received(bufs, sizes[:n], eps)
			}
			g.leave()
			for i, size := range sizes[:n] {
				if !b.begun.received(bufs[i][:size], eps[i].(*endpoint)) {
					sizes[i] = 0
				}
			}
			if !errors.Is(err, os.ErrDeadlineExceeded) {
				return n, err
			}
		}
	}
}

func (b *bind) readPassed(closed <-chan struct{}) conn.ReceiveFunc {
	return func(bufs [][]byte, sizes []int, eps []conn.Endpoint) (n int, err error) {
		select {
		case p := <-b.passed:
			for n = range min(len(p.packets), len(bufs)) {
				sizes[n], eps[n] = copy(bufs[n], p.packets[n]), p.from
			}
			return min(len(p.packets), len(bufs)), nil
		case <-closed:
			return 0, net.ErrClosed
		}
	}
}

// Close ends reading.
func (b *bind) Close() error {
	b.begun.forgetAll()
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.gate != nil {
		b.gate.end()
		close(b.closed)
		b.gate = nil
	}
	for _, s := range b.socks {
		s.interrupt()
	}
	return nil
}

// release lets go of the sockets.
func (b *bind) release() {
	for _, s := range b.socks {
		s.udp.Close()
	}
	b.socks = nil
}

// stop ends this process's turn to read: what it has read it works off.
func (b *bind) stop() { b.turn(false) }

// start begins it.
func (b *bind) start() { b.turn(true) }

func (b *bind) turn(reading bool) {
	if !reading {
		defer b.begun.forgetAll()
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.reading = reading
	switch {
	case b.gate == nil:
	case reading:
		for _, s := range b.socks {
			s.resume()
		}
		b.gate.unlock()
	default:
		b.gate.shut(func() {
			for _, s := range b.socks {
				s.interrupt()
			}
		})
	}
}

// deliver hands on what another process has read.
func (b *bind) deliver(p batch) error {
	b.mu.Lock()
	closed := b.closed
	b.mu.Unlock()
	select {
	case b.passed <- p:
		return nil
	case <-closed:
		return net.ErrClosed
	}
}

// SetMark marks what is sent (SO_MARK).
func (b *bind) SetMark(mark uint32) (err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, s := range b.socks {
		s.control(func(fd int) {
			err = errors.Join(err, unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MARK, int(mark)))
		})
	}
	return err
}

// Send sends datagrams to an endpoint.
func (b *bind) Send(bufs [][]byte, to conn.Endpoint) error {
	e, ok := to.(*endpoint)
	if !ok {
		return conn.ErrWrongEndpointType
	}
	if i := b.inspect.Load(); i != nil {
		kept := make([][]byte, 0, len(bufs))
		for _, p := range bufs {
			if (*i).sent(p) {
				kept = append(kept, p)
			}
		}
		if bufs = kept; len(bufs) == 0 {
			return nil
		}
	}
	for _, p := range bufs {
		b.begun.sent(p, e)
	}
	return b.write(bufs, e)
}

// repeat sends a datagram once more, if this process still has the device.
func (b *bind) repeat(packet []byte, to *endpoint) {
	b.mu.Lock()
	reading := b.reading && b.gate != nil
	b.mu.Unlock()
	if i := b.inspect.Load(); reading && (i == nil || (*i).sent(packet)) {
		_ = b.write([][]byte{packet}, to) // what was sent once may be lost again
	}
}

// write sends datagrams. A source address that is this host's no more is forgotten,
// and a device that cannot cut segments is asked only once.
func (b *bind) write(bufs [][]byte, e *endpoint) error {
	s := b.socketFor(e.Addr())
	if s == nil {
		return syscall.EAFNOSUPPORT
	}
	err := s.write(bufs, e, s.gso.Load())
	switch {
	case errors.Is(err, unix.EIO) && s.gso.Swap(false):
		err = s.write(bufs, e, false)
	case errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EMSGSIZE):
		// The way is so narrow that they have to be cut as packets, which the kernel
		// does not do to segments.
		err = s.write(bufs, e, false)
	}
	// Of a source in IPv6 that is foreign the kernel says EINVAL, too.
	if err != nil && !errors.Is(err, unix.EMSGSIZE) && e.src.Load() != nil {
		e.ClearSrc()
		err = s.write(bufs, e, s.gso.Load())
	}
	return err
}

// sockets are those that are open.
func (b *bind) sockets() []*socket {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.socks
}

func (b *bind) socketFor(addr netip.Addr) *socket {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, s := range b.socks {
		if s.is6 == addr.Is6() {
			return s
		}
	}
	return nil
}

// ParseEndpoint reads address and port.
func (b *bind) ParseEndpoint(s string) (conn.Endpoint, error) {
	a, err := netip.ParseAddrPort(s)
	if err != nil {
		return nil, err
	}
	return newEndpoint(netip.AddrPortFrom(a.Addr().Unmap(), a.Port())), nil
}

// BatchSize is the most that is sent or received by one call.
func (b *bind) BatchSize() int { return conn.IdealBatchSize }
