package mesh

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/google/uuid"
)

// Records are compared in exchanges by sums of parts of them, and only what
// differs travels after that: with all of them in every exchange a
// mesh of a thousand would send them to itself all day. Who joins sends and gets
// all at once.

// recordsChannel is the name under which peers compare their records.
const recordsChannel = "weft records"

// syncParts is into how many parts records are divided, by the first byte of
// their peers' ids.
const syncParts = 64

// sumLen is the length of a record's hash, and of a part's sum: their XOR.
const sumLen = 8

func partOf(id uuid.UUID) int { return int(id[0]) % syncParts }

// row stands for a record.
type row struct {
	_       struct{} `cbor:",toarray"`
	ID      uuid.UUID
	Version uint64
	Hash    []byte
}

func (r row) digest() (digest, bool) {
	if len(r.Hash) != sumLen {
		return digest{}, false
	}
	return digest{version: r.Version, hash: [sumLen]byte(r.Hash)}, true
}

// recordSync is a message about records: the sums of what somebody has, or what he
// has in some parts, or which records he wants.
type recordSync struct {
	Parts []uint8     `cbor:"1,keyasint,omitempty"`
	Rows  []row       `cbor:"2,keyasint,omitempty"`
	Want  []uuid.UUID `cbor:"3,keyasint,omitempty"`
	Sums  []byte      `cbor:"4,keyasint,omitempty"`
	// Packets tells that the answer may come in packets, as this did.
	Packets bool `cbor:"5,keyasint,omitempty"`
}

// sums are those of all parts.
func (t records) sums() []byte {
	out := make([]byte, syncParts*sumLen)
	for id, r := range t {
		at, d := partOf(id)*sumLen, r.digest()
		for i, b := range d.hash {
			out[at+i] ^= b
		}
	}
	return out
}

// differing are the parts whose sums are not the other's.
func (t records) differing(theirs []byte) []uint8 {
	mine := t.sums()
	if len(theirs) != len(mine) {
		return nil
	}
	var out []uint8
	for p := range syncParts {
		if at := p * sumLen; !bytes.Equal(mine[at:at+sumLen], theirs[at:at+sumLen]) {
			out = append(out, uint8(p))
		}
	}
	return out
}

// rows stand for the records of some parts.
func (t records) rows(parts []uint8) []row {
	in := map[int]bool{}
	for _, p := range parts {
		in[int(p)] = true
	}
	var out []row
	for id, r := range t {
		if in[partOf(id)] {
			d := r.digest()
			out = append(out, row{ID: id, Version: r.Version, Hash: d.hash[:]})
		}
	}
	return out
}

// answer is what somebody with these rows lacks, and which of his records are
// wanted.
func (t records) answer(msg recordSync) (lacks []signed, want []uuid.UUID) {
	theirs := map[uuid.UUID]row{}
	for _, r := range msg.Rows {
		theirs[r.ID] = r
		if d, ok := r.digest(); ok && d.ahead(t.of(r.ID)) {
			want = append(want, r.ID)
		}
	}
	for _, mine := range t.rows(msg.Parts) {
		r, has := theirs[mine.ID]
		if d, ok := mine.digest(); ok && (!has || d.version > r.Version || d.version == r.Version && !bytes.Equal(mine.Hash, r.Hash)) {
			lacks = append(lacks, t[mine.ID].signed)
		}
	}
	return lacks, want
}

// pick are the records of these peers.
func (t records) pick(ids []uuid.UUID) []signed {
	var out []signed
	for _, id := range ids {
		if r, ok := t[id]; ok {
			out = append(out, r.signed)
		}
	}
	return out
}

type sumsOf struct {
	_    struct{} `cbor:",toarray"`
	Peer uuid.UUID
	Sums []byte
}

// compareRecords asks the peer that an exchange was with about what differs.
func (m *Mesh) compareRecords(data []byte) error {
	var theirs sumsOf
	if err := decoder.Unmarshal(data, &theirs); err != nil {
		return fmt.Errorf("sums of records: %w", err)
	}
	m.askDiffering(theirs.Peer, theirs.Sums, false)
	return nil
}

// CompareRecords is Compare of records alone, in packets: it costs a small part of
// it, and is for who compares again soon.
func (m *Mesh) CompareRecords(peer uuid.UUID) {
	m.mu.Lock()
	sums := m.told().sums()
	m.mu.Unlock()
	m.sendSync(peer, recordSync{Sums: sums, Packets: true})
}

// askDiffering tells a peer what this one has in those parts whose sums are others.
func (m *Mesh) askDiffering(peer uuid.UUID, sums []byte, packets bool) {
	m.mu.Lock()
	mine := m.told()
	parts := mine.differing(sums)
	rows := mine.rows(parts)
	m.mu.Unlock()
	if len(parts) > 0 {
		m.sendSync(peer, recordSync{Parts: parts, Rows: rows, Packets: packets})
	}
}

func (m *Mesh) sendSync(to uuid.UUID, msg recordSync) {
	send := m.Send
	if msg.Packets {
		send = m.SendPacket
	}
	send(to, recordsChannel, encode(msg))
}

// receiveSync answers a peer that compares records, or wants some.
func (m *Mesh) receiveSync(from uuid.UUID, data []byte) error {
	var msg recordSync
	if err := decoder.Unmarshal(data, &msg); err != nil {
		return fmt.Errorf("message about records: %w", err)
	}
	if len(msg.Sums) > 0 {
		m.askDiffering(from, msg.Sums, msg.Packets)
	}
	m.mu.Lock()
	mine := m.told()
	lacks, want := mine.answer(msg)
	want = slices.DeleteFunc(want, m.isGone)
	lacks = append(lacks, mine.pick(msg.Want)...)
	to := m.nodeLocked(from)
	m.mu.Unlock()
	if to == nil {
		return fmt.Errorf("message about records of peer %s, which is no member", from)
	}
	if msg.Packets && len(lacks) <= fewNews {
		for _, s := range lacks {
			m.packet(to, recordsMessage([]signed{s}))
		}
	} else if len(lacks) > 0 {
		m.post(to, recordsMessage(lacks))
	}
	if len(want) > 0 {
		m.sendSync(from, recordSync{Want: want, Packets: msg.Packets})
	}
	return nil
}
