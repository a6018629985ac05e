package probe

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"
)

// Port is the UDP port of probes, on both ends. It is used inside of tunnels,
// and in the clear only where a path leads over the underlay itself.
const Port = 6786

// leastMTU is the least that a path is asked to carry, in bytes: what every
// host must be able to receive.
const leastMTU = 576

// Prober measures paths and answers the peers that do. Its methods are safe
// for concurrent use.
type Prober struct {
	self      uuid.UUID
	codec     codec
	beginning time.Time
	changed   chan struct{}
	wake      chan struct{}
	done      chan struct{}
	running   sync.WaitGroup

	mu      sync.Mutex
	closed  bool
	fleet   *fleet
	sockets map[string]*socket // by device
	planned time.Duration      // when the loop wakes by itself
}

// New starts a prober of this host, which is known to its peers by its id. The
// secret, of SecretSize bytes, is the same on all hosts of the mesh.
func New(self uuid.UUID, secret []byte) (*Prober, error) {
	codec, err := newCodec(secret)
	if err != nil {
		return nil, err
	}
	p := &Prober{
		self: self, codec: codec, beginning: time.Now(),
		changed: make(chan struct{}, 1), wake: make(chan struct{}, 1), done: make(chan struct{}),
		fleet:   newFleet(rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64()))),
		sockets: map[string]*socket{}, planned: never,
	}
	p.running.Go(p.loop)
	return p, nil
}

// Set makes the prober measure exactly these targets. What is known of those that it measured before stays. It looks after
// the devices in the caller's network namespace, so it has to be called when
// one of them was made anew. The error tells what targets are wrong, and then
// nothing was changed; or which devices there are no sockets on, and then their
// paths lose all probes until a later Set opens them.
func (p *Prober) Set(targets []Target) error {
	if err := validate(targets); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return errors.New("set the targets of probes: the prober is closed")
	}
	devices := map[string]bool{}
	for _, t := range targets {
		devices[t.Device] = true
	}
	for name, s := range p.sockets {
		if !devices[name] || !s.serves() {
			s.conn.Close()
			delete(p.sockets, name)
		}
	}
	var errs []error
	for name := range devices {
		if p.sockets[name] != nil {
			continue
		}
		s, err := openSocket(name)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		p.sockets[name] = s
		p.running.Go(func() { p.receive(s) })
	}
	p.fleet.set(p.now(), targets)
	p.tell()
	p.poke()
	slices.SortFunc(errs, func(a, b error) int { return slices.Compare([]byte(a.Error()), []byte(b.Error())) })
	return errors.Join(errs...)
}

func validate(targets []Target) error {
	seen := map[Path]bool{}
	for _, t := range targets {
		switch {
		case t.Device == "":
			return fmt.Errorf("probe peer %s: the target names no device", t.Peer)
		case !t.Addr.Is4():
			return fmt.Errorf("probe peer %s by %s: %s is no IPv4 address", t.Peer, t.Device, t.Addr)
		case t.MTU < leastMTU || t.MTU > mostSize:
			return fmt.Errorf("probe peer %s by %s: an MTU of %d is not between %d and %d", t.Peer, t.Device, t.MTU, leastMTU, mostSize)
		case seen[t.Path]:
			return fmt.Errorf("probe peer %s by %s: the target is there twice", t.Peer, t.Device)
		}
		seen[t.Path] = true
	}
	return nil
}

// Qualities says what is known of each target's path.
func (p *Prober) Qualities() map[Path]Quality {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.fleet.qualities(p.now(), p.beginning)
}

// Interval is the longest time between two probes of a path that works, at present.
func (p *Prober) Interval() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.fleet.interval
}

// Changed receives after Works, Doubt or MTU of some path changed, once for any number
// of changes that were not looked at yet.
func (p *Prober) Changed() <-chan struct{} { return p.changed }

// Close ends the prober and waits for its goroutines.
func (p *Prober) Close() {
	p.mu.Lock()
	if !p.closed {
		p.closed = true
		close(p.done)
		for _, s := range p.sockets {
			s.conn.Close()
		}
	}
	p.mu.Unlock()
	p.running.Wait()
}

func (p *Prober) now() time.Duration { return time.Since(p.beginning) }

// tell passes on that something changed. The lock is held.
func (p *Prober) tell() {
	if !p.fleet.changed {
		return
	}
	p.fleet.changed = false
	select {
	case p.changed <- struct{}{}:
	default:
	}
}

// poke makes the loop look again at when something is due.
func (p *Prober) poke() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// longestRest is how long the loop sleeps where nothing is due.
const longestRest = time.Hour

// loop sends what is due.
func (p *Prober) loop() {
	type sending struct {
		ask
		by *socket
	}
	var (
		asks  []ask
		sends []sending
		buf   = make([]byte, mostSize)
		timer = time.NewTimer(0)
		wakes = p.now()
	)
	defer timer.Stop()
	for {
		select {
		case <-p.done:
			return
		case <-timer.C:
		case <-p.wake:
		}
		p.mu.Lock()
		if late := p.now() - wakes; late >= 0 { // and was not woken before
			p.fleet.woke(late)
		}
		asks, sends = p.fleet.tick(p.now(), asks[:0]), sends[:0]
		for _, a := range asks {
			if s := p.sockets[a.target.Device]; s != nil {
				sends = append(sends, sending{a, s})
			}
		}
		p.tell()
		p.planned = p.fleet.due()
		rest := min(max(p.planned-p.now(), p.fleet.rest()), longestRest)
		p.mu.Unlock()
		for _, s := range sends {
			m := message{kindAsk, p.self, s.target.Peer, s.seq, s.size}
			s.by.send(p.codec.seal(buf, m), netip.AddrPortFrom(s.target.Addr, Port))
		}
		wakes = p.now() + rest
		timer.Reset(rest)
	}
}

// receive answers asks and takes answers until the socket is closed.
func (p *Prober) receive(s *socket) {
	buf := make([]byte, mostSize)
	limit := newLimiter(p.now())
	for {
		n, from, err := s.conn.ReadFromUDPAddrPort(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			// Of the device or the path, and over by itself or with the next Set.
			select {
			case <-p.done:
				return
			case <-time.After(quickAtLeast):
			}
			continue
		}
		m, err := p.codec.open(buf[:n])
		if err != nil || m.to != p.self || m.from == p.self {
			continue
		}
		if m.kind == kindAnswer {
			p.take(Path{m.from, s.device}, m)
		} else if limit.allows(p.now()) {
			// Never more than was asked with.
			s.send(p.codec.seal(buf, message{kindAnswer, p.self, m.from, m.seq, m.size}), from)
		}
	}
}

// take hands an answer to its path.
func (p *Prober) take(by Path, m message) {
	p.mu.Lock()
	defer p.mu.Unlock()
	due := p.fleet.answer(p.now(), by, m.seq, m.size)
	p.tell()
	if due < p.planned {
		p.poke()
	}
}
