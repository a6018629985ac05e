package netlab

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"

	"github.com/weft-net/weft/internal/nl"
)

// Echo pings from inside of a container without a process there, so that very
// many pings cost little.
type Echo struct {
	conn  net.PacketConn
	mu    sync.Mutex
	heard map[netip.Addr]time.Time // when the latest request was sent that was answered
}

// Echo opens the socket, which is closed when the test ends.
func (c *Container) Echo() *Echo {
	c.lab.t.Helper()
	e := &Echo{conn: c.Listen("ip4:icmp", "0.0.0.0"), heard: map[netip.Addr]time.Time{}}
	done := make(chan struct{})
	go func() { defer close(done); e.hear() }()
	c.lab.t.Cleanup(func() { e.conn.Close(); <-done })
	return e
}

// Listen opens a socket inside of a container without a process there, which is
// closed when the test ends.
func (c *Container) Listen(network, address string) (conn net.PacketConn) {
	c.lab.t.Helper()
	ns, err := nl.OpenNamespace(c.Path("/run/netns/" + c.Name))
	if err == nil {
		defer ns.Close()
		err = ns.Do(func() (err error) {
			conn, err = net.ListenPacket(network, address)
			return err
		})
	}
	if err != nil {
		c.lab.t.Fatalf("%s: open a socket in %s: %v", c.Host.Name, c.Name, err)
	}
	c.lab.t.Cleanup(func() { conn.Close() })
	return conn
}

// Send sends a ping, which says when. That it cannot be sent is what the network
// is asked about, and no error.
func (e *Echo) Send(to netip.Addr) {
	now := binary.BigEndian.AppendUint64(nil, uint64(time.Now().UnixNano()))
	b, err := (&icmp.Message{Type: ipv4.ICMPTypeEcho, Body: &icmp.Echo{Data: now}}).Marshal(nil)
	if err != nil {
		panic(fmt.Sprintf("encode a ping: %v", err)) // it is always the same
	}
	_, _ = e.conn.WriteTo(b, &net.IPAddr{IP: to.AsSlice()})
}

// Answered is when the latest ping to an address was sent that was answered; zero
// if none was.
func (e *Echo) Answered(from netip.Addr) time.Time {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.heard[from]
}

func (e *Echo) hear() {
	buf := make([]byte, 1500)
	for {
		n, from, err := e.conn.ReadFrom(buf)
		if err != nil {
			return // closed
		}
		msg, err := icmp.ParseMessage(1, buf[:n]) // of IPv4
		if err != nil || msg.Type != ipv4.ICMPTypeEchoReply {
			continue
		}
		body, ok := msg.Body.(*icmp.Echo)
		addr, isAddr := netip.AddrFromSlice(from.(*net.IPAddr).IP)
		if !ok || !isAddr || len(body.Data) != 8 {
			continue
		}
		sent := time.Unix(0, int64(binary.BigEndian.Uint64(body.Data)))
		e.mu.Lock()
		if addr = addr.Unmap(); sent.After(e.heard[addr]) {
			e.heard[addr] = sent
		}
		e.mu.Unlock()
	}
}
