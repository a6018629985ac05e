package daemon

import (
	"errors"
	"fmt"
	"time"

	"github.com/weft-net/weft/encap"
	"github.com/weft-net/weft/internal/store"
)

// firstSlots are those of a host that has none yet.
func firstSlots(now time.Time) ([]encap.Slot, error) {
	key, err := encap.NewPrivateKey()
	return []encap.Slot{{Key: key, Made: now}}, err
}

// keptSlot is a slot in the store.
type keptSlot struct {
	Epoch    uint64    `cbor:"1,keyasint"`
	Key      []byte    `cbor:"2,keyasint"` // private
	Made     time.Time `cbor:"3,keyasint"`
	Unlisted time.Time `cbor:"4,keyasint,omitzero"`
}

// slotWrites make the slots durable, and erase all other keys.
func slotWrites(slots []encap.Slot) []store.Write {
	if len(slots) == 0 {
		return nil
	}
	var kept []keptSlot
	for _, s := range slots {
		kept = append(kept, keptSlot{s.Epoch, s.Key[:], s.Made, s.Unlisted})
	}
	return []store.Write{
		{Bucket: bucketPeer, Key: []byte(keySlots), Value: encode(kept)},
		{Bucket: bucketPeer, Key: []byte(keyTunnelKey)},
	}
}

func (k keep) saveSlots(slots []encap.Slot) error { return k.Commit(slotWrites(slots)) }

func (p *peerState) setSlots(b []byte) error {
	var kept []keptSlot
	if err := strict.Unmarshal(b, &kept); err != nil {
		return err
	}
	if len(kept) == 0 || len(kept) > 2 || len(kept) == 2 && (kept[0].Epoch >= kept[1].Epoch || (kept[1].Epoch-kept[0].Epoch)%2 == 0) {
		return errors.New("these slots cannot be one host's")
	}
	p.slots = nil
	for _, s := range kept {
		key, err := privateKey(s.Key)
		if err != nil {
			return err
		}
		p.slots = append(p.slots, encap.Slot{Epoch: s.Epoch, Key: key, Made: s.Made, Unlisted: s.Unlisted})
	}
	return nil
}

// setTunnelKey reads what a weft with one slot has kept; how old its key is
// nobody knows.
func (p *peerState) setTunnelKey(b []byte) error {
	key, err := privateKey(b)
	p.slots = []encap.Slot{{Key: key, Made: time.Unix(0, 0)}}
	return err
}

func privateKey(b []byte) (key encap.PrivateKey, err error) {
	if len(b) != len(key) {
		return key, fmt.Errorf("a key of %d bytes", len(b))
	}
	copy(key[:], b)
	return key, nil
}
