package mesh

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/weft-net/weft/internal/simnet"
)

// testPeer is a Mesh with a board as its only channel.
type testPeer struct {
	*Mesh
	board *board
	cfg   Config
	at    *host // nil for real TCP and UDP
}

func (p *testPeer) id() uuid.UUID { return p.cfg.Identity.ID }

// start runs a peer on a host, or, if that is nil, on a free port of the
// loopback interface.
func start(t *testing.T, at *host, cfg Config) *testPeer {
	t.Helper()
	p := &testPeer{board: &board{words: map[string]bool{}}, at: at}
	if cfg.Identity.Key == nil {
		cfg.Identity = newIdentity(t)
	}
	if at != nil {
		at.Power()
		cfg.Transport, cfg.Bind, cfg.Advertise = at, at.Addr, at.Addr
	} else if !cfg.Bind.IsValid() {
		cfg.Bind = netip.MustParseAddrPort("127.0.0.1:0")
	}
	cfg.Channels = []Channel{p.board}
	if cfg.Logger == nil {
		cfg.Logger = quiet()
	}
	m, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	p.Mesh, p.cfg = m, cfg
	t.Cleanup(func() { m.Close() })
	p.publish(t, cfg.Name)
	return p
}

// publish makes a name the peer's record.
func (p *testPeer) publish(t *testing.T, name string) {
	t.Helper()
	if err := p.Publish(Body{Name: name, Gossip: []netip.AddrPort{p.Advertise()}}); err != nil {
		t.Fatal(err)
	}
}

// say is a change of the board that this peer makes.
func (p *testPeer) say(word string) {
	p.board.Merge([]byte(word))
	p.Broadcast("board", []byte(word))
}

// restart kills a peer without a word, and starts it with what its store has.
func (p *testPeer) restart(t *testing.T, at *host) *testPeer {
	t.Helper()
	cfg := p.cfg
	cfg.Snapshot, cfg.Targets = p.Snapshot(), nil
	p.Close()
	again := start(t, at, cfg)
	if _, err := again.Join(t.Context()); err != nil {
		t.Fatal(err)
	}
	return again
}

// see is what a peer knows of another.
func (p *testPeer) see(id uuid.UUID) Peer {
	for _, o := range p.Peers() {
		if o.ID == id {
			return o
		}
	}
	return Peer{}
}

// eventually waits for what has to become true by itself within the time.
func eventually(t *testing.T, within time.Duration, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(within); ; time.Sleep(50 * time.Millisecond) {
		if cond() {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s", within, what)
		}
	}
}

// all waits until something holds for each of the peers.
func all(t *testing.T, within time.Duration, what string, peers []*testPeer, cond func(*testPeer) bool) {
	t.Helper()
	for _, p := range peers {
		eventually(t, within, p.cfg.Name+": "+what, func() bool { return cond(p) })
	}
}

// knowsAlive tells that all these peers are alive to p, with their records.
func knowsAlive(peers []*testPeer) func(*testPeer) bool {
	return func(p *testPeer) bool {
		for _, o := range peers {
			if s := p.see(o.id()); s.State != StateAlive || !strings.HasPrefix(s.Record.Name, "p") {
				return false
			}
		}
		return true
	}
}

// meshOf has n peers who all know each other, and spare hosts.
func meshOf(t *testing.T, n, spare int) (*simnet.Network, []*testPeer) {
	t.Helper()
	w := newNetwork(t, n+spare)
	return w, meshIn(t, w, n)
}

// meshIn makes a mesh of a network's first n hosts.
func meshIn(t *testing.T, w *simnet.Network, n int) []*testPeer {
	t.Helper()
	tok := newToken(t)
	peers := []*testPeer{start(t, w.Hosts[0], Config{Token: tok, Name: "p0"})}
	for i := 1; i < n; i++ {
		p := start(t, w.Hosts[i], Config{Token: tok, Name: fmt.Sprintf("p%d", i), Targets: []string{peers[0].at.Addr.String()}})
		if n, err := p.Join(t.Context()); n != 1 || err != nil {
			t.Fatalf("Join = %d, %v", n, err)
		}
		peers = append(peers, p)
	}
	all(t, time.Minute, "knows every other", peers, knowsAlive(peers))
	return peers
}
