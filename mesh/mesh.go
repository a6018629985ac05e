package mesh

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/hashicorp/memberlist"
)

// Channel is replicated state of another package. Its methods are called one
// at a time but for State, which must not wait for the mesh.
type Channel interface {
	// Name tells channels apart, and is the same on every peer.
	Name() string
	// State is all of it, for an exchange with another peer.
	State() []byte
	// Merge takes in another peer's state, or a part of it, and returns what
	// of it was news, to be forwarded; nil for none.
	Merge(state []byte) (news []byte)
	// Receive takes in a message to this peer alone.
	Receive(from uuid.UUID, msg []byte)
}

// Config is what a Mesh is made of.
type Config struct {
	Identity  Identity
	Name      string // for people
	Token     Token
	Settings  []byte         // of the mesh, opaque here; peers with others are refused
	Bind      netip.AddrPort // where to listen, TCP and UDP
	Advertise netip.AddrPort // where the other peers reach this one
	Snapshot  []byte         // what Snapshot returned in an earlier life; nil for none
	Targets   []string       // hosts to join, "host" or "host:port"
	Channels  []Channel
	Logger    *slog.Logger
}

// Mesh is this peer's membership of a mesh. New starts it, Close ends it and
// waits for all that it runs.
type Mesh struct {
	cfg      Config
	log      *slog.Logger
	list     *memberlist.Memberlist
	queue    memberlist.TransmitLimitedQueue
	channels map[string]Channel
	refusals refusals
	changed  chan struct{}
	// inbox holds what memberlist brought, for the one goroutine that handles
	// it: a delegate must neither wait nor call memberlist.
	inbox   chan delivery
	dropped atomic.Uint64
	sending chan struct{} // bounds the sends under way
	ctx     context.Context
	cancel  context.CancelFunc
	wg      sync.WaitGroup

	mu      sync.Mutex
	records records
	alive   map[uuid.UUID]time.Time // since when; members that memberlist thinks are up
	lostAt  map[uuid.UUID]time.Time
	targets map[string]*attempt
	// heardFrom is where peers can be answered that have written to this one
	// before the news of their membership came here.
	heardFrom map[uuid.UUID]netip.AddrPort
}

// sendsUnderWay bounds the reliable sends at one time; what is over is
// dropped, since every message is either repeated or repaired.
const sendsUnderWay = 32

// New listens and takes up what the snapshot knows. It joins nobody yet.
func New(cfg Config) (*Mesh, error) {
	ctx, cancel := context.WithCancel(context.Background())
	m := &Mesh{
		cfg: cfg, log: cfg.Logger, channels: map[string]Channel{}, changed: make(chan struct{}, 1),
		inbox: make(chan delivery, 1024), sending: make(chan struct{}, sendsUnderWay), ctx: ctx, cancel: cancel,
		alive: map[uuid.UUID]time.Time{}, lostAt: map[uuid.UUID]time.Time{}, targets: map[string]*attempt{}, heardFrom: map[uuid.UUID]netip.AddrPort{},
	}
	for _, c := range cfg.Channels {
		m.channels[c.Name()] = c
	}
	for _, t := range cfg.Targets {
		m.targets[withPort(t, cfg.Bind.Port())] = &attempt{target: true}
	}
	var err error
	if m.records, err = restore(cfg.Token.MeshID, cfg.Snapshot); err != nil {
		cancel()
		return nil, err
	}
	if err := m.listen(); err != nil {
		cancel()
		return nil, err
	}
	m.wg.Go(m.handle)
	m.wg.Go(m.rejoin)
	return m, nil
}

func (m *Mesh) listen() error {
	inner, err := memberlist.NewNetTransport(&memberlist.NetTransportConfig{
		BindAddrs: []string{m.cfg.Bind.Addr().String()}, BindPort: int(m.cfg.Bind.Port()), Logger: m.quietLogger(),
	})
	if err != nil {
		return fmt.Errorf("listen on %s: %w", m.cfg.Bind, err)
	}
	door := &doorman{token: m.cfg.Token, departed: m.hasDeparted, refused: m.refuse,
		self: HelloSelf{ID: m.cfg.Identity.ID, Name: m.cfg.Name, Settings: m.cfg.Settings}}
	tr := newTransport(inner, func(c net.Conn) {
		if err := door.answer(c); err != nil {
			m.log.Debug("hello broke off", "from", c.RemoteAddr(), "err", err)
		}
	})

	c := memberlist.DefaultLANConfig()
	c.Name = m.cfg.Identity.ID.String()
	c.Transport = tr
	c.BindAddr, c.BindPort = m.cfg.Bind.Addr().String(), int(m.cfg.Bind.Port())
	c.AdvertiseAddr, c.AdvertisePort = m.cfg.Advertise.Addr().String(), int(m.cfg.Advertise.Port())
	c.SecretKey = m.cfg.Token.derive("gossip")
	c.Label = m.cfg.Token.MeshID.String()
	c.TCPTimeout = helloTime
	// A peer that comes back from another address is the same peer: its id
	// follows from its key.
	c.DeadNodeReclaimTime = 5 * time.Second
	c.EnableCompression = false // records and tables are compact already
	c.Delegate, c.Events = (*delegate)(m), (*delegate)(m)
	c.Logger = m.quietLogger()
	m.queue = memberlist.TransmitLimitedQueue{NumNodes: m.count, RetransmitMult: c.RetransmitMult}
	if m.list, err = memberlist.Create(c); err != nil {
		return errors.Join(fmt.Errorf("start membership: %w", err), tr.Shutdown())
	}
	return nil
}

// quietLogger takes memberlist's own lines as debugging: what matters of them
// weft says in its own words, and once.
func (m *Mesh) quietLogger() *log.Logger {
	return log.New(writerFunc(func(b []byte) (int, error) {
		m.log.Debug("memberlist", "line", string(b))
		return len(b), nil
	}), "", 0)
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }

var _ io.Writer = writerFunc(nil)

// count is the number of live members, this peer included.
func (m *Mesh) count() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.alive) + 1
}

func (m *Mesh) hasDeparted(o helloOpen) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.records[o.ID].Body.Departed
}

func (m *Mesh) refuse(addr, name string, v verdict) {
	if m.refusals.add(addr, name, v, time.Now()) {
		m.log.Warn("host refused", "from", addr, "name", clip(name), "code", v.Code, "reason", v.Reason)
	}
	m.poke()
}

func (m *Mesh) poke() {
	select {
	case m.changed <- struct{}{}:
	default:
	}
}

// Changed announces, coalesced, that membership or a record has changed.
func (m *Mesh) Changed() <-chan struct{} { return m.changed }

// Refusals are the latest hosts that were not let in.
func (m *Mesh) Refusals() []Refusal { return m.refusals.all() }

// Publish makes body this peer's record. The same body again is no change, and
// a peer that has departed says nothing more.
func (m *Mesh) Publish(body Body) error {
	m.mu.Lock()
	own, ok := m.records[m.cfg.Identity.ID]
	if own.Body.Departed || ok && string(encode(own.Body)) == string(encode(body)) {
		m.mu.Unlock()
		return nil
	}
	r, err := m.cfg.Identity.sign(m.cfg.Token.MeshID, own.Version+1, body)
	if err != nil {
		m.mu.Unlock()
		return err
	}
	m.records[r.ID] = r
	m.mu.Unlock()
	m.announce(recordsMessage([]signed{r.signed}), r.ID.String())
	m.poke()
	return nil
}

// Depart tells the mesh that this peer leaves for good, and ends membership.
// A few peers are told on a connection of their own, so that the word is not
// lost with this host.
func (m *Mesh) Depart(ctx context.Context) error {
	m.mu.Lock()
	body := m.records[m.cfg.Identity.ID].Body
	m.mu.Unlock()
	body.Departed, body.Prefixes, body.Gateway, body.FreeBlocks = true, nil, netip.Addr{}, 0
	if err := m.Publish(body); err != nil {
		return err
	}
	m.mu.Lock()
	farewell := recordsMessage([]signed{m.records[m.cfg.Identity.ID].signed})
	m.mu.Unlock()
	const told = 3
	var errs []error
	n := 0
	for _, node := range m.others() {
		if n == told || ctx.Err() != nil {
			break
		}
		if err := m.list.SendReliable(node, farewell); err != nil {
			errs = append(errs, err)
			continue
		}
		n++
	}
	if err := m.list.Leave(helloTime); err != nil {
		errs = append(errs, err)
	}
	if n > 0 || len(errs) == 0 {
		return nil
	}
	return fmt.Errorf("say farewell to the mesh: %w", errors.Join(errs...))
}

// Close ends this process's part without telling anybody that the peer is
// gone, since its kernel goes on forwarding.
func (m *Mesh) Close() error {
	m.cancel()
	err := m.list.Shutdown()
	m.wg.Wait()
	return err
}
