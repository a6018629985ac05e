package ipam

import (
	"fmt"
	"net/netip"

	"github.com/fxamacker/cbor/v2"
	"github.com/google/uuid"
)

// wireVersion of messages, states and stored values. Whatever the version, all
// are in an envelope, so that a peer can tell what it is too old for.
//
//	1  registers; requests, grants, refusals, offers, hand-overs
const wireVersion = 1

var (
	encoder = must(cbor.CoreDetEncOptions().EncMode())
	decoder = must(cbor.DecOptions{
		DupMapKey:   cbor.DupMapKeyEnforcedAPF,
		IndefLength: cbor.IndefLengthForbidden, TagsMd: cbor.TagsForbidden,
		// A state has at most a row for each block of the largest range. Nothing
		// is allocated ahead of the bytes that are really there.
		MaxNestedLevels: 6, MaxArrayElements: maxBlocks, MaxMapPairs: 16,
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
		return fmt.Errorf("%w: there is no format %d", ErrCorrupt, e.Version)
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

// wireState is a whole table or a part of one.
type wireState struct {
	_         struct{} `cbor:",toarray"`
	Range     netip.Prefix
	BlockBits int
	Rows      []wireRow
}

// kind of a message between two peers.
type kind uint8

const (
	kindRequest  kind = 1 // give me blocks
	kindGrant    kind = 2 // here they are
	kindRefusal  kind = 3 // I cannot
	kindHandOver kind = 4 // take everything that I have
	kindAccepted kind = 5 // I will, to an offer; it is durable here, to a hand-over
	kindOffer    kind = 6 // would you take everything that I have?
)

type wireMessage struct {
	_    struct{} `cbor:",toarray"`
	Kind kind
	// Nonce ties an answer to its question; it is unique for its sender.
	Nonce  uint64
	Blocks uint32 // wanted; 0 for a newcomer's share
	Reason string
	State  wireState
}

func toWire(rows []Row) []wireRow {
	out := make([]wireRow, len(rows))
	for i, r := range rows {
		out[i] = wireRow{First: uint32(r.First), Count: uint32(r.Count), Epoch: r.Epoch, Version: r.Version, Owner: r.Owner, From: r.From}
	}
	return out
}

// fromWire checks that rows are canonical before anything believes them.
func (s space) fromWire(in []wireRow) ([]Row, error) {
	out := make([]Row, 0, len(in))
	end := uint64(0)
	for _, r := range in {
		row := Row{int(r.First), int(r.Count), Register{r.Epoch, r.Version, r.Owner, r.From}}
		switch {
		case r.Count == 0 || uint64(r.First)+uint64(r.Count) > uint64(s.blocks()):
			return nil, fmt.Errorf("%w: a row of blocks %d+%d outside of %d", ErrCorrupt, r.First, r.Count, s.blocks())
		case uint64(r.First) < end:
			return nil, fmt.Errorf("%w: rows out of order at block %d", ErrCorrupt, r.First)
		case !row.valid():
			return nil, fmt.Errorf("%w: block %d has an owner without an epoch, or the reverse", ErrCorrupt, r.First)
		}
		end = uint64(r.First) + uint64(r.Count)
		if out = appendRow(out, row); out[len(out)-1].First != row.First {
			return nil, fmt.Errorf("%w: equal rows side by side at block %d", ErrCorrupt, r.First)
		}
	}
	return out, nil
}

func (s space) state(rows []Row) wireState {
	return wireState{Range: s.rng, BlockBits: s.blockBits, Rows: toWire(rows)}
}

// rows of a state. Errors: ErrForeign, ErrCorrupt.
func (s space) rows(in wireState) ([]Row, error) {
	if in.Range != s.rng || in.BlockBits != s.blockBits {
		return nil, fmt.Errorf("%w: %s in blocks of /%d, where this peer has %s in /%d", ErrForeign, in.Range, in.BlockBits, s.rng, s.blockBits)
	}
	return s.fromWire(in.Rows)
}

func (s space) decodeState(b []byte) ([]Row, error) {
	var in wireState
	if err := decode(b, &in); err != nil {
		return nil, err
	}
	return s.rows(in)
}

// message to one peer, with the rows that belong to it.
func (s space) message(to uuid.UUID, m wireMessage, rows []Row) []Message {
	m.State = s.state(rows)
	return []Message{{to, encode(m)}}
}
