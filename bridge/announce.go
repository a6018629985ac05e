package bridge

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"
)

// announcer sends gratuitous ARP (RFC 5227, 3) in the network namespace where it
// was opened: whoever remembers another hardware address for an address forgets it
// for this one.
type announcer struct{ socket int }

func openAnnouncer() (announcer, error) {
	s, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0) // which hears nothing
	if err != nil {
		return announcer{}, fmt.Errorf("open packet socket: %w", err)
	}
	return announcer{s}, nil
}

// letGo closes an announcer. To close a packet socket takes the kernel ten
// milliseconds and more, as it waits for all processors. Nobody has to wait for
// that but Close.
func (b *Bridge) letGo(a announcer) {
	b.closing.Go(func() { _ = unix.Close(a.socket) }) // there is nothing to be lost
}

// announce is an announcer for the host's own namespace.
func (b *Bridge) announce(ifindex int, addr netip.Addr, mac net.HardwareAddr) error {
	a, err := openAnnouncer()
	if err != nil {
		return err
	}
	defer b.letGo(a)
	return a.announce(ifindex, addr, mac)
}

func (a announcer) announce(ifindex int, addr netip.Addr, mac net.HardwareAddr) error {
	be := func(v uint16) uint16 { return binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, v)) }
	frame := []byte{
		0, 1, // Ethernet
		8, 0, // IPv4
		6, 4, // lengths of the addresses
		0, 1, // request, as RFC 5227 has it
	}
	ip := addr.As4()
	frame = append(append(frame, mac...), ip[:]...)
	frame = append(append(frame, 0, 0, 0, 0, 0, 0), ip[:]...)
	to := &unix.SockaddrLinklayer{Protocol: be(unix.ETH_P_ARP), Ifindex: ifindex, Halen: 6,
		Addr: [8]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}}
	if err := unix.Sendto(a.socket, frame, 0, to); err != nil {
		return fmt.Errorf("announce %s: %w", addr, err)
	}
	return nil
}
