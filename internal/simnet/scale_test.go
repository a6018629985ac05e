package simnet

import (
	"flag"
	"fmt"
	"log/slog"
	"net/netip"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"github.com/weft-net/weft/mesh"
)

var size = flag.Int("simnet.peers", 20, "how many peers")

// world is a mesh of many real peers.
type world struct {
	t     *testing.T
	net   *Network
	peers []*mesh.Mesh
	ids   []mesh.Identity
	snaps [][]byte
	token mesh.Token
	cache *mesh.VerifyCache
	table []string
}

func (w *world) config(i int) mesh.Config {
	return mesh.Config{
		Identity: w.ids[i], Name: fmt.Sprintf("host%d", i), Token: w.token, Transport: w.net.Hosts[i], Bind: w.net.Hosts[i].Addr, Advertise: w.net.Hosts[i].Addr,
		Snapshot: w.snaps[i], Logger: slog.New(slog.DiscardHandler), Verified: w.cache, Targets: []string{w.net.Hosts[0].Addr.String(), w.net.Hosts[1].Addr.String()},
	}
}

// body is about what a daemon publishes.
func (w *world) body(i, prefixes int) mesh.Body {
	b := mesh.Body{Name: fmt.Sprintf("host%d", i), Gossip: []netip.AddrPort{w.net.Hosts[i].Addr}, Underlay: []netip.Addr{w.net.Hosts[i].Addr.Addr()},
		Transports: []string{"wireguard"}, WireGuardKey: make([]byte, 32), Gateway: netip.AddrFrom4([4]byte{10, 32, byte(i >> 8), byte(i)}), Software: "0.1.0"}
	for p := range prefixes {
		b.Prefixes = append(b.Prefixes, netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 40 + byte(p), byte(i >> 4), byte(i << 4)}), 28))
	}
	return b
}

func (w *world) launch(i int) {
	w.net.Hosts[i].Power()
	m, err := mesh.New(w.config(i))
	if err != nil {
		w.t.Fatal(err)
	}
	w.peers[i] = m
	if err := m.Publish(w.body(i, 1)); err != nil {
		w.t.Fatal(err)
	}
	_, _ = m.Join(w.t.Context()) // who finds nobody goes on looking
}

// measure runs something and waits until a condition holds, and notes how long
// it took and how much was sent.
func (w *world) measure(what string, do func(), done func() bool) {
	w.t.Helper()
	start, before, real := time.Now(), w.net.Sent(), realTime()
	do()
	for step := 50 * time.Millisecond; !done(); time.Sleep(step) {
		if time.Since(start) > 20*time.Minute {
			w.t.Fatalf("%s: not done after 20 minutes", what)
		}
	}
	took, sent := time.Since(start), w.net.Sent()-before
	w.note(what, took, sent, real)
}

func (w *world) note(what string, took time.Duration, sent int64, since time.Time) {
	line := fmt.Sprintf("| %5d | %-42s | %8.1f | %10.1f | %8.1f |", len(w.peers), what, took.Seconds(), float64(sent)/float64(len(w.peers))/1e3, float64(sent)*8/took.Seconds()/float64(len(w.peers))/1e3)
	w.table = append(w.table, line)
	w.t.Logf("%s (real time %s)", line, realTime().Sub(since).Round(time.Millisecond))
}

// alive counts the peers that a peer sees alive with the record that they have.
func (w *world) alive(i int) (n int) {
	for _, p := range w.peers[i].Peers() {
		if p.State == mesh.StateAlive && p.Record.Name != "" {
			n++
		}
	}
	return n
}

func (w *world) allSee(n int, skip func(i int) bool) bool {
	for i := range w.peers {
		if !skip(i) && w.alive(i) != n {
			return false
		}
	}
	return true
}

func none(int) bool { return false }

func TestScale(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := *size
		w := &world{t: t, net: New(t, n+1), peers: make([]*mesh.Mesh, n), snaps: make([][]byte, n+1), cache: mesh.NewVerifyCache()}
		var err error
		if w.token, err = mesh.NewToken(); err != nil {
			t.Fatal(err)
		}
		for _, h := range w.net.Hosts {
			_ = h.Shutdown() // never fails; each is powered when its peer is launched
		}
		for range n + 1 {
			id, err := mesh.NewIdentity()
			if err != nil {
				t.Fatal(err)
			}
			w.ids = append(w.ids, id)
		}
		t.Cleanup(func() {
			for _, p := range w.peers {
				if p != nil {
					p.Close()
				}
			}
		})
		w.measure("all join, ten at a time", func() {
			for i := range w.peers {
				w.launch(i)
				if i%10 == 9 {
					time.Sleep(200 * time.Millisecond)
				}
			}
		}, func() bool { return w.allSee(n, none) })
		time.Sleep(time.Minute)
		runtime.GC()
		var mem runtime.MemStats
		runtime.ReadMemStats(&mem)
		t.Logf("%d peers: %.1f MB of heap for each, %d goroutines for each", n, float64(mem.HeapAlloc)/float64(n)/1e6, runtime.NumGoroutine()/n)
		const idle = 4 * time.Minute // longer than it takes until everybody has exchanged with somebody
		before, real := w.net.Sent(), realTime()
		time.Sleep(idle)
		w.note("idle", idle, w.net.Sent()-before, real)
		w.measure("one prefix changes", func() {
			if err := w.peers[n/2].Publish(w.body(n/2, 2)); err != nil {
				t.Fatal(err)
			}
		}, func() bool {
			for _, p := range w.peers {
				for _, o := range p.Peers() {
					if o.ID == w.ids[n/2].ID && len(o.Record.Prefixes) != 2 {
						return false
					}
				}
			}
			return true
		})
		crashed := func(i int) bool { return i%10 == 9 }
		w.measure("a tenth crashes", func() {
			for i, p := range w.peers {
				if crashed(i) {
					w.snaps[i] = p.Snapshot()
					p.Close()
				}
			}
		}, func() bool { return w.allSee(n-n/10, crashed) })
		w.measure("the tenth comes back", func() {
			for i := range w.peers {
				if crashed(i) {
					w.launch(i)
				}
			}
		}, func() bool { return w.allSee(n, none) })
		w.measure("all restart at once", func() {
			for i, p := range w.peers {
				w.snaps[i] = p.Snapshot()
				p.Close()
			}
			started := make(chan struct{})
			for i := range w.peers {
				go func() { w.launch(i); started <- struct{}{} }()
			}
			for range w.peers {
				<-started
			}
		}, func() bool { return w.allSee(n, none) })
		gone := w.ids[n-1].ID
		w.measure("one leaves for good", func() {
			if err := w.peers[n-1].Depart(t.Context()); err != nil {
				t.Fatal(err)
			}
		}, func() bool {
			for i, p := range w.peers[:n-1] {
				_ = i
				if stateOf(p, gone) != mesh.StateDeparted {
					return false
				}
			}
			return true
		})
	})
}

func stateOf(m *mesh.Mesh, id uuid.UUID) mesh.State {
	for _, p := range m.Peers() {
		if p.ID == id {
			return p.State
		}
	}
	return ""
}
