package ipam

import (
	"bytes"
	"cmp"
	"slices"

	"github.com/google/uuid"
)

// Register says who owns a block. The zero value is that of a block that
// nobody ever owned.
type Register struct {
	// Epoch counts the council's decisions about the block; founding is 1.
	Epoch uint64
	// Version counts the gifts within an epoch: only the owner adds one.
	Version uint64
	Owner   uuid.UUID
	// From gave the block to the owner; uuid.Nil if the council or founding did.
	From uuid.UUID
}

// compare orders registers of one block; the larger one stands. From takes
// part only so that merging is the same everywhere, whatever the order.
func (r Register) compare(o Register) int {
	return cmp.Or(
		cmp.Compare(r.Epoch, o.Epoch), cmp.Compare(r.Version, o.Version),
		bytes.Compare(r.Owner[:], o.Owner[:]), bytes.Compare(r.From[:], o.From[:]),
	)
}

// valid: a block has an owner from its first epoch on, and nothing before.
func (r Register) valid() bool {
	if r.Owner == uuid.Nil {
		return r == Register{}
	}
	return r.Epoch > 0
}

// Row is a run of neighbouring blocks with the same register.
type Row struct {
	First, Count int // blocks
	Register
}

func (r Row) end() int { return r.First + r.Count }

// given is the row after its owner gave it away.
func (r Row) given(to uuid.UUID) Row {
	r.Version++
	r.From, r.Owner = r.Owner, to
	return r
}

// appendRow adds a row that begins at or after the end of the last, and joins
// equal neighbours: what it builds is canonical.
func appendRow(rows []Row, r Row) []Row {
	if n := len(rows); n > 0 && rows[n-1].end() == r.First && rows[n-1].Register == r.Register {
		rows[n-1].Count += r.Count
		return rows
	}
	return append(rows, r)
}

// table holds the register of every block as canonical rows without gaps, so
// that equal tables are equal slices. It is never changed, only replaced.
type table []Row

func newTable(blocks int) table { return table{{Count: blocks}} }

// at is the register of a block.
func (t table) at(block int) Register {
	i, found := slices.BinarySearchFunc(t, block, func(r Row, b int) int { return cmp.Compare(r.First, b) })
	if !found {
		i--
	}
	return t[i].Register
}

// part is what the table says of some blocks.
func (t table) part(sp span) []Row {
	var out []Row
	for _, r := range t {
		first, end := max(r.First, sp.first), min(r.end(), sp.end())
		if first < end {
			out = append(out, Row{first, end - first, r.Register})
		}
	}
	return out
}

// merge returns the table with the larger register of each block, and what of
// the rows was news. The rows are canonical; they may leave blocks out.
func (t table) merge(rows []Row) (merged table, news []Row) {
	merged = make(table, 0, len(t)+2*len(rows))
	for _, have := range t {
		for at := have.First; at < have.end(); {
			for len(rows) > 0 && rows[0].end() <= at {
				rows = rows[1:]
			}
			reg, end := have.Register, have.end()
			switch {
			case len(rows) == 0:
			case rows[0].First > at:
				end = min(end, rows[0].First)
			default:
				end = min(end, rows[0].end())
				if rows[0].compare(reg) > 0 {
					reg = rows[0].Register
					news = appendRow(news, Row{at, end - at, reg})
				}
			}
			merged = appendRow(merged, Row{at, end - at, reg})
			at = end
		}
	}
	return merged, news
}

// owned returns the runs of blocks that a peer owns.
func (t table) owned(peer uuid.UUID) []span {
	var out []span
	for _, r := range t {
		if r.Owner == peer {
			out = appendSpan(out, span{r.First, r.Count})
		}
	}
	return out
}
