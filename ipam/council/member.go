package council

import (
	"crypto/sha256"
	"encoding/binary"

	"github.com/google/uuid"
)

// ID of a member of the plan: one life of a peer in it. A peer that loses its
// store or is sealed comes back as another member.
type ID = uuid.UUID

// Member is what an ID stands for. The ID follows from it, so that nobody can
// be a member in another's name, or change its sponsor.
type Member struct {
	_       struct{}  `cbor:",toarray"`
	Peer    uuid.UUID // who it is in the mesh
	Sponsor ID        // who let it in; zero for a founder
	Nonce   uint64    // new for each life
}

// ID is a version 8 UUID (RFC 9562) of the SHA-256 of all of the member.
func (m Member) ID() ID {
	var b [40]byte
	copy(b[:], m.Peer[:])
	copy(b[16:], m.Sponsor[:])
	binary.BigEndian.PutUint64(b[32:], m.Nonce)
	sum := sha256.Sum256(b[:])
	id := ID(sum[:16])
	id[6] = id[6]&0x0f | 0x80
	id[8] = id[8]&0x3f | 0x80
	return id
}

// raftID is a member's number in Raft. Like the ID it is never used again. Two
// members of one number would need 2^32 members to be likely.
func raftID(id ID) uint64 { return max(binary.BigEndian.Uint64(id[:8]), 1) }
