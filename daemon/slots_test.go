package daemon

import (
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"github.com/weft-net/weft/encap"
	"github.com/weft-net/weft/internal/store"
	"github.com/weft-net/weft/mesh"
)

func bucketOf(t *testing.T, k keep) map[string][]byte {
	t.Helper()
	all, err := k.All(bucketPeer)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string][]byte{}
	for _, w := range all {
		out[string(w.Key)] = w.Value
	}
	return out
}

func TestKeysAreReadBackAndThoseThatAreGoneAreErased(t *testing.T) {
	k, _, _, err := openKeep(filepath.Join(t.TempDir(), "weft"), true)
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	old, err := encap.NewPrivateKey()
	if err != nil {
		t.Fatal(err)
	}
	// An older weft has left its one key.
	if err := k.Commit([]store.Write{{Bucket: bucketPeer, Key: []byte(keyTunnelKey), Value: old[:]}}); err != nil {
		t.Fatal(err)
	}
	var p peerState
	if err := p.setTunnelKey(bucketOf(t, k)[keyTunnelKey]); err != nil || len(p.slots) != 1 || p.slots[0].Key != old || p.slots[0].Epoch != 0 || !p.slots[0].Listed() {
		t.Fatalf("of an older weft: %v, %v", p.slots, err)
	}
	fresh, err := firstSlots(time.Unix(7, 0))
	if err != nil {
		t.Fatal(err)
	}
	next := []encap.Slot{{Epoch: 4, Key: old, Made: time.Unix(5, 0), Unlisted: time.Unix(8, 0)}, {Epoch: 5, Key: fresh[0].Key, Made: time.Unix(7, 0)}}
	for _, want := range [][]encap.Slot{next, next[1:]} {
		if err := k.saveSlots(want); err != nil {
			t.Fatal(err)
		}
		b := bucketOf(t, k)
		if _, there := b[keyTunnelKey]; there {
			t.Error("the key of the older weft is there still")
		}
		if err := p.setSlots(b[keySlots]); err != nil || len(p.slots) != len(want) {
			t.Fatalf("%v, %v", p.slots, err)
		}
		for i, s := range p.slots {
			same := s.Epoch == want[i].Epoch && s.Key == want[i].Key && s.Made.Equal(want[i].Made) && s.Unlisted.Equal(want[i].Unlisted) && s.Listed() == want[i].Listed()
			if !same {
				t.Errorf("slot %d is %+v, want %+v", i, s, want[i])
			}
		}
	}
}

func TestSlotsThatNoHostHasAreRefused(t *testing.T) {
	key := make([]byte, 32)
	for what, kept := range map[string][]keptSlot{
		"none":              {},
		"three":             {{Epoch: 1, Key: key}, {Epoch: 2, Key: key}, {Epoch: 3, Key: key}},
		"two in one place":  {{Epoch: 1, Key: key}, {Epoch: 3, Key: key}},
		"the newer first":   {{Epoch: 3, Key: key}, {Epoch: 2, Key: key}},
		"a key that is cut": {{Epoch: 1, Key: key[:31]}},
	} {
		var p peerState
		if err := p.setSlots(encode(kept)); err == nil {
			t.Errorf("%s: %v", what, p.slots)
		}
	}
}

func TestPortOfTheSecondSlotIsNobodyElses(t *testing.T) {
	for _, c := range []struct{ wireguard, vxlan, gossip, want uint16 }{
		{DefaultWGPort, DefaultVXLANPort, DefaultPort, 6788},
		{7000, DefaultVXLANPort, DefaultPort, 7001},
		{7000, 7001, 7002, 7003},
		{65535, DefaultVXLANPort, DefaultPort, 1024},
		{65534, 65535, 1024, 1025},
	} {
		s := settings{WireGuardPort: c.wireguard, VXLANPort: c.vxlan}
		if got := s.slotPort(1, c.gossip); got != c.want || s.slotPort(0, c.gossip) != c.wireguard {
			t.Errorf("%+v: %d", c, got)
		}
	}
}

func TestOtherEndsAreMetByPlaceAndAnOldWeftAtTheEvenOne(t *testing.T) {
	d := &Daemon{opts: Options{HostOptions: defaultHost()}}
	key := func(b byte) []byte { return append(make([]byte, 31), b) }
	end := func(epoch uint64, port uint16, b byte) theirSlot {
		return theirSlot{epoch, port, encap.PublicKey(key(b))}
	}
	for what, c := range map[string]struct {
		record mesh.Body
		want   map[string]theirSlot
	}{
		"two":                  {mesh.Body{WireGuardKey: key(1), Slots: []mesh.Slot{{Epoch: 2, Port: 5, Key: key(1)}, {Epoch: 3, Port: 6, Key: key(2)}}}, map[string]theirSlot{"weft-wg": end(2, 5, 1), "weft-w1": end(3, 6, 2)}},
		"one":                  {mesh.Body{Slots: []mesh.Slot{{Epoch: 3, Port: 6, Key: key(2)}}}, map[string]theirSlot{"weft-w1": end(3, 6, 2)}},
		"an old weft":          {mesh.Body{WireGuardKey: key(1), Ports: map[string]uint16{"wireguard": 5}}, map[string]theirSlot{"weft-wg": end(0, 5, 1)}},
		"two of one place":     {mesh.Body{Slots: []mesh.Slot{{Epoch: 5, Port: 6, Key: key(3)}, {Epoch: 3, Port: 6, Key: key(2)}}}, map[string]theirSlot{"weft-w1": end(5, 6, 3)}},
		"a key of wrong size":  {mesh.Body{Slots: []mesh.Slot{{Epoch: 3, Port: 6, Key: key(2)[1:]}}}, map[string]theirSlot{}},
		"a host without any":   {mesh.Body{}, map[string]theirSlot{}},
		"an old key too short": {mesh.Body{WireGuardKey: key(1)[1:]}, map[string]theirSlot{}},
	} {
		if got := d.slotsOf(c.record); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %v, want %v", what, got, c.want)
		}
	}
}
