package ipam

import (
	"fmt"
	"net/netip"

	"github.com/fxamacker/cbor/v2"
	"github.com/google/uuid"

	"github.com/weft-net/weft/ipam/council"
)

// wireVersion of messages and stored values. Whatever the version, all are in
// an envelope, so that a peer can tell what it is too old for.
//
//	1  registers; requests, grants, refusals, offers, hand-overs
//	2  members, the council, leases
const wireVersion = 2

var (
	encoder = must(cbor.CoreDetEncOptions().EncMode())
	decoder = must(cbor.DecOptions{
		DupMapKey:   cbor.DupMapKeyEnforcedAPF,
		IndefLength: cbor.IndefLengthForbidden, TagsMd: cbor.TagsForbidden,
		// A state has at most a row for each block of the largest range. Nothing
		// is allocated ahead of the bytes that are really there.
		MaxNestedLevels: 12, MaxArrayElements: maxBlocks, MaxMapPairs: 64,
	}.DecMode())
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err) // the options are constants, and our own types always encode
	}
	return v
}

type envelope struct {
	_       struct{} `cbor:",toarray"`
	Version uint64
	Body    cbor.RawMessage
}

func encode(v any) []byte {
	return must(encoder.Marshal(envelope{Version: wireVersion, Body: must(encoder.Marshal(v))}))
}

// decode fails with ErrNewer or ErrCorrupt.
func decode(b []byte, into any) error {
	var e envelope
	if err := decoder.Unmarshal(b, &e); err != nil {
		return fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	switch {
	case e.Version > wireVersion:
		return fmt.Errorf("%w: its format is %d, this one reads up to %d", ErrNewer, e.Version, wireVersion)
	case e.Version < wireVersion:
		return fmt.Errorf("%w: its format is %d, of an earlier weft without a council, which this one cannot take over", ErrCorrupt, e.Version)
	}
	if err := decoder.Unmarshal(e.Body, into); err != nil {
		return fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	return nil
}

type wireRow struct {
	_              struct{} `cbor:",toarray"`
	First, Count   uint32
	Epoch, Version uint64
	Owner, From    [16]byte
}

type wireSpan struct {
	_            struct{} `cbor:",toarray"`
	First, Count uint32
}

type wireBook struct {
	_       struct{} `cbor:",toarray"`
	Owner   ID
	Version uint64
	Leases  []lease
}

type wireDecided struct {
	_       struct{} `cbor:",toarray"`
	Prev    council.Hash
	Index   uint64
	Command council.Command
}

type wireDelta struct {
	Decisions []wireDecided    `cbor:"1,keyasint,omitempty"`
	Rows      []wireRow        `cbor:"2,keyasint,omitempty"`
	Members   []council.Member `cbor:"3,keyasint,omitempty"`
	Books     []wireBook       `cbor:"4,keyasint,omitempty"`
	Poisoned  []ID             `cbor:"5,keyasint,omitempty"`
}

type wireDigest struct {
	_       struct{} `cbor:",toarray"`
	Index   uint64
	Hash    council.Hash
	Rows    [buckets]uint64
	Members uint64
	Books   uint64
}

type wireAck struct {
	_       struct{} `cbor:",toarray"`
	Index   uint64
	Rows    []wireRow
	Own     []wireSpan
	Wards   []council.Member
	Members []council.Member
	Leases  []lease
}

type wireMsg struct {
	// What it is about: peers with another range or block size are refused
	// before they are heard.
	Range     netip.Prefix     `cbor:"1,keyasint"`
	BlockBits int              `cbor:"2,keyasint"`
	Kind      kind             `cbor:"3,keyasint"`
	Peer      uuid.UUID        `cbor:"4,keyasint"`
	From      *council.Member  `cbor:"5,keyasint,omitempty"`
	Domain    council.Hash     `cbor:"6,keyasint"`
	Seq       uint64           `cbor:"7,keyasint,omitempty"`
	Begun     uint64           `cbor:"8,keyasint,omitempty"`
	Start     uint64           `cbor:"9,keyasint,omitempty"`
	To        *ID              `cbor:"10,keyasint,omitempty"`
	Nonce     uint64           `cbor:"11,keyasint,omitempty"`
	Index     uint64           `cbor:"12,keyasint,omitempty"`
	Blocks    uint32           `cbor:"13,keyasint,omitempty"`
	Reason    string           `cbor:"14,keyasint,omitempty"`
	Welcome   bool             `cbor:"15,keyasint,omitempty"`
	Addr      *netip.Addr      `cbor:"16,keyasint,omitempty"`
	Token     uint64           `cbor:"17,keyasint,omitempty"`
	State     []byte           `cbor:"18,keyasint,omitempty"`
	Delta     *wireDelta       `cbor:"19,keyasint,omitempty"`
	Digest    *wireDigest      `cbor:"20,keyasint,omitempty"`
	Raft      []byte           `cbor:"21,keyasint,omitempty"`
	Command   *council.Command `cbor:"22,keyasint,omitempty"`
	Ack       *wireAck         `cbor:"23,keyasint,omitempty"`
	Said      uint64           `cbor:"24,keyasint,omitempty"`
	Soft      bool             `cbor:"25,keyasint,omitempty"`
}

func toWire(rows []Row) []wireRow {
	out := make([]wireRow, len(rows))
	for i, r := range rows {
		out[i] = wireRow{First: uint32(r.First), Count: uint32(r.Count), Epoch: r.Epoch, Version: r.Version, Owner: r.Owner, From: r.From}
	}
	return out
}

func fromWire(rows []wireRow) []Row {
	out := make([]Row, len(rows))
	for i, r := range rows {
		out[i] = Row{int(r.First), int(r.Count), Register{r.Epoch, r.Version, r.Owner, r.From}}
	}
	return out
}

// convert makes a list of one type out of one of another; nil of nil.
func convert[A, B any](list []A, fn func(A) B) []B {
	var out []B
	for _, x := range list {
		out = append(out, fn(x))
	}
	return out
}

func toWireBook(b book) wireBook {
	return wireBook{Owner: b.owner, Version: b.version, Leases: b.leases}
}
func fromWireBook(b wireBook) book { return book{b.Owner, b.Version, b.Leases} }
func toWireSpan(s span) wireSpan {
	return wireSpan{First: uint32(s.first), Count: uint32(s.count)}
}
func fromWireSpan(s wireSpan) span { return span{int(s.First), int(s.Count)} }

// EncodeMsg writes a message for peers with the same range and block size.
func (s space) EncodeMsg(m *Msg) []byte {
	w := wireMsg{Range: s.rng, BlockBits: s.blockBits, Kind: m.Kind, Peer: m.Peer, Domain: m.Domain, Seq: m.Seq, Begun: m.Begun,
		Start: m.Start, Nonce: m.Nonce, Index: m.Index, Blocks: m.Blocks, Reason: m.Reason, Welcome: m.Welcome, Token: m.Token, Command: m.Command, Said: m.Said, Soft: m.Soft}
	if m.FromID != uuid.Nil {
		w.From = &m.From
	}
	if m.To != uuid.Nil {
		w.To = &m.To
	}
	if m.Addr.IsValid() {
		w.Addr = &m.Addr
	}
	if m.State != nil {
		w.State = council.EncodeState(*m.State)
	}
	if d := m.Delta; d != nil {
		w.Delta = &wireDelta{Rows: toWire(d.Rows), Members: d.Members, Poisoned: d.Poisoned, Books: convert(d.Books, toWireBook),
			Decisions: convert(d.Decisions, func(x Decided) wireDecided {
				return wireDecided{Prev: x.Prev, Index: x.Index, Command: x.Command}
			})}
	}
	if d := m.Digest; d != nil {
		w.Digest = &wireDigest{Index: d.Index, Hash: d.Hash, Rows: d.Rows, Members: d.Members, Books: d.Books}
	}
	if m.Raft != nil {
		w.Raft = council.Marshal(m.Raft.Raft)
	}
	if a := m.Ack; a != nil {
		w.Ack = &wireAck{Index: a.Index, Rows: toWire(a.Rows), Own: convert(a.Own, toWireSpan), Wards: a.Wards, Members: a.Members, Leases: a.Leases}
	}
	return encode(w)
}

// DecodeMsg reads a message. Errors: ErrForeign, ErrNewer, ErrCorrupt.
func (s space) DecodeMsg(b []byte) (*Msg, error) {
	var w wireMsg
	if err := decode(b, &w); err != nil {
		return nil, fmt.Errorf("read message of the address plan: %w", err)
	}
	if w.Range != s.rng || w.BlockBits != s.blockBits {
		return nil, fmt.Errorf("read message of the address plan: %w: %s in blocks of /%d, where this peer has %s in /%d",
			ErrForeign, w.Range, w.BlockBits, s.rng, s.blockBits)
	}
	m := &Msg{Kind: w.Kind, Peer: w.Peer, Domain: w.Domain, Seq: w.Seq, Begun: w.Begun, Start: w.Start, Nonce: w.Nonce, Index: w.Index,
		Blocks: w.Blocks, Reason: w.Reason, Welcome: w.Welcome, Token: w.Token, Command: w.Command, Said: w.Said, Soft: w.Soft}
	if w.From != nil {
		m.From, m.FromID = *w.From, w.From.ID()
	}
	if w.To != nil {
		m.To = *w.To
	}
	if w.Addr != nil {
		m.Addr = *w.Addr
	}
	if d := w.Delta; d != nil {
		m.Delta = &Delta{Rows: fromWire(d.Rows), Members: d.Members, Poisoned: d.Poisoned, Books: convert(d.Books, fromWireBook),
			Decisions: convert(d.Decisions, func(x wireDecided) Decided { return Decided{x.Prev, x.Index, x.Command} })}
	}
	if d := w.Digest; d != nil {
		m.Digest = &Digest{d.Index, d.Hash, d.Rows, d.Members, d.Books}
	}
	if a := w.Ack; a != nil {
		m.Ack = &Ack{Index: a.Index, Rows: fromWire(a.Rows), Own: convert(a.Own, fromWireSpan), Wards: a.Wards, Members: a.Members, Leases: a.Leases}
	}
	return m, s.decodeParts(w, m)
}

// decodeParts reads what has an encoding of its own.
func (s space) decodeParts(w wireMsg, m *Msg) error {
	if w.State != nil {
		state, err := council.DecodeState(w.State)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrCorrupt, err)
		}
		m.State = &state
	}
	if w.Raft != nil {
		raft, err := council.DecodeMessage(w.Raft)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrCorrupt, err)
		}
		m.Raft = &council.Message{Raft: raft}
	}
	return nil
}
