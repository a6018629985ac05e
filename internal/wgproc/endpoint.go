package wgproc

import (
	"net"
	"net/netip"
	"sync/atomic"

	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/conn"
)

// endpoint is where a peer is, and from which of this host's addresses it is
// spoken to: the one that it spoke to last.
type endpoint struct {
	netip.AddrPort
	to  *net.UDPAddr
	src atomic.Pointer[[]byte] // the kernel's control message with that address
}

var _ conn.Endpoint = (*endpoint)(nil)

func newEndpoint(a netip.AddrPort) *endpoint {
	return &endpoint{AddrPort: a, to: net.UDPAddrFromAddrPort(a)}
}

func (e *endpoint) ClearSrc()           { e.src.Store(nil) }
func (e *endpoint) SrcToString() string { return e.SrcIP().String() }
func (e *endpoint) DstToString() string { return e.String() }
func (e *endpoint) DstIP() netip.Addr   { return e.Addr() }

func (e *endpoint) DstToBytes() []byte {
	b, _ := e.MarshalBinary()
	return b
}

// SrcIP is this host's address, the zero value if the kernel chooses it.
func (e *endpoint) SrcIP() netip.Addr {
	src := e.src.Load()
	if src == nil {
		return netip.Addr{}
	}
	_, data, _, err := unix.ParseOneSocketControlMessage(*src)
	if err != nil {
		return netip.Addr{}
	}
	if e.Addr().Is4() {
		addr, _ := netip.AddrFromSlice(data[4:8]) // struct in_pktinfo: index, address
		return addr
	}
	addr, _ := netip.AddrFromSlice(data[:16]) // struct in6_pktinfo: address, index
	return addr
}

// noteControl takes from a datagram's control messages the source for answers,
// and returns the size of the segments that the kernel joined, 0 for one datagram.
func (e *endpoint) noteControl(oob []byte) (segment int) {
	for len(oob) >= unix.SizeofCmsghdr {
		h, data, rest, err := unix.ParseOneSocketControlMessage(oob)
		if err != nil {
			return segment
		}
		switch {
		case h.Level == unix.SOL_UDP && h.Type == unix.UDP_GRO && len(data) >= 2:
			segment = int(nativeUint16(data))
		case h.Level == unix.IPPROTO_IP && h.Type == unix.IP_PKTINFO,
			h.Level == unix.IPPROTO_IPV6 && h.Type == unix.IPV6_PKTINFO:
			message := append([]byte(nil), oob[:unix.CmsgSpace(len(data))]...)
			unpin(h.Level, message)
			e.src.Store(&message)
		}
		oob = rest
	}
	return segment
}

// unpin takes the interface out of a control message that has an address and the
// interface by which it was spoken to: the route says by which to answer, which may be
// another one, or become so.
func unpin(level int32, message []byte) {
	index := message[unix.CmsgLen(0):][:4] // struct in_pktinfo: index, address
	if level == unix.IPPROTO_IPV6 {
		index = message[unix.CmsgLen(0)+16:][:4] // struct in6_pktinfo: address, index
	}
	clear(index)
}
