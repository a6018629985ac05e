package ipam

import (
	"net/netip"

	"github.com/google/uuid"

	"github.com/weft-net/weft/ipam/council"
)

// kind of a message. The numbers are on the wire.
type kind uint8

const (
	kindRequest  kind = 1  // give me blocks
	kindGrant    kind = 2  // here they are
	kindRefusal  kind = 3  // I cannot
	kindHandOver kind = 4  // take everything that I have
	kindAccepted kind = 5  // I will, to an offer; it is durable here, to a hand-over
	kindOffer    kind = 6  // would you take everything that I have?
	kindClaim    kind = 7  // I want this address of yours
	kindLeased   kind = 8  // it is yours
	kindNoLease  kind = 9  // it is not
	kindRelease  kind = 10 // I do not want it any more
	kindReleased kind = 11 // it is free
	kindAudit    kind = 12 // I use this address of yours
	kindRaft     kind = 13 // between voters
	kindPropose  kind = 14 // please decide this
	kindWantAck  kind = 15 // tell me all you know once you have applied this seal
	kindAck      kind = 16 // I have, and this is it
	kindDigest   kind = 17 // this is what I know, in short
	kindSync     kind = 18 // this is what you do not
	kindDelta    kind = 19 // news for everybody
	kindSeen     kind = 20 // this is the last that I heard of another start of yours
)

// Msg is what one plan says to another, or to all.
type Msg struct {
	Kind kind
	// Who says it, stamped on the way out. Peer and Domain are its peer in the
	// mesh and the domain; From is zero for one that is no member.
	Peer   uuid.UUID
	From   council.Member
	FromID ID
	Domain council.Hash
	// Seq is the transaction that it follows; Start is the process, and Begun
	// the process's first transaction.
	Seq, Begun, Start uint64
	// Said counts the messages of the process.
	Said uint64

	To      ID     // for which life of the receiver; zero for any
	Nonce   uint64 // ties an answer to its question
	Index   uint64 // of the council, as the sender knows it
	Blocks  uint32
	Reason  string
	Welcome bool // to a newcomer: you are in
	Soft    bool // a proposal against a member that does not answer
	Addr    netip.Addr
	Token   uint64
	State   *council.State
	Delta   *Delta
	Digest  *Digest
	Raft    *council.Message
	Command *council.Command
	Ack     *Ack
}

// Delta is a part of what is known.
type Delta struct {
	Decisions []Decided
	Rows      []Row
	Members   []council.Member
	Books     []book
	Poisoned  []ID
}

func (d *Delta) empty() bool {
	return len(d.Decisions) == 0 && len(d.Rows) == 0 && len(d.Members) == 0 && len(d.Books) == 0 && len(d.Poisoned) == 0
}

// Decided is a decision, for who knows all before it: Prev is their hash.
type Decided struct {
	Prev    council.Hash
	Index   uint64
	Command council.Command
}

// Ack is all that a member knows that could matter to a Reclaim, at a time when
// it had shut out everybody who was sealed up to Index.
type Ack struct {
	Index uint64
	Rows  []Row  // where its registers differ from those of who asked
	Own   []span // what it uses
	Wards []council.Member
	// Members are all that it knows that are not admitted.
	Members []council.Member
	// Leases that it holds.
	Leases []lease
}
