package mesh

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/hashicorp/memberlist"
)

// Channel is replicated state of another package. Merge and Receive are called
// one at a time; State at any time, and it must not wait for the mesh.
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
	Identity Identity
	Name     string // for people
	Token    Token
	// Tokens are those of a change that an earlier life has begun; nil for none.
	Tokens *Tokens
	// Given are tokens that this peer was given by hand though they are past; Join
	// uses one that is accepted where Use is not.
	Given []Token
	// KeepTokens makes tokens durable; it is called before they are used.
	KeepTokens func(Tokens) error
	Settings   []byte         // of the mesh, opaque here; peers with others are refused
	Bind       netip.AddrPort // where to listen, TCP and UDP; port 0 for any that is free
	Advertise  netip.AddrPort // where the other peers reach this one; zero for where it listens
	// Own are this host's own addresses, on whose segments other hosts find it; nil for
	// that of Advertise, which may be that of a router that forwards.
	Own      []netip.Addr
	Snapshot []byte   // what Snapshot returned in an earlier life; nil for none
	Targets  []string // hosts to join, see CheckTarget; the port is Bind's where there is none
	Channels []Channel
	Logger   *slog.Logger
	Life     Life // of this process; zero for one that New begins
	// Verified is shared by peers of one process; nil for none.
	Verified *VerifyCache
	// Transport carries gossip instead of TCP and UDP at Bind; nil for those.
	Transport memberlist.NodeAwareTransport
}

// Mesh is this peer's membership of a mesh. New starts it, Close ends it and
// waits for all that it runs.
type Mesh struct {
	cfg       Config
	log       *slog.Logger
	list      *memberlist.Memberlist
	dial      dialer
	queue     *memberlist.TransmitLimitedQueue
	keyring   *memberlist.Keyring
	channels  map[string]Channel
	refusals  refusals
	counts    counts
	changed   chan struct{}
	changes   atomic.Uint64 // of records, members and targets, counted after each
	copied    chan string
	spreading atomic.Int64 // how much news waited to be gossiped of late
	// inbox holds what memberlist brought, for the one goroutine that handles
	// it: a delegate must neither wait nor call memberlist.
	inbox   chan delivery
	waiting atomic.Int64 // bytes in inbox
	outbox  chan letter
	look    chan struct{} // there are new targets
	retold  chan struct{} // the own record has to say how far a change of the token is
	newMeta chan struct{} // own record has changed, memberlist's metadata has not
	ctx     context.Context
	cancel  context.CancelFunc
	wg      sync.WaitGroup

	// publishing is held from when this peer's record changes until it is announced.
	publishing sync.Mutex

	sendMu  sync.Mutex
	sending map[string]sending // by memberlist's name of the peer

	mu      sync.Mutex // never held while memberlist is called
	records records
	members map[uuid.UUID]*member
	lostAt  map[uuid.UUID]time.Time // when a member was no more
	// removed are the peers that are shut out, as SetRemoved was told, and goneSince
	// since when those that are known are gone, as far as this process has seen.
	removed   map[uuid.UUID]bool
	goneSince map[uuid.UUID]time.Time
	// farewells is when tombstones were heard whose time was over by then.
	farewells map[uuid.UUID]time.Time
	recent    []utterance
	turn      turn
	targets   map[string]*target  // as the user gave them
	attempts  map[string]*attempt // by address and port
	// The changes that attempts, the lateness of members and peers follow already, plus one.
	locatedAt, lateAt, peersAt uint64
	peers                      []Peer // what Peers returns
	// offered tells that a live peer may hold a token that this one has to have.
	offered bool
	// turnFails is why the change of the token does not go on, "" if it does, and
	// turnAgain when that is tried again.
	turnFails  string
	turnAgain  time.Time
	tokenAsked map[uuid.UUID]time.Time // who was asked for a token, and when
	// accepted tells that a peer has accepted the token that is used.
	accepted bool
	// heardFrom is where peers can be answered that have written to this one
	// before the news of their membership came here.
	heardFrom   map[uuid.UUID]netip.AddrPort
	confinement confinement

	at        atomic.Pointer[netip.AddrPort] // where the others reach this peer now
	own       atomic.Pointer[[]netip.Addr]   // its host's own addresses now, as Config.Own
	moved     chan struct{}                  // they are others
	transport *transport
	callers   *callers
	reached   *reached
	relines   chan struct{} // the lines have to be looked at
	joining   chan struct{} // holds one while everything is exchanged with a peer
}

// New listens and takes up what the snapshot knows. It joins nobody yet.
func New(cfg Config) (*Mesh, error) {
	if cfg.Life == (Life{}) {
		cfg.Life = NewLife(time.Now())
	}
	ctx, cancel := context.WithCancel(context.Background())
	m := &Mesh{
		cfg: cfg, log: cfg.Logger, dial: dialTCP, channels: map[string]Channel{}, changed: make(chan struct{}, 1), copied: make(chan string, 1),
		inbox: make(chan delivery, inboxMessages), outbox: make(chan letter, outboxMessages), sending: map[string]sending{}, newMeta: make(chan struct{}, 1), retold: make(chan struct{}, 1),
		moved: make(chan struct{}, 1), ctx: ctx, cancel: cancel, members: map[uuid.UUID]*member{}, lostAt: map[uuid.UUID]time.Time{}, farewells: map[uuid.UUID]time.Time{},
		reached: newReached(), relines: make(chan struct{}, 1), joining: make(chan struct{}, 1),
		confinement: confinement{through: map[uuid.UUID]word{}, asked: map[uuid.UUID]time.Time{}, held: map[uuid.UUID]bool{}},
		targets:     map[string]*target{}, attempts: map[string]*attempt{}, look: make(chan struct{}, 1), heardFrom: map[uuid.UUID]netip.AddrPort{}, tokenAsked: map[uuid.UUID]time.Time{},
	}
	m.turn.Tokens = Tokens{Use: cfg.Token}
	if cfg.Tokens != nil {
		m.turn.Tokens = *cfg.Tokens
	}
	m.own.Store(&cfg.Own)
	for _, c := range cfg.Channels {
		m.channels[c.Name()] = c
	}
	var err error
	leftOut := func(err error) { m.log.Warn("a remembered peer is left out", "err", err) }
	if m.records, err = restore(cfg.Verified, cfg.Token, cfg.Identity.ID, cfg.Snapshot, time.Now(), leftOut); err == nil {
		err = m.takeTargets(cfg.Targets)
	}
	if err == nil {
		err = m.listen()
	}
	if err != nil {
		cancel()
		return nil, err
	}
	m.wg.Go(m.handle)
	m.wg.Go(m.rejoin)
	m.wg.Go(m.exchange)
	m.wg.Go(m.follow)
	m.wg.Go(m.tellMeta)
	m.wg.Go(m.hearSegments)
	m.wg.Go(m.rotate)
	m.wg.Go(m.keepLines)
	m.wg.Go(m.send)
	return m, nil
}

func (m *Mesh) hasDeparted(id uuid.UUID) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.records.of(id).Body.Departed
}

func (m *Mesh) refuse(addr, name string, v verdict) {
	if m.refusals.add(addr, name, v, time.Now()) {
		m.log.Warn("host refused", "from", addr, "name", clip(name), "code", v.Code, "reason", v.Reason)
	}
	m.poke()
}

// poke says that something has changed, after it has.
func (m *Mesh) poke() {
	m.changes.Add(1)
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
// a peer that has departed says nothing more. It fails if the body is over the
// limits that other peers hold it to.
func (m *Mesh) Publish(body Body) error {
	return m.publish(func(Body) Body { return body })
}

// publish makes this peer's record what next makes of the one before. One after the
// other, so that an older record is not announced after a newer one.
func (m *Mesh) publish(next func(Body) Body) error {
	m.publishing.Lock()
	defer m.publishing.Unlock()
	m.mu.Lock()
	own := m.records.of(m.cfg.Identity.ID)
	body := next(own.Body)
	body.Token, body.SealKey = m.turn.standing(), m.cfg.Identity.sealKey().PublicKey().Bytes()
	body.Confined = m.confinedLocked()
	body = body.seenBy(m.cfg.Life, own.Body)
	body.Protocol = ProtocolVersion
	if own.Body.Departed || own.Version > 0 && string(encode(own.Body)) == string(encode(body)) {
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
	m.remeta()
	m.announce(recordsMessage([]signed{r.signed}), r.ID.String())
	m.poke()
	return nil
}

// Depart tells the mesh that this peer leaves for good, and ends membership.
// A few peers are told on a connection of their own, so that the word is not
// lost with this host. It fails if there are others and none could be told.
func (m *Mesh) Depart(ctx context.Context) error {
	err := m.publish(func(own Body) Body {
		own.Departed, own.DepartedAt, own.Prefixes, own.Gateway, own.FreeBlocks = true, time.Now().Unix(), nil, netip.Addr{}, 0
		return own
	})
	if err != nil {
		return err
	}
	m.mu.Lock()
	farewell := recordsMessage([]signed{m.records.of(m.cfg.Identity.ID).signed})
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
	m.callers.close()
	m.wg.Wait()
	return err
}
