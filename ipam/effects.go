package ipam

import (
	"net/netip"

	"github.com/google/uuid"

	"github.com/weft-net/weft/ipam/council"
)

// Message is to be given to one peer's plan.
type Message struct {
	To   uuid.UUID // in the mesh
	Body *Msg
}

// Answer is what a peer said to a question of ours.
type Answer struct {
	By      uuid.UUID
	Nonce   uint64 // of the question
	Refused bool
	Reason  string // of a refusal
}

// Effects is what an operation asks of its caller: commit Writes in one
// transaction, and only then let anything else leave the process.
type Effects struct {
	Writes  []Write
	Send    []Message
	Gossip  *Msg           // news for every peer; nil for none
	Granted []netip.Prefix // became this peer's
	Lost    []netip.Prefix // was this peer's, and is not any more by another's will
	Cut     []netip.Addr   // must not be used any more, from now on
	Answer  *Answer        // what the message that was received answers
	// Renounced: this peer was shut out and is a member no more.
	Renounced bool
	// Trouble is what should not have happened, for the log; "" for nothing.
	Trouble string
}

// dirty is what has to be written at the end of an operation.
type dirty struct {
	self, view, table, own, members, wards, grants, releases, poisoned bool
	held                                                               map[netip.Addr]bool
	books, seen                                                        map[ID]bool
	raft                                                               []council.Write
}

func mark[K comparable](m *map[K]bool, k K) {
	if *m == nil {
		*m = map[K]bool{}
	}
	(*m)[k] = true
}

// send puts a message on its way; it is stamped when the operation ends.
func (c *Core) send(peer uuid.UUID, m *Msg) {
	if peer != c.cfg.Peer && peer != uuid.Nil {
		c.out.Send = append(c.out.Send, Message{peer, m})
	}
}

// sendTo puts a message to a member on its way.
func (c *Core) sendTo(id ID, m *Msg) {
	if who, ok := c.member(id); ok {
		m.To = id
		c.send(who.Peer, m)
	}
}

// finish ends an operation: what it changed becomes writes, and what it said
// is stamped with the transaction that it follows.
func (c *Core) finish() Effects {
	e := c.out
	if !c.news.empty() {
		delta := c.news
		e.Gossip = &Msg{Kind: kindDelta, Delta: &delta}
	}
	if c.dirty.view || c.dirty.members || c.dirty.self {
		c.removed = nil
	}
	if c.dirty.any() {
		c.seq++
		e.Writes = c.writes()
	}
	for _, m := range e.Send {
		c.stamp(m.Body)
	}
	if e.Gossip != nil {
		c.stamp(e.Gossip)
	}
	c.out, c.news, c.dirty, c.tokens = Effects{}, Delta{}, dirty{}, 0
	return e
}

func (c *Core) stamp(m *Msg) {
	m.From, m.FromID, m.Peer, m.Domain = c.me, c.self, c.cfg.Peer, c.domain
	if !c.lodged && m.Kind != kindRequest {
		// Nobody is to take it for a member before its sponsor has.
		m.From, m.FromID = council.Member{}, uuid.Nil
	}
	c.said++
	m.Seq, m.Begun, m.Start, m.Said = c.seq, c.begun, c.start, c.said
}
