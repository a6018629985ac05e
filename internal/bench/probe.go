package bench

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"
)

// Ports of the server, UDP.
const (
	floodPort = 7001 // takes and counts
	echoPort  = 7002 // sends back, or tells the count
)

const (
	payload = 64  // bytes of each datagram
	batch   = 16  // datagrams with one system call: few enough to go undisturbed
	answer  = 200 // milliseconds that an answer may take
)

// ask is the datagram that asks for the count, which begins anew.
var ask = []byte("count")

// tally is what the server has counted.
type tally struct {
	mu          sync.Mutex
	packets     uint64
	first, last time.Time
}

func (t *tally) add(n int) {
	now := time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.packets == 0 {
		t.first = now
	}
	t.packets, t.last = t.packets+uint64(n), now
}

// take tells how many came, and within how many nanoseconds.
func (t *tally) take() []byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := binary.BigEndian.AppendUint64(nil, t.packets)
	out = binary.BigEndian.AppendUint64(out, uint64(t.last.Sub(t.first)))
	t.packets = 0
	return out
}

// serve counts what comes to one port and echoes what comes to the other, until
// it is ended.
func serve() error {
	flood, err := net.ListenUDP("udp4", &net.UDPAddr{Port: floodPort})
	if err != nil {
		return err
	}
	echo, err := socket()
	if err != nil {
		return err
	}
	if err := unix.Bind(echo, &unix.SockaddrInet4{Port: echoPort}); err != nil {
		return os.NewSyscallError("bind", err)
	}
	counted := &tally{}
	failed := make(chan error, 2)
	go func() { failed <- count(flood, counted) }()
	go func() { failed <- sendBack(echo, counted) }()
	return <-failed
}

func count(c *net.UDPConn, counted *tally) error {
	_ = c.SetReadBuffer(4 << 20) // the kernel gives what it may
	messages := make([]ipv4.Message, batch)
	for i := range messages {
		messages[i].Buffers = [][]byte{make([]byte, payload)}
	}
	in := ipv4.NewPacketConn(c)
	for {
		n, err := in.ReadBatch(messages, 0)
		if err != nil {
			return err
		}
		counted.add(n)
	}
}

// socket is one that blocks: a round trip has no room for the runtime's poller.
func socket() (int, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	return fd, os.NewSyscallError("socket", err)
}

func sendBack(fd int, counted *tally) error {
	buf := make([]byte, payload)
	for {
		n, from, err := unix.Recvfrom(fd, buf, 0)
		if err != nil {
			return os.NewSyscallError("recvfrom", err)
		}
		back := buf[:n]
		if slices.Equal(back, ask) {
			back = counted.take()
		}
		if err := unix.Sendto(fd, back, 0, from); err != nil {
			return os.NewSyscallError("sendto", err)
		}
	}
}

// flood sends datagrams as fast as one sender can, and tells how many of them
// came each second, and how many microseconds one of them kept the sender's
// processor when nothing else did: what a twentieth of the batches did not exceed.
// That is the whole way to the receiver where only the kernel is on it.
func flood(to netip.Addr, during time.Duration) (perSecond, each float64, err error) {
	c, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(to, floodPort)))
	if err != nil {
		return 0, 0, err
	}
	defer c.Close()
	messages := make([]ipv4.Message, batch)
	for i := range messages {
		messages[i].Buffers = [][]byte{make([]byte, payload)}
	}
	if _, err := roundTrip(to, ask); err != nil { // what came before
		return 0, 0, err
	}
	out := ipv4.NewPacketConn(c)
	var took []float64
	for end := time.Now().Add(during); time.Now().Before(end); {
		began := time.Now()
		sent, err := out.WriteBatch(messages, 0)
		if err != nil {
			return 0, 0, err
		}
		took = append(took, float64(time.Since(began))/float64(time.Microsecond)/float64(sent))
	}
	time.Sleep(answer * time.Millisecond) // for those on their way
	said, err := roundTrip(to, ask)
	if err != nil {
		return 0, 0, err
	}
	n, within := binary.BigEndian.Uint64(said), time.Duration(binary.BigEndian.Uint64(said[8:]))
	if n < batch || within <= 0 {
		return 0, 0, fmt.Errorf("of all that was sent to %s, %d came", to, n)
	}
	slices.Sort(took)
	return float64(n) / within.Seconds(), quantile(took, 0.05), nil
}

// roundTrip sends one datagram, again until there is an answer.
func roundTrip(to netip.Addr, datagram []byte) ([]byte, error) {
	c, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(to, echoPort)))
	if err != nil {
		return nil, err
	}
	defer c.Close()
	buf := make([]byte, payload)
	for range 50 {
		if _, err = c.Write(datagram); err != nil {
			continue // nobody listens yet
		}
		_ = c.SetReadDeadline(time.Now().Add(answer * time.Millisecond))
		var n int
		if n, err = c.Read(buf); err == nil {
			return buf[:n], nil
		}
		time.Sleep(answer * time.Millisecond / 4)
	}
	return nil, fmt.Errorf("no answer from %s: %w", to, err)
}

// pingPong measures round trips of one datagram at a time, in microseconds.
func pingPong(to netip.Addr, during time.Duration) (p50, p99 float64, err error) {
	fd, err := socket()
	if err != nil {
		return 0, 0, err
	}
	defer unix.Close(fd)
	wait := unix.NsecToTimeval(answer * int64(time.Millisecond))
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &wait); err != nil {
		return 0, 0, os.NewSyscallError("setsockopt", err)
	}
	if err := unix.Connect(fd, &unix.SockaddrInet4{Port: echoPort, Addr: to.As4()}); err != nil {
		return 0, 0, os.NewSyscallError("connect", err)
	}
	buf := make([]byte, payload)
	var took []float64
	for end := time.Now().Add(during); time.Now().Before(end); {
		began := time.Now()
		if _, err := unix.Write(fd, buf); err != nil {
			return 0, 0, os.NewSyscallError("write", err)
		}
		if _, err := unix.Read(fd, buf); err != nil {
			continue // lost, and nothing that has a time
		}
		took = append(took, float64(time.Since(began))/float64(time.Microsecond))
	}
	if len(took) == 0 {
		return 0, 0, fmt.Errorf("no answer from %s", to)
	}
	slices.Sort(took)
	return quantile(took, 0.5), quantile(took, 0.99), nil
}
