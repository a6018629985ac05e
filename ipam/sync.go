package ipam

import (
	"encoding/binary"
	"hash/fnv"
	"slices"

	"github.com/weft-net/weft/ipam/council"
)

// buckets is how many parts of the registers are compared separately.
const buckets = 64

// Digest is what a peer knows, in short: enough to find what another does not.
type Digest struct {
	Index   uint64 // of the council
	Hash    council.Hash
	Rows    [buckets]uint64 // a hash of each part of the registers
	Members uint64          // of who is not admitted yet
	Books   uint64          // of the leases
}

// bucket is the part of the registers with a number, as blocks.
func (s space) bucket(i int) span {
	n := s.blocks()
	first, end := i*n/buckets, (i+1)*n/buckets
	return span{first, end - first}
}

// digestNow computes the digest of what is known now.
func (c *Core) digestNow() *Digest {
	d := &Digest{Index: c.view.Index, Hash: c.view.Hash}
	for i := range d.Rows {
		d.Rows[i] = hashRows(c.table.part(c.bucket(i)))
	}
	h := fnv.New64a()
	for _, m := range c.memberList() {
		// Those that are shut out are forgotten here and there at different times.
		if id := m.ID(); c.isMember(id) {
			h.Write(id[:])
		}
	}
	d.Members = h.Sum64()
	h.Reset()
	for _, id := range sortedIDs(c.books) {
		h.Write(id[:])
		h.Write(binary.BigEndian.AppendUint64(nil, c.books[id].version))
	}
	d.Books = h.Sum64()
	return d
}

func hashRows(rows []Row) uint64 {
	h := fnv.New64a()
	var b [56]byte
	for _, r := range rows {
		binary.BigEndian.PutUint32(b[0:], uint32(r.First))
		binary.BigEndian.PutUint32(b[4:], uint32(r.Count))
		binary.BigEndian.PutUint64(b[8:], r.Epoch)
		binary.BigEndian.PutUint64(b[16:], r.Version)
		copy(b[24:], r.Owner[:])
		copy(b[40:], r.From[:])
		h.Write(b[:])
	}
	return h.Sum64()
}

func (c *Core) digest() *Msg { return &Msg{Kind: kindDigest, Digest: c.digestNow()} }

// State is what this peer knows, in short, for another peer's Merge.
func (c *Core) State() *Msg {
	m := c.digest()
	c.stamp(m)
	return m
}

// everything is all that this peer knows.
func (c *Core) everything() *Msg {
	view := c.view
	m := &Msg{Kind: kindSync, Delta: &Delta{Rows: slices.Clone(c.table), Members: c.memberList(), Books: c.bookList()}}
	if view.Index > 0 {
		m.State = &view
	}
	return m
}

func (c *Core) memberList() []council.Member {
	var out []council.Member
	for _, id := range sortedIDs(c.members) {
		out = append(out, c.members[id])
	}
	if c.Lodged() && !c.view.IsAdmitted(c.self) {
		out = append(out, c.me)
		slices.SortFunc(out, func(a, b council.Member) int { return compareIDs(a.ID(), b.ID()) })
	}
	return out
}

func (c *Core) bookList() []book {
	var out []book
	for _, id := range sortedIDs(c.books) {
		out = append(out, c.books[id])
	}
	return out
}

// rowsBeside are the parts of our registers in which two digests, of which the
// first is ours, differ.
func (c *Core) rowsBeside(mine, theirs *Digest) []Row {
	var out []Row
	for i := range mine.Rows {
		if mine.Rows[i] != theirs.Rows[i] {
			out = append(out, c.table.part(c.bucket(i))...)
		}
	}
	return out
}

// differing is what of ours the sender of a digest may not know.
func (c *Core) differing(d *Digest) *Msg {
	mine := c.digestNow()
	m := &Msg{Kind: kindSync, Delta: &Delta{}}
	if d.Index < mine.Index {
		view := c.view
		m.State = &view
	}
	m.Delta.Rows = c.rowsBeside(mine, d)
	if d.Members != mine.Members {
		m.Delta.Members = c.memberList()
	}
	if d.Books != mine.Books {
		m.Delta.Books = c.bookList()
	}
	if m.State == nil && m.Delta.empty() {
		return nil
	}
	return m
}

// onDigest tells the sender what it does not know. It hears of us likewise.
func (c *Core) onDigest(m *Msg) {
	if sync := c.differing(m.Digest); sync != nil {
		c.send(m.Peer, sync)
	}
}
