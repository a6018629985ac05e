package mesh

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Hosts of a mesh find each other on their network segment: one asks by
// multicast, and those that hold the same token answer it with where their
// gossip is. Nothing is sent that was not asked for, and neither question nor
// answer says which mesh it is of to somebody without the token.
var segmentGroup = netip.MustParseAddr("239.255.87.84")

// SegmentPort is the UDP port of the questions.
const SegmentPort = 6787

const (
	segmentWait    = time.Second // for answers
	segmentAnswers = 256         // that are waited for
	segmentLimit   = 512         // bytes of a packet
)

type segmentAsk struct {
	Nonce []byte `cbor:"1,keyasint"`
	Proof []byte `cbor:"2,keyasint"`
}

type segmentAnswer struct {
	At    netip.AddrPort `cbor:"1,keyasint"`
	Proof []byte         `cbor:"2,keyasint"`
}

func (t Token) segmentProof(label string, parts ...[]byte) []byte {
	mac := hmac.New(sha256.New, t.derive("segment"))
	mac.Write([]byte(label))
	for _, p := range parts {
		mac.Write(p)
	}
	return mac.Sum(nil)
}

// answerSegment is the answer to a question; nil if there is none.
func (t Token) answerSegment(packet []byte, at netip.AddrPort) []byte {
	var ask segmentAsk
	if decoder.Unmarshal(packet, &ask) != nil || len(ask.Nonce) != nonceLen || !hmac.Equal(ask.Proof, t.segmentProof("ask", ask.Nonce)) {
		return nil
	}
	return encode(segmentAnswer{at, t.segmentProof("answer", ask.Nonce, encode(at))})
}

// readSegment reads the answer to a question.
func (t Token) readSegment(packet, nonce []byte) (netip.AddrPort, bool) {
	var a segmentAnswer
	ok := decoder.Unmarshal(packet, &a) == nil && a.At.IsValid() && hmac.Equal(a.Proof, t.segmentProof("answer", nonce, encode(a.At)))
	return a.At, ok
}

// askSegment returns where the gossip is of those that answer on the segment of
// a local address, in order.
func (t Token) askSegment(ctx context.Context, local netip.Addr) ([]string, error) {
	// The local address decides by which interface the question leaves.
	conn, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(local, 0)))
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	nonce := nonce()
	if _, err := conn.WriteToUDPAddrPort(encode(segmentAsk{nonce, t.segmentProof("ask", nonce)}), netip.AddrPortFrom(segmentGroup, SegmentPort)); err != nil {
		return nil, err
	}
	if err := conn.SetReadDeadline(time.Now().Add(segmentWait)); err != nil {
		return nil, err
	}
	var out []string
	for b := make([]byte, segmentLimit); len(out) < segmentAnswers; {
		n, err := conn.Read(b)
		if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, net.ErrClosed) || isTimeout(err) {
			break
		}
		if at, ok := t.readSegment(b[:n], nonce); err == nil && ok {
			out = append(out, at.String())
		}
	}
	slices.Sort(out)
	return slices.Compact(out), ctx.Err()
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}

// listenSegment joins the group on the interface of a local address.
func listenSegment(ctx context.Context, local netip.Addr) (net.PacketConn, error) {
	c := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) (err error) {
		e := raw.Control(func(fd uintptr) {
			// Several daemons in one network namespace hear the same questions.
			if err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err == nil {
				err = unix.SetsockoptIPMreq(int(fd), unix.IPPROTO_IP, unix.IP_ADD_MEMBERSHIP, &unix.IPMreq{Multiaddr: segmentGroup.As4(), Interface: local.As4()})
			}
		})
		return errors.Join(e, err)
	}}
	conn, err := c.ListenPacket(ctx, "udp4", netip.AddrPortFrom(segmentGroup, SegmentPort).String())
	if err != nil {
		return nil, fmt.Errorf("listen for hosts on the segment of %s: %w", local, err)
	}
	return conn, nil
}

// inside is where hosts on the segment reach this one.
func (m *Mesh) inside() netip.AddrPort {
	at := m.Advertise()
	if m.cfg.Inside.IsValid() {
		return netip.AddrPortFrom(m.cfg.Inside, at.Port())
	}
	return at
}

func (m *Mesh) answerSegment(packet []byte) []byte {
	t := m.Tokens()
	for _, tok := range t.all() {
		if answer := tok.answerSegment(packet, m.inside()); answer != nil {
			return answer
		}
	}
	return nil
}

// hearSegment answers questions until the mesh ends. That it cannot is no reason
// not to start: --join knows other ways.
func (m *Mesh) hearSegment() {
	local := m.inside().Addr()
	if m.cfg.Transport != nil || !local.Is4() {
		return
	}
	conn, err := listenSegment(m.ctx, local)
	if err != nil {
		m.log.Warn("hosts do not find this one by multicast", "err", err)
		return
	}
	defer context.AfterFunc(m.ctx, func() { conn.Close() })()
	for b := make([]byte, segmentLimit); ; {
		n, from, err := conn.ReadFrom(b)
		if m.ctx.Err() != nil {
			return
		}
		if err != nil {
			m.log.Debug("question on the segment", "err", err)
			time.Sleep(time.Second) // whatever it is, it must not keep the host busy
			continue
		}
		if answer := m.answerSegment(b[:n]); answer != nil {
			_, _ = conn.WriteTo(answer, from) // a lost one is asked for again
		}
	}
}
