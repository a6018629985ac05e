package mesh

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/google/uuid"
	"github.com/hashicorp/memberlist"
)

// reclaimAfter is when a peer that has failed may come back from another
// address: it is the same peer, since its id follows from its key.
const reclaimAfter = 5 * time.Second

// listen opens the gossip port, for hellos and memberlist together.
func (m *Mesh) listen() error {
	logger := newMemberlog(m.log)
	inner := m.cfg.Transport
	if inner == nil {
		t, err := memberlist.NewNetTransport(&memberlist.NetTransportConfig{
			BindAddrs: []string{m.cfg.Bind.Addr().String()}, BindPort: int(m.cfg.Bind.Port()), Logger: logger,
		})
		if err != nil {
			return fmt.Errorf("listen on %s: %w", m.cfg.Bind, err)
		}
		m.cfg.Bind = netip.AddrPortFrom(m.cfg.Bind.Addr(), uint16(t.GetAutoBindPort()))
		inner = t
	} else {
		m.dial = func(_ context.Context, addr string) (net.Conn, error) { return inner.DialTimeout(addr, helloTime) }
	}
	m.callers = newCallers()
	door := &doorman{tokens: func() []Token { t := m.Tokens(); return t.all() }, departed: m.hasDeparted, elsewhere: m.elsewhere, outdated: m.isOutdated, refused: m.refuse,
		self: HelloSelf{ID: m.cfg.Identity.ID, Name: m.cfg.Name, Settings: m.cfg.Settings, Life: m.cfg.Life},
		back: func(open helloOpen) bool { return m.connectBack(m.ctx, open) },
		line: func(id uuid.UUID, conn net.Conn) { m.wg.Go(func() { m.callers.hold(id.String(), conn) }) }}
	tr := newTransport(inner, func(c net.Conn) {
		if err := door.answer(c); err != nil {
			m.log.Debug("hello broke off", "from", c.RemoteAddr(), "err", err)
		}
	}, network{route: m.route, reached: m.reached, callers: m.callers, dial: m.dialTo, news: m.poke})
	m.transport = tr

	c := memberlist.DefaultLANConfig()
	c.Name = m.cfg.Identity.ID.String()
	c.Transport = tr
	c.BindAddr, c.BindPort = m.cfg.Bind.Addr().String(), int(m.cfg.Bind.Port())
	if m.cfg.Advertise.IsValid() {
		c.AdvertiseAddr, c.AdvertisePort = m.cfg.Advertise.Addr().String(), int(m.cfg.Advertise.Port())
	}
	var err error
	if m.keyring, err = memberlist.NewKeyring(nil, m.turn.Use.derive("gossip")); err == nil {
		err = m.rekey(m.turn.Tokens)
	}
	if err != nil {
		_ = tr.Shutdown() // the first error is the one that counts
		return fmt.Errorf("start membership: %w", err)
	}
	c.Keyring = m.keyring // GossipVerifyIncoming and -Outgoing are on by default
	c.Label = m.cfg.Token.MeshID.String()
	c.TCPTimeout = helloTime
	c.DeadNodeReclaimTime = reclaimAfter
	c.PushPullInterval = pushPullEvery
	c.EnableCompression = false // signatures do not compress, and tables are compact already
	c.Delegate, c.Events = (*delegate)(m), (*delegate)(m)
	c.Logger = logger
	m.queue = newQueue(m.audience, c.RetransmitMult)
	list, err := memberlist.Create(c)
	if err != nil {
		_ = tr.Shutdown() // the first error is the one that counts
		return fmt.Errorf("start membership: %w", err)
	}
	m.list = list
	at := m.cfg.Advertise
	if self := list.LocalNode(); !at.IsValid() {
		addr, _ := netip.AddrFromSlice(self.Addr)
		at = netip.AddrPortFrom(addr.Unmap(), self.Port)
	}
	m.at.Store(&at)
	tr.open()
	return nil
}

// Advertise is where the other peers reach this one.
func (m *Mesh) Advertise() netip.AddrPort {
	if at := m.at.Load(); at != nil {
		return *at
	}
	return m.cfg.Advertise
}

// Move tells the mesh that its peer is reached elsewhere from now on, and has these
// addresses of its own. The others hear of it by the record; to memberlist the peer
// stays where it began, which says no more than who it is. What is known of ways to
// here holds no more.
func (m *Mesh) Move(at netip.AddrPort, own []netip.Addr) {
	m.at.Store(&at)
	m.own.Store(&own)
	select {
	case m.moved <- struct{}{}:
	default: // it is looked at already
	}
	m.mu.Lock()
	clear(m.confinement.through)
	m.mu.Unlock()
	m.reached.clear()
}

// remeta has memberlist tell the others that this peer's record is newer.
func (m *Mesh) remeta() {
	select {
	case m.newMeta <- struct{}{}:
	default: // it is to be told already
	}
}

// metaTime is how long one telling of metadata may take.
const metaTime = time.Second

func (m *Mesh) tellMeta() {
	for {
		select {
		case <-m.ctx.Done():
			return
		case <-m.newMeta:
			if m.hasDeparted(m.cfg.Identity.ID) {
				continue // memberlist hears it as a leave
			}
			if err := m.list.UpdateNode(metaTime); err != nil {
				m.log.Debug("metadata not told", "err", err)
			}
		}
	}
}
