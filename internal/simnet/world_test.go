package simnet

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/netip"
	"reflect"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"github.com/fxamacker/cbor/v2"
	"github.com/hashicorp/memberlist"
	"github.com/weft-net/weft/mesh"
)

// world is a mesh of many real peers.
type world struct {
	t      *testing.T
	net    *Network
	peers  []*mesh.Mesh // nil for one that is not running
	ids    []mesh.Identity
	snaps  [][]byte
	latest []byte // of snaps
	token  mesh.Token
	cache  *mesh.VerifyCache
}

// sharing is the number of peers from which on records that one of them has
// verified are taken as verified by all, and are in memory once.
const sharing = 500

func newWorld(t *testing.T, n int) *world {
	w := &world{t: t, net: New(t, n), peers: make([]*mesh.Mesh, n), snaps: make([][]byte, n)}
	if n >= sharing {
		w.cache = mesh.NewVerifyCache()
	}
	var err error
	if w.token, err = mesh.NewToken(); err != nil {
		t.Fatal(err)
	}
	for _, h := range w.net.Hosts {
		_ = h.Shutdown() // never fails; each is powered when its peer is launched
		id, err := mesh.NewIdentity()
		if err != nil {
			t.Fatal(err)
		}
		w.ids = append(w.ids, id)
	}
	t.Cleanup(func() {
		for _, p := range w.running() {
			_ = p.Close() // of a host that is down
		}
	})
	return w
}

// start runs a peer that has joined nobody yet.
func (w *world) start(i int) {
	at := w.net.Hosts[i]
	at.Power()
	m, err := mesh.New(mesh.Config{
		Identity: w.ids[i], Name: fmt.Sprintf("host%d", i), Token: w.token, Transport: at, Bind: at.Addr, Advertise: at.Addr,
		Snapshot: w.snaps[i], Logger: slog.New(slog.DiscardHandler), Verified: w.cache, Targets: []string{w.net.Hosts[0].Addr.String(), w.net.Hosts[1].Addr.String()},
	})
	if err != nil {
		w.t.Error(err)
		return
	}
	w.peers[i] = m
	w.publish(i, 1)
}

func (w *world) launch(i int) {
	if w.start(i); w.peers[i] != nil {
		_, _ = w.peers[i].Join(w.t.Context()) // who finds nobody goes on looking
	}
}

// atOnce bounds how many launches are under way: no virtual time passes while they
// wait for each other, and each has what it exchanges in memory.
const atOnce = 32

// launchAll launches the first n peers at one moment.
func (w *world) launchAll(n int) {
	var all sync.WaitGroup
	turn := make(chan struct{}, atOnce)
	for i := range n {
		turn <- struct{}{}
		all.Go(func() {
			w.launch(i)
			<-turn
		})
	}
	all.Wait()
}

// stop ends a peer as a crash would, but that it remembers all it knew.
func (w *world) stop(i int) {
	p := w.peers[i]
	if p == nil {
		return
	}
	if snap := p.Snapshot(); !bytes.Equal(snap, w.latest) {
		w.latest = snap
	}
	w.snaps[i] = w.latest // those that know the same have it in memory once
	_ = p.Close()         // of a host that is down
	w.peers[i] = nil
}

// prepare gives the first n peers, which have never met, what they would remember
// of a mesh that they had all been in: the record of each.
func (w *world) prepare(n int) {
	var all struct {
		_       struct{} `cbor:",toarray"`
		Version int
		Records []cbor.RawMessage
	}
	for i := range n {
		w.start(i)
		w.stop(i)
		own := all
		own.Records = nil
		if err := cbor.Unmarshal(w.snaps[i], &own); err != nil || len(own.Records) != 1 {
			w.t.Fatalf("a peer that is alone remembers %d records: %v", len(own.Records), err)
		}
		all.Version, all.Records = own.Version, append(all.Records, own.Records...)
	}
	b, err := cbor.Marshal(all)
	if err != nil {
		w.t.Fatal(err)
	}
	for i := range n {
		w.snaps[i] = b
	}
}

// acquaint makes a mesh of the first n peers in no time: each exchanges everything with
// one of them, twice, and what they would gossip of that, which all know, is forgotten.
func (w *world) acquaint(n int) {
	for i := range n {
		w.launch(i)
	}
	first := w.ids[0].ID.String() + "/" + w.net.Hosts[0].Addr.String()
	for _, p := range w.peers[1:n] {
		if _, err := field[*memberlist.Memberlist](p, "list").Join([]string{first}); err != nil {
			w.t.Fatal(err)
		}
	}
	synctest.Wait()
	knowsAll := w.sees(n, mesh.StateAlive)
	for i, p := range w.peers[:n] {
		if !knowsAll(p) {
			w.t.Fatalf("peer %d has not been told of all", i)
		}
		field[*memberlist.TransmitLimitedQueue](field[*memberlist.Memberlist](p, "list"), "broadcasts").Reset()
		field[*memberlist.TransmitLimitedQueue](p, "queue").Prune(1) // which keeps the entry that is never sent
	}
}

// field is one that is not exported, of what a pointer leads to.
func field[T any](of any, name string) T {
	f := reflect.ValueOf(of).Elem().FieldByName(name)
	return reflect.NewAt(f.Type(), unsafe.Pointer(f.UnsafeAddr())).Elem().Interface().(T)
}

// publish says about what a daemon does.
func (w *world) publish(i, prefixes int) {
	at := w.net.Hosts[i].Addr
	b := mesh.Body{Name: fmt.Sprintf("host%d", i), Gossip: []netip.AddrPort{at}, Underlay: []netip.Addr{at.Addr()}, UnderlayMTU: 1500,
		Transports: []string{"wireguard"}, Slots: []mesh.Slot{{Port: 6785, Key: make([]byte, 32)}}, WireGuardKey: make([]byte, 32),
		Gateway: netip.AddrFrom4([4]byte{10, 32, byte(i >> 8), byte(i)}), Protocol: mesh.ProtocolVersion, Software: "0.1.0", Used: 3, FreeBlocks: 17}
	for p := range prefixes {
		b.Prefixes = append(b.Prefixes, netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 40 + byte(p), byte(i >> 4), byte(i << 4)}), 28))
	}
	if err := w.peers[i].Publish(b); err != nil {
		w.t.Error(err)
	}
}

// sees tells whether a peer sees so many in a state, with the record that they
// have said.
func (w *world) sees(n int, s mesh.State) func(*mesh.Mesh) bool {
	return func(p *mesh.Mesh) bool {
		seen := 0
		for _, o := range p.Peers() {
			if o.State == s && o.Record.Name != "" {
				seen++
			}
		}
		return seen == n
	}
}

func (w *world) running() (out []*mesh.Mesh) {
	for _, p := range w.peers {
		if p != nil {
			out = append(out, p)
		}
	}
	return out
}

// measure does something, waits until a condition holds for each running peer,
// and notes how long that took and how much was sent until then, and in the
// whole window.
func (w *world) measure(what string, do func(), holds func(*mesh.Mesh) bool) {
	w.t.Helper()
	start, before, real := time.Now(), w.net.Sent(), realTime()
	do()
	peers := w.running()
	// Who was not ready the last time is asked first, as asking costs.
	for ready, at := 0, 0; ready < len(peers); {
		if holds(peers[at%len(peers)]) {
			ready, at = ready+1, at+1
			continue
		}
		if ready = 0; time.Since(start) > 20*time.Minute {
			w.t.Fatalf("%s: not done after 20 minutes", what)
		}
		time.Sleep(50 * time.Millisecond)
	}
	took, sent := time.Since(start), w.net.Sent()-before
	time.Sleep(max(0, window-took))
	n := float64(len(peers))
	w.note(Result{What: what, Seconds: took.Seconds(), Until: float64(sent) / n, Rate: float64(w.net.Sent()-before) / n / time.Since(start).Seconds()})
	w.t.Logf("real time %s", realTime().Sub(real).Round(time.Millisecond))
}

// idle waits until nobody has anything to gossip any more, which takes minutes in a
// large mesh that has been restarted, and counts what is sent then.
func (w *world) idle() {
	const long = 2 * time.Minute
	start := time.Now()
	for slices.ContainsFunc(w.running(), func(p *mesh.Mesh) bool { return p.Counters().Spreading > 0 }) {
		time.Sleep(10 * time.Second)
	}
	w.t.Logf("nothing is gossiped any more after %s", time.Since(start))
	before := w.net.Sent()
	time.Sleep(long)
	w.note(Result{What: "idle", Rate: float64(w.net.Sent()-before) / float64(len(w.running())) / long.Seconds()})
}

func (w *world) note(r Result) {
	r.Peers = *size
	w.t.Logf("%+v", r)
	if *record != "" { // each at once, as a large mesh may not get to the end
		if err := keepResults(*record, r); err != nil {
			w.t.Fatal(err)
		}
	}
}
