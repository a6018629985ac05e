package probe

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"
)

// socket sends and receives by one device only, whatever the routes say.
type socket struct {
	device string
	conn   *net.UDPConn
	raw    syscall.RawConn
}

// openSocket opens a socket on a device in the caller's network namespace. By which
// address it sends is said by the route to whom it sends.
func openSocket(device string) (*socket, error) {
	listen := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) (err error) {
		if e := raw.Control(func(fd uintptr) { err = configure(int(fd), device) }); e != nil {
			return e
		}
		return err
	}}
	conn, err := listen.ListenPacket(context.Background(), "udp4", netip.AddrPortFrom(netip.IPv4Unspecified(), Port).String())
	if err != nil {
		return nil, fmt.Errorf("probe by %s: %w", device, err)
	}
	udp := conn.(*net.UDPConn)
	raw, err := udp.SyscallConn()
	if err != nil {
		udp.Close()
		return nil, fmt.Errorf("probe by %s: %w", device, err)
	}
	return &socket{device, udp, raw}, nil
}

func configure(fd int, device string) error {
	return errors.Join(
		step("bind to the device", unix.BindToDevice(fd, device)),
		// Never in fragments, and whatever the kernel believes of the path's MTU:
		// that is what is to be found out.
		step("forbid fragments", unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_PROBE)),
	)
}

func step(op string, err error) error {
	if err != nil {
		return fmt.Errorf("%s: %w", op, err)
	}
	return nil
}

// CheckPort finds out whether another program has the port in the caller's network
// namespace. Probers by other devices are not in the way.
func CheckPort() error {
	s, err := openSocket("lo")
	if err != nil {
		return err
	}
	return s.conn.Close()
}

// serves tells whether the socket still is on the device of its name: one that
// was made anew has another index, to which the socket is not bound.
func (s *socket) serves() bool {
	var now string
	var err error
	if e := s.raw.Control(func(fd uintptr) { now, err = unix.GetsockoptString(int(fd), unix.SOL_SOCKET, unix.SO_BINDTODEVICE) }); e != nil || err != nil {
		return false
	}
	return now == s.device
}

// send sends a packet, or not: what the kernel refuses is lost like what is
// lost on the way, and is counted by its missing answer. It never waits.
func (s *socket) send(packet []byte, to netip.AddrPort) {
	addr := unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()}
	_ = s.raw.Write(func(fd uintptr) bool {
		_ = unix.Sendto(int(fd), packet, unix.MSG_DONTWAIT, &addr)
		return true
	})
}
