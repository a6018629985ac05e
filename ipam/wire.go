package ipam

import (
	"fmt"
	"net/netip"

	"github.com/fxamacker/cbor/v2"
	"github.com/google/uuid"
)

// wireVersion of messages, states and stored values.
//
//	1  registers, requests, grants, hand-overs
const wireVersion = 1

// maxRows bounds a state or a message that is taken in: far more than any mesh
// needs, since neighbouring blocks of one owner are one row.
const maxRows = 1 << 16

var (
	encoder = must(cbor.CoreDetEncOptions().EncMode())
	decoder = must(cbor.DecOptions{MaxNestedLevels: 6, MaxArrayElements: maxRows, MaxMapPairs: 64}.DecMode())
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err) // the options are constants
	}
	return v
}

func encode(v any) []byte { return must(encoder.Marshal(v)) } // our own types always encode

type wireRow struct {
	_              struct{} `cbor:",toarray"`
	First, Count   uint32
	Epoch, Version uint64
	Owner, From    [16]byte
}

// wireState is a whole table or a part of one.
type wireState struct {
	_         struct{} `cbor:",toarray"`
	Version   int
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
	kindAccepted kind = 5 // the hand-over is durable here
)

type wireMessage struct {
	_       struct{} `cbor:",toarray"`
	Version int
	Kind    kind
	// Nonce ties an answer to its request; it is unique for its sender.
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

// fromWire checks rows against the space before anything believes them.
func (s space) fromWire(in wireState) ([]Row, error) {
	switch {
	case in.Version != wireVersion:
		return nil, fmt.Errorf("address plan of version %d, this peer knows %d", in.Version, wireVersion)
	case in.Range != s.rng || in.BlockBits != s.blockBits:
		return nil, fmt.Errorf("address plan for %s in blocks of /%d, this peer's is %s in /%d", in.Range, in.BlockBits, s.rng, s.blockBits)
	}
	out := make([]Row, len(in.Rows))
	n := uint64(s.blocks())
	for i, r := range in.Rows {
		if r.Count == 0 || uint64(r.First)+uint64(r.Count) > n {
			return nil, fmt.Errorf("address plan with a row of blocks %d+%d outside of %d", r.First, r.Count, n)
		}
		if (r.Owner == uuid.Nil) != (r.Epoch == 0) {
			return nil, fmt.Errorf("address plan with a row of blocks %d+%d with an epoch but no owner", r.First, r.Count)
		}
		out[i] = Row{int(r.First), int(r.Count), Register{r.Epoch, r.Version, r.Owner, r.From}}
	}
	return out, nil
}

func (s space) state(rows []Row) wireState {
	return wireState{Version: wireVersion, Range: s.rng, BlockBits: s.blockBits, Rows: toWire(rows)}
}

func (s space) decodeState(b []byte) ([]Row, error) {
	var in wireState
	if err := decoder.Unmarshal(b, &in); err != nil {
		return nil, fmt.Errorf("read address plan: %w", err)
	}
	return s.fromWire(in)
}

func decodeMessage(b []byte) (wireMessage, error) {
	var m wireMessage
	if err := decoder.Unmarshal(b, &m); err != nil {
		return m, fmt.Errorf("read message: %w", err)
	}
	if m.Version != wireVersion {
		return m, fmt.Errorf("message of version %d, this peer knows %d", m.Version, wireVersion)
	}
	return m, nil
}
