package mesh

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// A line is a connection that a peer which nobody can connect to keeps open to
// this one. Packets for it travel on the line itself; for a stream it is called,
// and opens a connection from its side:
//
//	on the line:       kind, length, content
//	on the other one:  callMagic, the number of the call; then it is a stream
const (
	linePacket byte = 1 // content is a packet
	lineCall   byte = 2 // content is the number of a call
)

// callMagic begins a connection that answers a call; see magic.
const callMagic = "WEFC"

// callLen is the length of a call's number, in bytes. It cannot be guessed.
const callLen = 16

// lineQueue is how many packets wait for a line at most.
const lineQueue = 64

// lineWrite is how long a write to a line may take.
const lineWrite = 5 * time.Second

// callers are the peers that keep a line to this one, by memberlist's names.
type callers struct {
	mu      sync.Mutex
	lines   map[string]*caller
	waiting map[[callLen]byte]chan net.Conn
	closed  bool
}

// maxLines bounds the lines to this peer.
const maxLines = 1024

type caller struct {
	conn net.Conn
	out  chan []byte // frames
}

func newCallers() *callers {
	return &callers{lines: map[string]*caller{}, waiting: map[[callLen]byte]chan net.Conn{}}
}

func (c *callers) has(name string) bool { return c.line(name) != nil }

func (c *callers) line(name string) *caller {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lines[name]
}

// hold keeps a peer's line until it ends, and replaces an older one of the same
// peer. It owns the connection.
func (c *callers) hold(name string, conn net.Conn) {
	l := &caller{conn, make(chan []byte, lineQueue)}
	c.mu.Lock()
	old := c.lines[name]
	if c.closed || old == nil && len(c.lines) >= maxLines {
		c.mu.Unlock()
		conn.Close()
		return
	}
	if old != nil {
		old.conn.Close()
	}
	c.lines[name] = l
	c.mu.Unlock()
	ended := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		defer conn.Close()
		for {
			select {
			case <-ended:
				return
			case frame := <-l.out:
				if conn.SetWriteDeadline(time.Now().Add(lineWrite)) != nil {
					return
				}
				if _, err := conn.Write(frame); err != nil {
					return
				}
			}
		}
	})
	_, _ = io.Copy(io.Discard, io.LimitReader(conn, 1)) // the peer has nothing to say: the connection has ended
	close(ended)
	conn.Close()
	wg.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.lines[name] == l {
		delete(c.lines, name)
	}
}

// close ends all lines, and lets none begin.
func (c *callers) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	for _, l := range c.lines {
		l.conn.Close()
	}
}

// packet sends a packet by a peer's line, if there is one and it is not too busy.
func (c *callers) packet(name string, b []byte) bool { return c.send(name, linePacket, b) }

func (c *callers) send(name string, kind byte, content []byte) bool {
	l := c.line(name)
	if l == nil || len(content) > 1<<16-1 {
		return false
	}
	select {
	case l.out <- lineFrame(kind, content):
		return true
	default:
		return false
	}
}

// call has a peer that keeps a line open a connection from its side.
func (c *callers) call(ctx context.Context, name string) (net.Conn, error) {
	var number [callLen]byte
	_, _ = rand.Read(number[:]) // never fails (crypto/rand)
	answer := make(chan net.Conn, 1)
	c.mu.Lock()
	c.waiting[number] = answer
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		delete(c.waiting, number)
		c.mu.Unlock()
		select {
		case late := <-answer:
			late.Close()
		default:
		}
	}()
	if !c.send(name, lineCall, number[:]) {
		return nil, fmt.Errorf("call peer %s: it keeps no line", name)
	}
	select {
	case conn := <-answer:
		return conn, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("call peer %s by its line: %w", name, ctx.Err())
	}
}

// answered hands a connection to who has called; its magic is not read yet.
func (c *callers) answered(conn net.Conn) {
	var head [len(callMagic) + callLen]byte
	if conn.SetReadDeadline(time.Now().Add(peekTime)) != nil {
		conn.Close()
		return
	}
	if _, err := io.ReadFull(conn, head[:]); err != nil || conn.SetReadDeadline(time.Time{}) != nil {
		conn.Close()
		return
	}
	number := [callLen]byte(head[len(callMagic):])
	c.mu.Lock()
	defer c.mu.Unlock()
	answer := c.waiting[number]
	if answer == nil {
		conn.Close()
		return
	}
	delete(c.waiting, number)
	answer <- conn // it has room for one, and nobody else has found it
}

// lineFrame is one frame of a line.
func lineFrame(kind byte, content []byte) []byte {
	return append(binary.BigEndian.AppendUint16([]byte{kind}, uint16(len(content))), content...)
}

// readLine reads one frame of a line.
func readLine(r io.Reader) (kind byte, content []byte, err error) {
	var head [3]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, nil, err
	}
	content = make([]byte, binary.BigEndian.Uint16(head[1:]))
	_, err = io.ReadFull(r, content)
	return head[0], content, err
}
