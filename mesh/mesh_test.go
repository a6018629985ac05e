package mesh

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
)

// board is a Channel: a set of words that only grows.
type board struct {
	mu       sync.Mutex
	words    map[string]bool
	received []string
}

func (b *board) Name() string { return "board" }

func (b *board) State() []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	var all []string
	for w := range b.words {
		all = append(all, w)
	}
	return []byte(strings.Join(all, "\n"))
}

func (b *board) Merge(state []byte) []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	var news []string
	for w := range strings.SplitSeq(string(state), "\n") {
		if w != "" && !b.words[w] {
			b.words[w] = true
			news = append(news, w)
		}
	}
	if news == nil {
		return nil
	}
	return []byte(strings.Join(news, "\n"))
}

func (b *board) Receive(from uuid.UUID, msg []byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.received = append(b.received, from.String()+" "+string(msg))
}

func (b *board) has(w string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.words[w]
}

type testPeer struct {
	*Mesh
	board *board
	cfg   Config
}

func freePort(t testing.TB) netip.AddrPort {
	t.Helper()
	for range 50 {
		l, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		addr := netip.MustParseAddrPort(l.Addr().String())
		u, err := net.ListenPacket("udp4", addr.String())
		l.Close()
		if err == nil {
			u.Close()
			return addr
		}
	}
	t.Fatal("no port is free for both TCP and UDP")
	return netip.AddrPort{}
}

func quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

func start(t *testing.T, cfg Config) *testPeer {
	t.Helper()
	p := &testPeer{board: &board{words: map[string]bool{}}}
	if cfg.Identity.Key == nil {
		cfg.Identity = newIdentity(t)
	}
	if !cfg.Bind.IsValid() {
		cfg.Bind = freePort(t)
	}
	cfg.Advertise, cfg.Channels, cfg.Logger = cfg.Bind, []Channel{p.board}, quiet()
	m, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	p.Mesh, p.cfg = m, cfg
	t.Cleanup(func() { m.Close() })
	if err := m.Publish(Body{Name: cfg.Name, Gossip: []netip.AddrPort{cfg.Bind}, Protocol: ProtocolVersion}); err != nil {
		t.Fatal(err)
	}
	return p
}

// eventually waits for what has to become true by itself.
func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if cond() {
			return
		}
	}
	t.Fatalf("never: %s", what)
}

func (p *testPeer) state(id uuid.UUID) State {
	for _, o := range p.Peers() {
		if o.ID == id {
			return o.State
		}
	}
	return ""
}

func meshOf(t *testing.T, n int) (Token, []*testPeer) {
	t.Helper()
	tok := newToken(t)
	peers := []*testPeer{start(t, Config{Token: tok, Name: "p0"})}
	for i := 1; i < n; i++ {
		p := start(t, Config{Token: tok, Name: fmt.Sprintf("p%d", i), Targets: []string{peers[0].cfg.Bind.String()}})
		if n, err := p.Join(t.Context()); n != 1 || err != nil {
			t.Fatalf("Join = %d, %v", n, err)
		}
		peers = append(peers, p)
	}
	for _, p := range peers {
		eventually(t, "every peer knows every other", func() bool {
			alive := 0
			for _, o := range p.Peers() {
				if o.State == StateAlive && strings.HasPrefix(o.Record.Name, "p") {
					alive++
				}
			}
			return alive == n
		})
	}
	return tok, peers
}

func TestEveryPeerKnowsEveryOtherAndChannelsReachAll(t *testing.T) {
	_, peers := meshOf(t, 5)
	peers[3].board.Merge([]byte("news"))
	peers[3].Broadcast("board", []byte("news"))
	large := strings.Repeat("x", 5000)
	peers[2].board.Merge([]byte(large))
	peers[2].Broadcast("board", []byte(large))
	for _, p := range peers {
		eventually(t, "a broadcast reaches all, whatever its size", func() bool { return p.board.has("news") && p.board.has(large) })
	}
	peers[1].Send(peers[4].cfg.Identity.ID, "board", []byte("psst"))
	eventually(t, "a message reaches its peer with its sender's id", func() bool {
		b := peers[4].board
		b.mu.Lock()
		defer b.mu.Unlock()
		return len(b.received) == 1 && b.received[0] == peers[1].cfg.Identity.ID.String()+" psst"
	})
}

func TestRecordChangesReachAllAndTheSameAgainIsNone(t *testing.T) {
	_, peers := meshOf(t, 3)
	id := peers[1].cfg.Identity.ID
	for range 2 {
		if err := peers[1].Publish(Body{Name: "p1-renamed", Gossip: []netip.AddrPort{peers[1].cfg.Bind}}); err != nil {
			t.Fatal(err)
		}
	}
	for _, p := range peers {
		eventually(t, "all see version 2", func() bool {
			for _, o := range p.Peers() {
				if o.ID == id {
					return o.Version == 2 && o.Record.Name == "p1-renamed"
				}
			}
			return false
		})
	}
}

func TestKilledPeerIsKeptAsFailedAndComesBack(t *testing.T) {
	_, peers := meshOf(t, 3)
	gone := peers[2]
	id := gone.cfg.Identity.ID
	snap := gone.Snapshot()
	gone.Close()
	eventually(t, "the others see it fail and keep it", func() bool {
		return peers[0].state(id) == StateFailed && peers[1].state(id) == StateFailed
	})
	cfg := gone.cfg
	cfg.Snapshot, cfg.Targets = snap, nil // it finds the others by what it remembers
	again := start(t, cfg)
	if _, err := again.Join(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "all see it alive", func() bool {
		return peers[0].state(id) == StateAlive && peers[1].state(id) == StateAlive && again.state(peers[0].cfg.Identity.ID) == StateAlive
	})
}

func TestLostMemoryDoesNotSilenceAPeer(t *testing.T) {
	_, peers := meshOf(t, 2)
	p := peers[1]
	for i := range 5 {
		if err := p.Publish(Body{Name: fmt.Sprintf("p1-%d", i), Gossip: []netip.AddrPort{p.cfg.Bind}}); err != nil {
			t.Fatal(err)
		}
	}
	p.Close()
	cfg := p.cfg
	cfg.Name = "p1-new"
	again := start(t, cfg) // without a snapshot it begins at version 1
	if _, err := again.Join(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the other hears what it says now", func() bool {
		for _, o := range peers[0].Peers() {
			if o.ID == p.cfg.Identity.ID {
				return o.Record.Name == "p1-new"
			}
		}
		return false
	})
}

func TestDepartedPeerIsKnownAsSuchAndNotLetInAgain(t *testing.T) {
	tok, peers := meshOf(t, 3)
	gone := peers[2]
	id := gone.cfg.Identity.ID
	if err := gone.Depart(t.Context()); err != nil {
		t.Fatal(err)
	}
	gone.Close()
	eventually(t, "the others know", func() bool {
		return peers[0].state(id) == StateDeparted && peers[1].state(id) == StateDeparted
	})
	if got := peers[0].missing(time.Now(), true); len(got) != 0 {
		t.Errorf("peers that are still dialled: %v", got)
	}
	_, err := Hello(t.Context(), peers[0].cfg.Bind.String(), tok, HelloSelf{ID: id, Name: "p2"})
	var refused *RefusedError
	if !errors.As(err, &refused) || refused.Code != CodeDeparted {
		t.Errorf("hello of the departed: %v", err)
	}
}

func TestTargetThatIsDownIsJoinedOnceItIsUp(t *testing.T) {
	tok := newToken(t)
	later := freePort(t)
	p := start(t, Config{Token: tok, Name: "early", Targets: []string{later.String()}})
	if _, err := p.Join(t.Context()); err == nil {
		t.Fatal("joined nobody without an error")
	}
	if ts := p.Targets(); len(ts) != 1 || ts[0].Connected || ts[0].LastError == "" {
		t.Errorf("targets: %+v", ts)
	}
	late := start(t, Config{Token: tok, Name: "late", Bind: later})
	eventually(t, "they find each other", func() bool { return late.state(p.cfg.Identity.ID) == StateAlive && p.Targets()[0].Connected })
}

func TestHelloTellsBothSidesWhy(t *testing.T) {
	tok := newToken(t)
	p := start(t, Config{Token: tok, Name: "p", Settings: []byte("settings")})
	badSecret := tok
	badSecret.Secret[0]++
	stranger := HelloSelf{ID: newIdentity(t).ID, Name: "stranger"}
	differs := stranger
	differs.Settings = []byte("other settings")
	for _, tc := range []struct {
		name, code string
		token      Token
		self       HelloSelf
		server     bool // refused by the server, which then counts it
	}{
		{"foreign mesh", CodeForeignMesh, newToken(t), stranger, true},
		{"wrong secret", CodeBadToken, badSecret, stranger, true},
		{"other settings", CodeSettings, tok, differs, true},
		{"itself", CodeSelf, tok, HelloSelf{ID: p.cfg.Identity.ID}, false},
	} {
		_, err := Hello(t.Context(), p.cfg.Bind.String(), tc.token, tc.self)
		var refused *RefusedError
		if !errors.As(err, &refused) || refused.Code != tc.code || refused.Reason == "" {
			t.Errorf("%s: %v; want code %s", tc.name, err, tc.code)
		}
		if tc.server {
			eventually(t, "the server knows, too: "+tc.name, func() bool {
				for _, r := range p.Refusals() {
					if r.Code == tc.code && r.Name == "stranger" && r.Addr == "127.0.0.1" {
						return true
					}
				}
				return false
			})
		}
	}
	w, err := Hello(t.Context(), p.cfg.Bind.String(), tok, stranger)
	if err != nil || string(w.Settings) != "settings" || w.ID != p.cfg.Identity.ID || w.Name != "p" {
		t.Errorf("a good hello: %+v, %v", w, err)
	}
}

func TestHelloToWhatIsNotWeftSaysSo(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			io.WriteString(c, "HTTP/1.1 400 Bad Request\r\n\r\n")
			c.Close()
		}
	}()
	addr := l.Addr().String()
	for range 2 { // once with the wrong server, once with none
		var unreachable *UnreachableError
		if _, err := Hello(t.Context(), addr, newToken(t), HelloSelf{}); !errors.As(err, &unreachable) {
			t.Errorf("hello: %v", err)
		}
		l.Close()
	}
}

func TestGarbageOnThePortDoesNotDisturbTheMesh(t *testing.T) {
	_, peers := meshOf(t, 2)
	for _, junk := range []string{"WEFT", "WEFT\xff\xff", "WEFT\x00\x05hello", "GET / HTTP/1.1\r\n\r\n", strings.Repeat("\xf4", 3000), "x"} {
		c, err := net.Dial("tcp", peers[0].cfg.Bind.String())
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(c, junk)
		c.Close()
	}
	peers[0].board.Merge([]byte("still here"))
	peers[0].Broadcast("board", []byte("still here"))
	eventually(t, "gossip goes on", func() bool { return peers[1].board.has("still here") })
}

func FuzzForeignMessage(f *testing.F) {
	m := &Mesh{cfg: Config{Identity: newIdentity(f)}, log: quiet(), channels: map[string]Channel{}, records: records{}, heardFrom: map[uuid.UUID]netip.AddrPort{}, changed: make(chan struct{}, 1)}
	m.channels["board"] = &board{words: map[string]bool{}}
	f.Add(recordsMessage(nil))
	f.Add(encode(channelMessage(kindDirect, "board", []byte("x"))))
	f.Fuzz(func(t *testing.T, b []byte) {
		var msg message
		if decoder.Unmarshal(b, &msg) == nil && msg.Kind == kindDirect {
			_ = m.receiveDirect(msg)
		}
		m.mergeRecords(msg.Records)
		var open helloOpen
		_, _ = readFrame(bytes.NewReader(b), &open)
		_, _ = restore(meshA, b)
	})
}
