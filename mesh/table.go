package mesh

import (
	"bytes"
	"crypto/ed25519"
	"encoding/binary"

	"github.com/google/uuid"
)

// newer tells whether r replaces o: by version, and among two of one version,
// which only a peer that lost its memory makes, by their bytes, so that all
// choose the same.
func (r *Record) newer(o *Record) bool {
	if r.Version != o.Version {
		return r.Version > o.Version
	}
	return bytes.Compare(r.signed.Payload, o.signed.Payload) > 0
}

// records is the latest record of every peer ever known, tombstones included.
// Merging is commutative, associative and idempotent.
//
// A record in it never changes; another one takes its place.
type records map[uuid.UUID]*Record

// unknown is the record of a peer of which nothing is known.
var unknown = &Record{}

// of is a peer's record, an empty one if there is none.
func (t records) of(id uuid.UUID) *Record {
	if r, ok := t[id]; ok {
		return r
	}
	return unknown
}

// merge takes a record in if it is news.
func (t records) merge(r *Record) (news bool) {
	if have, ok := t[r.ID]; ok && !r.newer(have) {
		return false
	}
	t[r.ID] = r
	return true
}

// maxRecords bounds the memory of peers, which anybody with the token can make up.
const maxRecords = 1 << 14

// isFull tells that there is no room for another peer.
func (t records) isFull(id uuid.UUID) bool {
	_, known := t[id]
	return !known && len(t) >= maxRecords
}

// stale tells, without the cost of checking a signature, that a record is known,
// or outdated: older than what is known, as when it comes late or is replayed. A
// false version can only make us skip the record that bears it.
func (t records) stale(s signed) (known, outdated bool) {
	if len(s.Payload) > maxRecord {
		return false, false // verify says why it is refused
	}
	id, version, ok := s.claims()
	have, known := t[id]
	known = known && ok
	return known && bytes.Equal(s.Payload, have.signed.Payload), known && version < have.Version
}

// claims are whose a record says that it is, and which version, unproven.
func (s signed) claims() (id uuid.UUID, version uint64, ok bool) {
	var p struct {
		Key     []byte `cbor:"2,keyasint"`
		Version uint64 `cbor:"3,keyasint"`
	}
	if decoder.Unmarshal(s.Payload, &p) != nil || len(p.Key) != ed25519.PublicKeySize {
		return uuid.Nil, 0, false
	}
	return IDOf(p.Key), p.Version, true
}

// isOf tells whether a record says that it is that peer's.
func (s signed) isOf(peer uuid.UUID) bool {
	id, _, ok := s.claims()
	return ok && id == peer
}

// hear takes in a verified record about this peer itself, which only an earlier
// life of it, or a copy, can have written. If it says other than what this peer
// says now, and not less recently, it is answered with a newer record, which is
// news. Two things are not contradicted: a tombstone, because who has left stays
// away; and what is heard before this peer has said anything at all.
// A copy that has heard of this life, and is older, is not answered: copied tells
// that this peer has to become another one.
func (t records) hear(self Identity, meshID uuid.UUID, l Life, r *Record) (news, copied bool, err error) {
	own := t.of(self.ID)
	switch {
	case own.Body.Departed, r.Version < own.Version, bytes.Equal(r.signed.Payload, own.signed.Payload):
		return false, false, nil
	case l.other(r.Body.Life) && r.Body.Rival == l.Nonce && l.givesWay(r.Body.Life):
		return false, true, nil
	case r.Body.Departed, own.Version == 0:
		t[self.ID] = r
		return r.Body.Departed, false, nil
	}
	again, err := self.sign(meshID, r.Version+1, own.Body.seenBy(l, r.Body))
	if err != nil {
		return false, false, err
	}
	t[self.ID] = again
	return true, false, nil
}

// digest stands for a record in memberlist's metadata, which is small.
type digest struct {
	version uint64
	hash    [sumLen]byte
}

func (r *Record) digest() digest { return digest{version: r.Version, hash: r.hash} }

func (d digest) encode() []byte {
	return append(binary.BigEndian.AppendUint64(nil, d.version), d.hash[:]...)
}

// decodeDigest reads what encode wrote; of anything else nothing is known.
func decodeDigest(b []byte) digest {
	if len(b) != 16 {
		return digest{}
	}
	return digest{version: binary.BigEndian.Uint64(b), hash: [sumLen]byte(b[8:])}
}

// ahead tells that a peer has said something that r does not have.
func (d digest) ahead(r *Record) bool {
	return d.version > r.Version || d.version == r.Version && d != (digest{}) && d != r.digest()
}
