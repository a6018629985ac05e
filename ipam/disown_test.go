package ipam

import (
	"net/netip"
	"testing"

	"github.com/google/uuid"
)

// A copy of a member's store, made another peer's, has nothing of the member, and
// asks for nothing that would harm it.
func TestDisownedPlanIsThatOfNobodyAndKeepsWhatIsKnown(t *testing.T) {
	cfg := Config{Peer: uuid.New(), Mesh: uuid.New(), Range: netip.MustParsePrefix("10.32.0.0/24"), BlockBits: 28}
	c, err := New(cfg, nil, 1)
	if err != nil {
		t.Fatal(err)
	}
	disk := map[string]Record{}
	commit := func(e Effects) {
		for _, w := range e.Writes {
			disk[w.Bucket+"/"+w.Key] = Record{w.Bucket, w.Key, EncodeWrite(w)}
		}
	}
	e, err := c.Found(7)
	if err != nil {
		t.Fatal(err)
	}
	commit(e)
	addr, e, err := c.Allocate("c1")
	if err != nil {
		t.Fatal(err)
	}
	commit(e)
	saved := func() (out []Record) {
		for _, r := range disk {
			if r.Value != nil {
				out = append(out, r)
			}
		}
		return out
	}
	if err := Readable(Config{Peer: uuid.New(), Mesh: cfg.Mesh, Range: cfg.Range, BlockBits: cfg.BlockBits}, saved()); err == nil {
		t.Fatal("another peer reads it as it is")
	}
	writes, err := Disown(cfg, saved())
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range writes {
		disk[w.Bucket+"/"+w.Key] = w
	}
	was := c.Self()
	cfg.Peer = uuid.New()
	c, err = open(cfg, saved(), 2)
	if err != nil {
		t.Fatal(err)
	}
	if c.Self() != uuid.Nil || c.Lodged() || len(c.own) > 0 || c.node != nil {
		t.Errorf("it is member %s with %v", c.Self(), c.own)
	}
	if len(c.former) > 0 || c.poisoned[was] {
		t.Error("it asks for the other to be shut out")
	}
	if c.view.Index == 0 || c.table.at(0).Owner != was {
		t.Error("it has forgotten who is in the mesh, and whose the space is")
	}
	if h := c.held[addr]; h.use != useWanted {
		t.Errorf("the address of its container is %v", h.use)
	}
	if _, err := Disown(cfg, saved()); err != nil {
		t.Errorf("that of nobody cannot be disowned again: %v", err)
	}
}
