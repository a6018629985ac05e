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

// Row is a run of neighbouring blocks with the same register.
type Row struct {
	First, Count int // blocks
	Register
}

type span struct{ first, count int } // blocks

// table holds the register of every block as rows: sorted, without gaps or
// overlaps, and no two neighbours the same, so that equal tables are equal slices.
type table struct{ rows []Row }

func newTable(blocks int) table { return table{rows: []Row{{Count: blocks}}} }

// find is the index of the row that holds a block.
func (t *table) find(block int) int {
	i, found := slices.BinarySearchFunc(t.rows, block, func(r Row, b int) int { return cmp.Compare(r.First, b) })
	if !found {
		i--
	}
	return i
}

func (t *table) at(block int) Register { return t.rows[t.find(block)].Register }

// set gives all blocks of a row its register.
func (t *table) set(row Row) {
	end := row.First + row.Count
	i, j := t.find(row.First), t.find(end-1)
	var middle []Row
	if head := t.rows[i]; head.First < row.First {
		middle = append(middle, Row{head.First, row.First - head.First, head.Register})
	}
	middle = append(middle, row)
	if tail := t.rows[j]; tail.First+tail.Count > end {
		middle = append(middle, Row{end, tail.First + tail.Count - end, tail.Register})
	}
	// The neighbours outside take part in the joining of equal runs.
	if i > 0 {
		i--
		middle = slices.Insert(middle, 0, t.rows[i])
	}
	if j+1 < len(t.rows) {
		j++
		middle = append(middle, t.rows[j])
	}
	t.rows = slices.Replace(t.rows, i, j+1, coalesce(middle)...)
}

func coalesce(rows []Row) []Row {
	out := rows[:1]
	for _, r := range rows[1:] {
		if last := &out[len(out)-1]; last.Register == r.Register && last.First+last.Count == r.First {
			last.Count += r.Count
			continue
		}
		out = append(out, r)
	}
	return out
}

// newer returns the parts of a row that would change the table.
func (t *table) newer(row Row) []Row {
	var out []Row
	end := row.First + row.Count
	for i := t.find(row.First); i < len(t.rows) && t.rows[i].First < end; i++ {
		have := t.rows[i]
		if row.Register.compare(have.Register) <= 0 {
			continue
		}
		first := max(have.First, row.First)
		out = append(out, Row{first, min(have.First+have.Count, end) - first, row.Register})
	}
	if len(out) == 0 {
		return nil
	}
	return coalesce(out)
}

// owned returns the runs of blocks that a peer owns.
func (t *table) owned(peer uuid.UUID) []span {
	var out []span
	for _, r := range t.rows {
		if r.Owner != peer {
			continue
		}
		if n := len(out); n > 0 && out[n-1].first+out[n-1].count == r.First {
			out[n-1].count += r.Count
			continue
		}
		out = append(out, span{r.First, r.Count})
	}
	return out
}

func count(spans []span) int {
	n := 0
	for _, s := range spans {
		n += s.count
	}
	return n
}
