package mesh

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"
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

// askSegments returns where the gossip is of those that answer on the segments of
// this host's own addresses, in order. One that cannot be asked by is no failure as
// long as there is another.
func (t Token) askSegments(ctx context.Context, own []netip.Addr) ([]string, error) {
	own = slices.DeleteFunc(slices.Clone(own), func(a netip.Addr) bool { return !a.Is4() })
	if len(own) == 0 {
		return nil, errors.New("this host has no IPv4 address to ask by")
	}
	found, errs := make([][]string, len(own)), make([]error, len(own))
	var wg sync.WaitGroup
	for i, local := range own {
		wg.Go(func() { found[i], errs[i] = t.askSegment(ctx, local) })
	}
	wg.Wait()
	out := slices.Concat(found...)
	slices.Sort(out)
	if slices.Contains(errs, nil) {
		return slices.Compact(out), nil
	}
	return nil, errors.Join(errs...)
}

// askSegment is askSegments for one of them, in no order.
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
	return out, ctx.Err()
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}
