package mesh

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// segmentsEvery is how often it is looked whether the own addresses are still on the
// interfaces on whose segments questions are heard.
const segmentsEvery = 5 * time.Second

// inside are the own addresses, with the port of gossip, on whose segments other hosts
// find this one.
func (m *Mesh) inside() (out []netip.AddrPort) {
	at := m.Advertise()
	list := []netip.Addr{at.Addr()}
	if own := m.own.Load(); own != nil && len(*own) > 0 {
		list = *own
	}
	for _, a := range list {
		if a.Is4() {
			out = append(out, netip.AddrPortFrom(a, at.Port()))
		}
	}
	return out
}

// answerSegment is the answer to a question that came on the segment of an own
// address; nil if there is none.
func (m *Mesh) answerSegment(packet []byte, at netip.AddrPort) []byte {
	t := m.Tokens()
	for _, tok := range t.all() {
		if answer := tok.answerSegment(packet, at); answer != nil {
			return answer
		}
	}
	return nil
}

// hearSegments answers questions on the segments of all own addresses, wherever these
// go, until the mesh ends. That it cannot is no reason not to start: --join knows
// other ways.
func (m *Mesh) hearSegments() {
	if m.cfg.Transport != nil {
		return
	}
	heard := map[netip.AddrPort]*segment{}
	defer func() {
		for _, s := range heard {
			s.Close()
		}
	}()
	unheard := map[netip.AddrPort]bool{} // as was said already
	tick := time.NewTicker(segmentsEvery)
	defer tick.Stop()
	for {
		now := m.inside()
		maps.DeleteFunc(heard, func(at netip.AddrPort, s *segment) bool {
			over := !slices.Contains(now, at) || !s.isThere()
			if over {
				s.Close()
			}
			return over
		})
		for _, at := range now {
			if heard[at] != nil {
				continue
			}
			s, err := listenSegment(m.ctx, at.Addr())
			switch {
			case err == nil:
				heard[at], unheard[at] = s, false
				m.wg.Go(func() { m.hearSegment(s, at) })
			case !unheard[at] && m.ctx.Err() == nil:
				unheard[at] = true
				m.log.Warn("hosts do not find this one by multicast", "err", err)
			}
		}
		select {
		case <-m.ctx.Done():
			return
		case <-m.moved:
		case <-tick.C:
		}
	}
}

// hearSegment answers questions on one segment until that is closed.
func (m *Mesh) hearSegment(s *segment, at netip.AddrPort) {
	for b := make([]byte, segmentLimit); ; {
		n, from, err := s.ReadFrom(b)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			m.log.Debug("question on the segment", "err", err)
			time.Sleep(time.Second) // whatever it is, it must not keep the host busy
			continue
		}
		if answer := m.answerSegment(b[:n], at); answer != nil {
			_, _ = s.WriteTo(answer, from) // a lost one is asked for again
		}
	}
}

// segment hears what is sent to the group on the segment of a local address.
type segment struct {
	net.PacketConn
	raw   syscall.RawConn
	local netip.Addr
}

// listenSegment joins the group on the interface of a local address.
func listenSegment(ctx context.Context, local netip.Addr) (*segment, error) {
	s := &segment{local: local}
	c := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) (err error) {
		e := raw.Control(func(fd uintptr) {
			// Several daemons in one network namespace hear the same questions, each on the
			// segments of its own addresses.
			if err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err == nil {
				err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_MULTICAST_ALL, 0)
			}
			if err == nil {
				err = s.join(fd)
			}
		})
		return errors.Join(e, err)
	}}
	conn, err := c.ListenPacket(ctx, "udp4", netip.AddrPortFrom(segmentGroup, SegmentPort).String())
	if err == nil {
		s.PacketConn = conn
		if s.raw, err = conn.(*net.UDPConn).SyscallConn(); err != nil {
			conn.Close()
		}
	}
	if err != nil {
		return nil, fmt.Errorf("listen for hosts on the segment of %s: %w", local, err)
	}
	return s, nil
}

// join joins the group on the interface that has the local address now.
func (s *segment) join(fd uintptr) error {
	return unix.SetsockoptIPMreq(int(fd), unix.IPPROTO_IP, unix.IP_ADD_MEMBERSHIP, &unix.IPMreq{Multiaddr: segmentGroup.As4(), Interface: s.local.As4()})
}

// isThere tells whether the address is still on the interface that it was on: there
// one cannot join once more.
func (s *segment) isThere() bool {
	var err error
	e := s.raw.Control(func(fd uintptr) { err = s.join(fd) })
	return e == nil && errors.Is(err, unix.EADDRINUSE)
}
