package council

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/fxamacker/cbor/v2"
)

// ErrMalformed is wrapped by errors of foreign bytes.
var ErrMalformed = errors.New("malformed")

// maxMembers bounds what is taken in.
const maxMembers = 1 << 17

var (
	encoder = must(cbor.CoreDetEncOptions().EncMode())
	decoder = must(cbor.DecOptions{
		DupMapKey: cbor.DupMapKeyEnforcedAPF, IndefLength: cbor.IndefLengthForbidden, TagsMd: cbor.TagsForbidden,
		MaxNestedLevels: 10, MaxArrayElements: maxMembers, MaxMapPairs: 16,
	}.DecMode())
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err) // the options are constants, and our own types always encode
	}
	return v
}

// Encode writes a Command or another of this package's types in the one way
// that it can be written.
func Encode(v any) []byte { return must(encoder.Marshal(v)) }

// DecodeCommand reads what Encode wrote.
func DecodeCommand(b []byte) (Command, error) {
	var c Command
	if err := decoder.Unmarshal(b, &c); err != nil {
		return Command{}, fmt.Errorf("read decision: %w: %w", ErrMalformed, err)
	}
	return c, nil
}

// wireState is a State in order.
type wireState struct {
	_                       struct{} `cbor:",toarray"`
	Domain                  Domain
	Index, Reclaimed, Fence uint64
	Hash                    Hash
	Voters                  []ID
	Admitted                []admitted
	Sealed                  []sealed
	Legacies                []Legacy
}

type admitted struct {
	_      struct{} `cbor:",toarray"`
	Member Member
	At     uint64
}

type sealed struct {
	_  struct{} `cbor:",toarray"`
	ID ID
	At uint64
}

// EncodeState writes a State.
func EncodeState(s State) []byte {
	w := wireState{Domain: s.Domain, Index: s.Index, Reclaimed: s.Reclaimed, Fence: s.Fence, Hash: s.Hash, Voters: s.Voters, Legacies: s.Legacies}
	for _, id := range slices.SortedFunc(maps.Keys(s.Admitted), compareIDs) {
		w.Admitted = append(w.Admitted, admitted{Member: s.Admitted[id].Member, At: s.Admitted[id].At})
	}
	for _, id := range slices.SortedFunc(maps.Keys(s.Sealed), compareIDs) {
		w.Sealed = append(w.Sealed, sealed{ID: id, At: s.Sealed[id]})
	}
	return Encode(w)
}

// DecodeState reads what EncodeState wrote.
func DecodeState(b []byte) (State, error) {
	var w wireState
	if err := decoder.Unmarshal(b, &w); err != nil {
		return State{}, fmt.Errorf("read council's state: %w: %w", ErrMalformed, err)
	}
	s := State{Domain: w.Domain, Index: w.Index, Reclaimed: w.Reclaimed, Fence: w.Fence, Hash: w.Hash, Voters: w.Voters,
		Admitted: make(map[ID]Admission, len(w.Admitted)), Sealed: make(map[ID]uint64, len(w.Sealed)), Legacies: w.Legacies}
	for _, a := range w.Admitted {
		s.Admitted[a.Member.ID()] = Admission{a.Member, a.At}
	}
	for _, x := range w.Sealed {
		s.Sealed[x.ID] = x.At
	}
	if s.Index == 0 || len(s.Voters) == 0 || !slices.IsSortedFunc(s.Voters, compareIDs) {
		return State{}, fmt.Errorf("read council's state: %w: it has no voters or no decision", ErrMalformed)
	}
	for _, v := range s.Voters {
		if !s.IsAdmitted(v) {
			return State{}, fmt.Errorf("read council's state: %w: voter %s is no member", ErrMalformed, v)
		}
	}
	return s, nil
}
