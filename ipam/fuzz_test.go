package ipam

import (
	"testing"

	"github.com/weft-net/weft/ipam/council"
)

// messages are one of each kind, as a running mesh sends them.
func messages(t testing.TB) [][]byte {
	var out [][]byte
	seen := map[kind]int{}
	w := newWorld(modes[2], 5)
	for _, h := range w.hosts {
		h.start()
	}
	e, _ := w.hosts[0].core.Found(1)
	w.hosts[0].do(e, nil)
	for range 3000 {
		w.step()
		for _, f := range w.flying {
			if seen[f.m.Kind] < 2 {
				seen[f.m.Kind]++
				out = append(out, simSpace.EncodeMsg(f.m))
			}
		}
	}
	if len(seen) < 12 {
		t.Errorf("only %d kinds of messages", len(seen))
	}
	return out
}

// target is a member that leads, with a ward, leases and what was sealed.
func target(t testing.TB) *world {
	w := newWorld(modes[2], 5)
	for _, h := range w.hosts {
		h.start()
	}
	e, err := w.hosts[0].core.Found(1)
	if err != nil {
		t.Fatal(err)
	}
	w.hosts[0].do(e, nil)
	for range 800 {
		w.step()
	}
	for _, h := range w.hosts {
		if h.core == nil {
			h.start()
		}
	}
	return w
}

// FuzzForeignMessagesNeverPanic gives what can be decoded to members in the
// name of another member, as it stands and with what it claims set right.
func FuzzForeignMessagesNeverPanic(f *testing.F) {
	for _, b := range messages(f) {
		f.Add(b)
	}
	w := target(f)
	var disks [][]Write
	for _, h := range w.hosts {
		disks = append(disks, saved(f, h.core))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := simSpace.DecodeMsg(b)
		if err != nil {
			return
		}
		for n, disk := range disks[:2] {
			c, err := New(Config{w.hosts[n].peer, simMesh, simRange, simBlockBits}, disk, 1<<60)
			if err != nil {
				t.Fatal(err)
			}
			c.Start()
			c.Tick(nil)
			other := w.hosts[(n+1)%2]
			_, _ = c.Receive(m.Peer, m)
			_, _ = c.Merge(m)
			right := *m
			right.Peer, right.From, right.FromID, right.Domain = other.peer, other.core.me, other.core.self, c.domain
			if right.To != (ID{}) {
				right.To = c.self
			}
			again := right
			_, _ = c.Receive(other.peer, &right)
			_, _ = c.Receive(other.peer, &again)
			_, _ = c.Merge(&again)
			c.Tick(nil)
			c.Audit()
			c.finish()
			if err := checkTable(c.table); err != nil {
				t.Fatal(err)
			}
			if s := c.Status(); s.Unowned < 0 || s.Used < 0 {
				t.Fatalf("status %+v", s)
			}
			c.Prefixes(other.peer)
			if _, err := New(c.cfg, saved(t, c), 1<<61); err != nil {
				t.Fatalf("it does not start again: %v", err)
			}
		}
	})
}

// FuzzForeignStoresNeverPanic reads any bytes as what was stored.
func FuzzForeignStoresNeverPanic(f *testing.F) {
	w := target(f)
	for _, x := range saved(f, w.hosts[0].core) {
		f.Add(x.Bucket, x.Key, EncodeWrite(x))
	}
	base := saved(f, w.hosts[0].core)
	f.Fuzz(func(t *testing.T, bucket, key string, b []byte) {
		x, err := DecodeWrite(bucket, key, b)
		if err != nil {
			return
		}
		for _, list := range [][]Write{{x}, append(append([]Write(nil), base...), x)} {
			sortWrites(list)
			c, err := New(Config{w.hosts[0].peer, simMesh, simRange, simBlockBits}, list, 1<<60)
			if err != nil {
				continue
			}
			c.Start()
			c.Tick(nil)
			_, _, _ = c.Allocate("x")
			c.Status()
		}
		_, _ = council.DecodeCommand(b)
		_, _ = council.DecodeState(b)
	})
}
