package ipam

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/google/uuid"
)

// Errors of allocation, to be found by errors.Is.
var (
	ErrOutside   = errors.New("outside of the range")
	ErrReserved  = errors.New("reserved")
	ErrTaken     = errors.New("taken")
	ErrUnowned   = errors.New("held by no peer")
	ErrNoSpace   = errors.New("no free address in this peer's own blocks")
	ErrExhausted = errors.New("no free address")
	ErrInUse     = errors.New("addresses are in use")
)

// ElsewhereError says that an address is in a block of another peer.
type ElsewhereError struct {
	Addr netip.Addr
	Peer uuid.UUID
}

func (e *ElsewhereError) Error() string {
	return fmt.Sprintf("address %s belongs to peer %s", e.Addr, e.Peer)
}

// Refusal is what a peer said that was asked for space, or that it said nothing.
type Refusal struct {
	By     uuid.UUID
	Reason string
}

// SpaceError says that no address could be had and who was asked. It wraps
// ErrExhausted if all refused, else the error of the context.
type SpaceError struct {
	Range netip.Prefix
	Asked []Refusal
	Err   error
}

func (e *SpaceError) Error() string { return e.Describe(uuid.UUID.String) }

// Describe is the message with the peers' names.
func (e *SpaceError) Describe(name func(uuid.UUID) string) string {
	what := fmt.Sprintf("no free address in this host's part of %s", e.Range)
	if len(e.Asked) == 0 {
		return what + ", and no other host to ask for more"
	}
	var parts []string
	for _, r := range e.Asked {
		parts = append(parts, name(r.By)+": "+r.Reason)
	}
	return what + "; asked for more: " + strings.Join(parts, ", ")
}

func (e *SpaceError) Unwrap() error { return e.Err }
