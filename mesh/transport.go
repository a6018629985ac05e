package mesh

import (
	"bufio"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

// peekTime is how long a connection may take to say what it is.
const peekTime = 5 * time.Second

// maxPeeking bounds the connections that have not said what they are: a
// stranger who opens many without a word must not use up memory.
const maxPeeking = 128

// transport shares memberlist's port with the hello: it looks at the first
// bytes of each stream and hands hellos to the doorman.
type transport struct {
	memberlist.NodeAwareTransport
	hello   func(net.Conn)
	streams chan net.Conn
	stop    chan struct{}
	once    sync.Once
	wg      sync.WaitGroup
}

func newTransport(inner memberlist.NodeAwareTransport, hello func(net.Conn)) *transport {
	t := &transport{NodeAwareTransport: inner, hello: hello, streams: make(chan net.Conn), stop: make(chan struct{})}
	t.wg.Go(t.run)
	return t
}

// StreamCh carries what is memberlist's.
func (t *transport) StreamCh() <-chan net.Conn { return t.streams }

// Shutdown ends the transport and all that it runs.
func (t *transport) Shutdown() error {
	t.once.Do(func() { close(t.stop) })
	err := t.NodeAwareTransport.Shutdown()
	t.wg.Wait()
	return err
}

func (t *transport) run() {
	peeking := make(chan struct{}, maxPeeking)
	for {
		select {
		case <-t.stop:
			return
		case conn := <-t.NodeAwareTransport.StreamCh():
			select {
			case peeking <- struct{}{}:
				t.wg.Go(func() {
					defer func() { <-peeking }()
					t.sort(conn)
				})
			default:
				conn.Close()
			}
		}
	}
}

func (t *transport) sort(conn net.Conn) {
	r := bufio.NewReader(conn)
	if conn.SetReadDeadline(time.Now().Add(peekTime)) != nil {
		conn.Close()
		return
	}
	first, err := r.Peek(len(magic))
	if err != nil || conn.SetReadDeadline(time.Time{}) != nil {
		conn.Close()
		return
	}
	c := &peeked{Conn: conn, r: r}
	if string(first) == magic {
		if _, err := r.Discard(len(magic)); err == nil {
			t.hello(c)
		}
		return
	}
	select {
	case t.streams <- c:
	case <-t.stop:
		conn.Close()
	}
}

// peeked is a connection some of whose bytes are read already.
type peeked struct {
	net.Conn
	r *bufio.Reader
}

func (p *peeked) Read(b []byte) (int, error) { return p.r.Read(b) }
