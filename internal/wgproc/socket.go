package wgproc

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/conn"
)

const (
	socketBuffer = 7 << 20 // bytes, of each direction of a socket
	maxDatagram  = 1<<16 - 1
	maxPayload   = maxDatagram - 20 - 8 // bytes that segments may have together
	maxSegments  = 64                   // that the kernel joins, or takes joined
)

func nativeUint16(b []byte) uint16 { return binary.NativeEndian.Uint16(b) }

// batches is what IPv4 and IPv6 connections have in common.
type batches interface {
	ReadBatch([]ipv6.Message, int) (int, error)
	WriteBatch([]ipv6.Message, int) (int, error)
}

// socket is a UDP socket that sends and receives many datagrams by one call,
// and lets the kernel cut and join those of equal size (GSO, GRO).
type socket struct {
	udp *net.UDPConn
	io  batches
	is6 bool
	gso atomic.Bool
	in  []ipv6.Message // of the one reader
}

// listenUDP opens the socket of a family: nil if the host does not have it.
func listenUDP(network string, port uint16) (*socket, error) {
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		return errors.Join(c.Control(func(fd uintptr) { err = prepare(int(fd), network == "udp6") }), err)
	}}
	c, err := lc.ListenPacket(context.Background(), network, ":"+strconv.Itoa(int(port)))
	if errors.Is(err, syscall.EAFNOSUPPORT) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return newSocket(c.(*net.UDPConn), network == "udp6"), nil
}

// prepare sets what the process wants of a socket; offloads and large buffers
// are for speed alone, so an old kernel may refuse them.
func prepare(fd int, is6 bool) error {
	for _, opt := range []int{unix.SO_RCVBUF, unix.SO_SNDBUF, unix.SO_RCVBUFFORCE, unix.SO_SNDBUFFORCE} {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, opt, socketBuffer)
	}
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_UDP, unix.UDP_GRO, 1)
	if !is6 {
		return unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_PKTINFO, 1)
	}
	return errors.Join(unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1),
		unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1))
}

// inheritUDP takes over an open socket.
func inheritUDP(f *os.File) (*socket, error) {
	c, err := net.FilePacketConn(f)
	if err != nil {
		return nil, fmt.Errorf("take over a UDP socket: %w", err)
	}
	udp, ok := c.(*net.UDPConn)
	if !ok {
		return nil, fmt.Errorf("take over a UDP socket: it is a %T", c)
	}
	return newSocket(udp, udp.LocalAddr().(*net.UDPAddr).IP.To4() == nil), nil
}

func newSocket(udp *net.UDPConn, is6 bool) *socket {
	s := &socket{udp: udp, is6: is6, io: ipv4.NewPacketConn(udp)}
	if is6 {
		s.io = ipv6.NewPacketConn(udp)
	}
	s.control(func(fd int) {
		_, err := unix.GetsockoptInt(fd, unix.IPPROTO_UDP, unix.UDP_SEGMENT)
		s.gso.Store(err == nil)
	})
	// As many as fit into a batch if each is joined of as many as possible.
	s.in = make([]ipv6.Message, conn.IdealBatchSize/maxSegments)
	for i := range s.in {
		s.in[i].Buffers = [][]byte{make([]byte, maxDatagram)}
		s.in[i].OOB = make([]byte, 128)
	}
	return s
}

func (s *socket) control(fn func(fd int)) {
	if raw, err := s.udp.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) { fn(int(fd)) })
	}
}

func (s *socket) port() uint16 { return uint16(s.udp.LocalAddr().(*net.UDPAddr).Port) }

// interrupt has a read end at once, and any later one until resume.
func (s *socket) interrupt() { _ = s.udp.SetReadDeadline(time.Unix(1, 0)) }
func (s *socket) resume()    { _ = s.udp.SetReadDeadline(time.Time{}) }

// read receives at least one datagram, each into a buffer of its own.
func (s *socket) read(bufs [][]byte, sizes []int, eps []conn.Endpoint) (n int, err error) {
	count, err := s.io.ReadBatch(s.in, 0)
	if err != nil {
		return 0, err
	}
	for i := range s.in[:count] {
		m := &s.in[i]
		from := m.Addr.(*net.UDPAddr).AddrPort()
		ep := newEndpoint(netip.AddrPortFrom(from.Addr().Unmap(), from.Port()))
		size := ep.noteControl(m.OOB[:m.NN])
		for rest := m.Buffers[0][:m.N]; len(rest) > 0 && n < len(bufs); n++ {
			segment := rest
			if size > 0 && size < len(rest) {
				segment = rest[:size]
			}
			sizes[n], eps[n] = copy(bufs[n], segment), ep
			rest = rest[len(segment):]
		}
	}
	return n, nil
}

// write sends datagrams to one place, all that follow one another and are of
// one size by one message if the kernel is to cut it (GSO).
func (s *socket) write(bufs [][]byte, e *endpoint, gso bool) error {
	messages := make([]ipv6.Message, 0, len(bufs))
	for len(bufs) > 0 {
		n := 1
		if gso {
			n = joinable(bufs)
		}
		m := ipv6.Message{Buffers: bufs[:n], Addr: e.to}
		if src := e.src.Load(); src != nil {
			m.OOB = append(m.OOB, *src...)
		}
		if n > 1 {
			m.OOB = appendSegmentSize(m.OOB, uint16(len(bufs[0])))
		}
		messages, bufs = append(messages, m), bufs[n:]
	}
	for len(messages) > 0 {
		n, err := s.io.WriteBatch(messages, 0)
		if err != nil {
			return err
		}
		messages = messages[n:]
	}
	return nil
}

// joinable is how many of the first datagrams the kernel takes as one: all but
// the last have the size of the first.
func joinable(bufs [][]byte) int {
	total := 0
	for i, b := range bufs {
		total += len(b)
		if i == maxSegments || total > maxPayload || len(b) > len(bufs[0]) {
			return i
		}
		if len(b) < len(bufs[0]) {
			return i + 1
		}
	}
	return len(bufs)
}

// appendSegmentSize adds the control message that has the kernel cut a message.
func appendSegmentSize(oob []byte, size uint16) []byte {
	const dataLen = 2
	at := len(oob)
	oob = append(oob, make([]byte, unix.CmsgSpace(dataLen))...)
	b := oob[at:]
	// struct cmsghdr: the length as large as a pointer, level, type.
	if unix.SizeofCmsghdr == 16 {
		binary.NativeEndian.PutUint64(b, uint64(unix.CmsgLen(dataLen)))
	} else {
		binary.NativeEndian.PutUint32(b, uint32(unix.CmsgLen(dataLen)))
	}
	binary.NativeEndian.PutUint32(b[unix.SizeofCmsghdr-8:], unix.SOL_UDP)
	binary.NativeEndian.PutUint32(b[unix.SizeofCmsghdr-4:], unix.UDP_SEGMENT)
	binary.NativeEndian.PutUint16(b[unix.CmsgLen(0):], size)
	return oob
}
