package ipam

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/weft-net/weft/ipam/council"
)

// Write is one change of what has to be durable. Value is immutable, and nil
// deletes the key; EncodeWrite makes bytes of it.
type Write struct {
	Bucket, Key string
	Value       any
}

// Buckets of Writes. Those with one key use their own name.
const (
	bucketSelf     = "self"
	bucketView     = "view"
	bucketTable    = "table"
	bucketOwn      = "own"
	bucketMembers  = "members"
	bucketWards    = "wards"
	bucketGrants   = "grants"
	bucketReleases = "releases"
	bucketPoisoned = "poisoned"
	bucketHeld     = "held"  // by address
	bucketBooks    = "books" // by member
	bucketSeen     = "seen"  // by member
	bucketRaft     = "raft"  // as council.Write
)

// selfRecord is who this peer is.
type selfRecord struct {
	me     council.Member
	is     bool // else me is nobody
	lodged bool
	former []ID
	seq    uint64
}

// release is an address that was given back, of which the lessor may not know.
type release struct {
	addr  netip.Addr
	token uint64
}

func (d *dirty) any() bool {
	return d.self || d.view || d.table || d.own || d.members || d.wards || d.grants || d.releases || d.poisoned ||
		len(d.held) > 0 || len(d.books) > 0 || len(d.raft) > 0
}

// writes are those of one operation; every transaction has its number.
func (c *Core) writes() []Write {
	d := &c.dirty
	out := []Write{{bucketSelf, bucketSelf, selfRecord{c.me, c.self != uuid.Nil, c.lodged, slices.Clone(c.former), c.seq}}}
	put := func(dirty bool, bucket string, value func() any) {
		if dirty {
			out = append(out, Write{bucket, bucket, value()})
		}
	}
	put(d.view, bucketView, func() any { return c.view })
	put(d.table, bucketTable, func() any { return c.table })
	put(d.own, bucketOwn, func() any { return slices.Clone(c.own) })
	put(d.members, bucketMembers, func() any { return c.allMembers() })
	put(d.wards, bucketWards, func() any { return sortedIDs(c.wards) })
	put(d.grants, bucketGrants, func() any { return slices.Clone(c.grants) })
	put(d.poisoned, bucketPoisoned, func() any { return sortedIDs(c.poisoned) })
	put(d.releases, bucketReleases, func() any {
		var list []release
		for _, a := range sortedAddrs(c.releases) {
			list = append(list, release{a, c.releases[a]})
		}
		return list
	})
	for _, a := range sortedAddrs(d.held) {
		w := Write{Bucket: bucketHeld, Key: string(a.AsSlice())}
		if h, ok := c.held[a]; ok {
			w.Value = h
		}
		out = append(out, w)
	}
	for _, id := range sortedIDs(d.books) {
		w := Write{Bucket: bucketBooks, Key: string(id[:])}
		if b, ok := c.books[id]; ok {
			w.Value = b
		}
		out = append(out, w)
	}
	for _, id := range sortedIDs(d.seen) {
		out = append(out, Write{bucketSeen, string(id[:]), c.seen[id]})
	}
	for _, w := range d.raft {
		x := Write{Bucket: bucketRaft, Key: w.Key}
		if w.Value != nil {
			x.Value = w
		}
		out = append(out, x)
	}
	return out
}

func (c *Core) allMembers() []council.Member {
	var out []council.Member
	for _, id := range sortedIDs(c.members) {
		out = append(out, c.members[id])
	}
	return out
}

// load takes in what was written; those of raft in the order of their keys.
func (c *Core) load(w Write, disk *council.Disk) error {
	switch v := w.Value.(type) {
	case selfRecord:
		if v.is {
			c.me, c.self = v.me, v.me.ID()
		}
		c.lodged, c.former, c.seq = v.lodged, v.former, v.seq
	case council.State:
		c.view = v
		c.domain = v.Domain.Hash()
	case table:
		c.table = v
	case []span:
		if !slices.IsSortedFunc(v, func(a, b span) int { return a.first - b.first }) {
			return fmt.Errorf("read stored blocks: %w: not in order", ErrCorrupt)
		}
		c.own = v
	case []council.Member:
		for _, m := range v {
			c.members[m.ID()] = m
		}
	case []ID:
		for _, id := range v {
			if w.Bucket == bucketPoisoned {
				c.poisoned[id] = true
			} else {
				c.wards[id] = true
			}
		}
	case []grant:
		c.grants = v
	case []release:
		for _, r := range v {
			c.releases[r.addr] = r.token
		}
	case holding:
		a, _ := netip.AddrFromSlice([]byte(w.Key))
		if !c.rng.Contains(a) || c.reserved(c.offset(a)) {
			return fmt.Errorf("read stored address %x: %w: it is not one of %s", w.Key, ErrCorrupt, c.rng)
		}
		c.held[a] = v
	case book:
		c.books[v.owner] = v
	case []life:
		c.seen[ID([]byte(w.Key))] = v
	case council.Write:
		c.disk[v.Key] = v
		if err := disk.Load(v); err != nil {
			return fmt.Errorf("read the council's log: %w", err)
		}
	default:
		return fmt.Errorf("read stored value %s/%x: %w: this version does not know it", w.Bucket, w.Key, ErrCorrupt)
	}
	return nil
}

// loaded checks and completes what was loaded.
func (c *Core) loaded(disk council.Disk) error {
	if n := len(c.table); c.table[n-1].end() != c.blocks() || len(c.own) > 0 && c.own[len(c.own)-1].end() > c.blocks() {
		return fmt.Errorf("read stored registers: %w: they do not fit %d blocks", ErrForeign, c.blocks())
	}
	if c.view.Index > 0 && c.view.Domain.Mesh != c.cfg.Mesh {
		return fmt.Errorf("read the council's state: %w: it is of mesh %s", ErrForeign, c.view.Domain.Mesh)
	}
	if c.self != uuid.Nil && c.me.Peer != c.cfg.Peer {
		return fmt.Errorf("read who this host is: %w: it is peer %s", ErrForeign, c.me.Peer)
	}
	c.recount()
	if disk.Hard == nil {
		return nil
	}
	n, err := council.NewNode(c.self, disk)
	if err != nil {
		return fmt.Errorf("read the council's log: %w: %w", ErrCorrupt, err)
	}
	c.node = n
	return nil
}

// validOwner keeps owners printable and bounded; they end up in messages, and
// have to be readable again from the store.
func validOwner(owner string) error {
	if owner == "" || len(owner) > 256 || !utf8.ValidString(owner) || printable(owner, 256) != owner {
		return fmt.Errorf("owner %q is empty, longer than 256 bytes or not printable", owner)
	}
	return nil
}

// printable is the text without what could play tricks on a terminal, cut
// after so many characters.
func printable(text string, most int) string {
	out := make([]rune, 0, min(len(text), most))
	for _, r := range text {
		if len(out) == most {
			break
		}
		if unicode.IsPrint(r) {
			out = append(out, r)
		}
	}
	return string(out)
}

// sortWrites puts writes into the order in which New takes them.
func sortWrites(ws []Write) {
	slices.SortFunc(ws, func(a, b Write) int {
		if n := bytes.Compare([]byte(a.Bucket), []byte(b.Bucket)); n != 0 {
			return n
		}
		return bytes.Compare([]byte(a.Key), []byte(b.Key))
	})
}
