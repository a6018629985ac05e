package mesh

import (
	"bufio"
	"context"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

// peekTime is how long a connection may take to say what it is.
const peekTime = 5 * time.Second

// streamTime is how long a stream that this peer opened may take in all.
const streamTime = 10 * time.Second

// maxPeeking bounds the connections that have not said what they are: a stranger who
// opens many without a word must not use up memory, nor all places that there are.
const (
	maxPeeking     = 128
	maxPeekingEach = 64 // from one address
)

// transport shares memberlist's port with the hello: it looks at the first
// bytes of each stream and hands hellos to the doorman.
//
// It also keeps everything from memberlist until open. memberlist listens
// before it has made itself known to itself; what it hears in between about an
// earlier life of this peer makes it take itself for dead, for good.
type transport struct {
	memberlist.NodeAwareTransport
	hello   func(net.Conn)
	net     network
	packets chan *memberlist.Packet
	streams chan net.Conn
	opened  chan struct{}
	ctx     context.Context // ends when nothing new is to be looked at
	cancel  context.CancelFunc
	quiet   chan struct{} // closed when the inner transport brings nothing more
	once    sync.Once
	wg      sync.WaitGroup
}

// network is what a transport knows of the ways to the peers.
type network struct {
	route   func(memberlist.Address) route
	reached *reached
	callers *callers
	// dial opens a connection by a path; if verify is set, only to where the peer of
	// that name answers a hello, now or when it was reached so before.
	dial func(ctx context.Context, p path, verify string) (net.Conn, error)
	news func() // a peer is reached by another way
}

func newTransport(inner memberlist.NodeAwareTransport, hello func(net.Conn), n network) *transport {
	t := &transport{
		NodeAwareTransport: inner, hello: hello, net: n, packets: make(chan *memberlist.Packet), streams: make(chan net.Conn),
		opened: make(chan struct{}), quiet: make(chan struct{}),
	}
	t.ctx, t.cancel = context.WithCancel(context.Background())
	t.wg.Go(t.run)
	t.wg.Go(t.carry)
	return t
}

// open lets memberlist have what comes; it is called once.
func (t *transport) open() { close(t.opened) }

// PacketCh carries the packets, all of which are memberlist's.
func (t *transport) PacketCh() <-chan *memberlist.Packet { return t.packets }

// carry hands packets on. Until open they wait in the socket; after the end
// they are taken and dropped, as run does with streams.
func (t *transport) carry() {
	select {
	case <-t.opened:
	case <-t.ctx.Done():
	}
	for {
		select {
		case <-t.quiet:
			return
		case p := <-t.NodeAwareTransport.PacketCh():
			select {
			case t.packets <- p:
			case <-t.ctx.Done():
			}
		}
	}
}

// StreamCh carries what is memberlist's.
func (t *transport) StreamCh() <-chan net.Conn { return t.streams }

// WriteToAddress sends a packet.
func (t *transport) WriteToAddress(b []byte, a memberlist.Address) (time.Time, error) {
	last, known := t.net.reached.get(a.Name)
	at := time.Now()
	var err error
	for _, p := range packetPaths(t.net.route(a), last, known) {
		if p.way == WayLine {
			t.net.callers.packet(a.Name, b) // what is lost is lost, as with any packet
			continue
		}
		a.Addr = p.addr
		at, err = t.NodeAwareTransport.WriteToAddress(b, a)
	}
	return at, err
}

// DialTimeout opens a stream; see DialAddressTimeout.
func (t *transport) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	return t.DialAddressTimeout(memberlist.Address{Addr: addr}, timeout)
}

// DialAddressTimeout opens a stream that does not outlive the transport, and
// has a deadline: memberlist itself gives none to a message that it writes.
func (t *transport) DialAddressTimeout(a memberlist.Address, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(t.ctx, timeout)
	defer cancel()
	r, verify := t.net.route(a), ""
	if r.doubtful {
		verify = a.Name
	}
	conn, by, err := race(ctx, r.paths, func(ctx context.Context, p path) (net.Conn, error) {
		if p.way == WayLine {
			return t.net.callers.call(ctx, a.Name)
		}
		return t.net.dial(ctx, p, verify)
	})
	if t.net.reached.set(a.Name, by, r.doubtful) && slices.Contains(r.paths, by) {
		t.net.news()
	}
	if err != nil {
		return nil, err
	}
	if err := conn.SetDeadline(time.Now().Add(streamTime)); err != nil {
		conn.Close()
		return nil, err
	}
	return &dialled{Conn: conn, stop: context.AfterFunc(t.ctx, func() { conn.Close() })}, nil
}

// inject takes a packet in that came by a line.
func (t *transport) inject(b []byte, from net.Addr) {
	select {
	case <-t.opened:
	default:
		return
	}
	select {
	case t.packets <- &memberlist.Packet{Buf: b, From: from, Timestamp: time.Now()}:
	case <-t.ctx.Done():
	}
}

// Shutdown ends the transport and all that it runs. What the inner transport
// has accepted meanwhile is taken and closed: it waits for its accept loop,
// which waits for somebody to take the stream.
func (t *transport) Shutdown() error {
	t.cancel()
	err := t.NodeAwareTransport.Shutdown()
	t.once.Do(func() { close(t.quiet) })
	t.wg.Wait()
	return err
}

func (t *transport) run() {
	peeking := newTurnstile(maxPeeking, maxPeekingEach)
	for {
		select {
		case <-t.quiet:
			return
		case conn := <-t.NodeAwareTransport.StreamCh():
			if t.ctx.Err() != nil {
				conn.Close()
				continue
			}
			from := conn.RemoteAddr()
			if !peeking.enter(from) {
				conn.Close()
				continue
			}
			t.wg.Go(func() {
				defer peeking.leave(from)
				t.sort(conn)
			})
		}
	}
}

// sort finds out what a stream is; it owns the connection until it hands it on.
func (t *transport) sort(conn net.Conn) {
	stop := context.AfterFunc(t.ctx, func() { conn.Close() })
	defer stop()
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
	switch string(first) {
	case magic:
		if _, err := r.Discard(len(magic)); err == nil {
			t.hello(c)
		}
		return
	case callMagic:
		t.net.callers.answered(c)
		return
	}
	select {
	case <-t.opened:
	case <-t.ctx.Done():
	}
	select {
	case t.streams <- c:
	case <-t.ctx.Done():
		conn.Close()
	}
}

// peeked is a connection some of whose bytes are read already.
type peeked struct {
	net.Conn
	r *bufio.Reader
}

func (p *peeked) Read(b []byte) (int, error) { return p.r.Read(b) }

// dialled is a connection that is closed when the transport ends.
type dialled struct {
	net.Conn
	stop func() bool
}

func (d *dialled) Close() error {
	d.stop()
	return d.Conn.Close()
}
