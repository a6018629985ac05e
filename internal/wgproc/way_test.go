package wgproc

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"golang.zx2c4.com/wireguard/device"
)

// lengthen has the datagrams between two hosts go by a relay, which keeps each for
// a while, and lets those alone pass that it is told to.
func lengthen(t *testing.T, a, b *side, delay time.Duration, passes func(packet []byte) bool) {
	t.Helper()
	// Both ends of the relay are on the host of a, which finds b at its loopback.
	listen := func(at netip.Addr) (c *net.UDPConn) {
		a.do(func() (err error) {
			c, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(at, 0)))
			return err
		})
		t.Cleanup(func() { c.Close() })
		_ = c.SetReadBuffer(8 << 20)
		return c
	}
	loopback := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	atA, atB := listen(loopback), listen(a.underlay)
	relay := func(in, out *net.UDPConn, to netip.AddrPort) {
		type datagram struct {
			packet []byte
			due    time.Time
		}
		waiting := make(chan datagram, 1<<16)
		go func() {
			for d := range waiting {
				time.Sleep(time.Until(d.due))
				_, _ = out.WriteToUDPAddrPort(d.packet, to)
			}
		}()
		go func() { // ends with the socket
			defer close(waiting)
			buf := make([]byte, 1<<16)
			for {
				n, err := in.Read(buf)
				if err != nil {
					return
				}
				if packet := buf[:n:n]; passes(packet) {
					waiting <- datagram{append([]byte(nil), packet...), time.Now().Add(delay)}
				}
			}
		}()
	}
	relay(atA, atB, netip.AddrPortFrom(b.underlay, tunnelPort))
	relay(atB, atA, netip.AddrPortFrom(loopback, tunnelPort))
	for s, by := range map[*side]net.Addr{b: atA.LocalAddr(), a: atB.LocalAddr()} {
		s.at = by.(*net.UDPAddr).AddrPort()
		other := map[*side]*side{a: b, b: a}[s]
		other.configure(fmt.Sprintf("public_key=%s\nupdate_only=true\nendpoint=%s\n", s.publicKey(), s.at))
	}
	a.wantPing(b)
}

func TestHandOversWhoseSessionsCrossLoseNoPacket(t *testing.T) {
	for range 2 {
		lesser, greater := pair(t, false)
		if bytes.Compare(lesser.key.PublicKey().Bytes(), greater.key.PublicKey().Bytes()) > 0 {
			lesser, greater = greater, lesser
		}
		lengthen(t, lesser, greater, 150*time.Millisecond, func([]byte) bool { return true })
		there, back := stream(lesser, greater), stream(greater, lesser)
		done := make(chan error)
		go func() { done <- greater.renew() }()
		time.Sleep(turnOfGreater[0] - turnOfLesser[0]) // so that both begin at once
		go func() { done <- lesser.renew() }()
		if err := errorOf(<-done, <-done); err != nil {
			t.Fatal(err)
		}
		wantNoLoss(t, "to the other", there)
		wantNoLoss(t, "from it", back)
	}
}

func TestHandOverLosesNoPacketWhereHandshakeMessagesAreLost(t *testing.T) {
	a, b := pair(t, false)
	var losing atomic.Bool
	var seen atomic.Int32
	lengthen(t, a, b, 20*time.Millisecond, func(packet []byte) bool {
		if kind := kindOf(packet); kind != device.MessageInitiationType && kind != device.MessageResponseType || !losing.Load() {
			return true
		}
		n := seen.Add(1)
		return n != 1 && n != 3 // the first beginning, and the answer to the second
	})
	losing.Store(true)
	for _, s := range []*side{a, b} { // one of them has the lesser key
		seen.Store(0)
		there, back := stream(a, b), stream(b, a)
		if err := s.renew(); err != nil {
			t.Fatal(err)
		}
		if n := seen.Load(); n < 4 {
			t.Errorf("%d handshake messages were seen: the lost ones were not repeated", n)
		}
		wantNoLoss(t, "to the other", there)
		wantNoLoss(t, "from it", back)
	}
}
