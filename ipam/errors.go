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
	// ErrUnknownPeer: it is no member of the plan, as far as is known here.
	ErrUnknownPeer = errors.New("a peer that is no member of the address plan")
	// ErrStrangers: two hosts founded the mesh, each without the other.
	ErrStrangers = errors.New("another mesh of the same name was founded independently: reset the hosts of one of them")
	// ErrNotEnforced: the data plane does not follow the last decision yet.
	ErrNotEnforced = errors.New("the data plane does not follow the last decision yet")
)

// Errors of what was stored or received, to be found by errors.Is.
var (
	ErrForeign = errors.New("an address plan for another range or block size")
	ErrNewer   = errors.New("written by a newer version")
	ErrCorrupt = errors.New("damaged")
)

// ElsewhereError says that an address is in a block of another peer, which does
// not give it.
type ElsewhereError struct {
	Addr   netip.Addr
	Peer   uuid.UUID
	Reason string // what that peer says; "" if it did not answer in time
	Err    error  // of the context, if it did not
}

func (e *ElsewhereError) Error() string {
	if e.Reason != "" {
		return fmt.Sprintf("address %s belongs to peer %s: %s", e.Addr, e.Peer, e.Reason)
	}
	return fmt.Sprintf("address %s belongs to peer %s, which does not answer", e.Addr, e.Peer)
}

func (e *ElsewhereError) Unwrap() error { return e.Err }

// PendingError says that a peer is not shut out yet, or that what it had is not
// inherited yet.
type PendingError struct {
	Peer   uuid.UUID
	Sealed bool        // it is shut out, and the rest goes on by itself
	Voters []uuid.UUID // whose majority has to agree
	Err    error
}

func (e *PendingError) Error() string {
	if e.Sealed {
		return fmt.Sprintf("peer %s is shut out; its space is inherited once every other host has answered", e.Peer)
	}
	return fmt.Sprintf("no majority of the %d voters has agreed to shut out peer %s", len(e.Voters), e.Peer)
}

func (e *PendingError) Unwrap() error { return e.Err }

// Refusal is what a peer said that was asked for something, or that it said nothing.
type Refusal struct {
	By     uuid.UUID
	Reason string
}

// SpaceError says that no address could be had and who was asked. It wraps
// ErrExhausted if all refused, else the error of the context.
type SpaceError struct {
	// Waiting is for what, where it is not for those asked; "" for nothing.
	Waiting string
	Range   netip.Prefix
	Asked   []Refusal
	Err     error
}

func (e *SpaceError) Error() string { return e.Describe(uuid.UUID.String) }

// Describe is the message with the peers' names.
func (e *SpaceError) Describe(name func(uuid.UUID) string) string {
	what := fmt.Sprintf("no free address in this host's part of %s", e.Range)
	switch {
	case e.Waiting != "":
		return what + ": " + e.Waiting
	case len(e.Asked) > 0:
		return what + "; asked for more: " + describe(e.Asked, name)
	case errors.Is(e.Err, ErrExhausted):
		return what + ", and no other host to ask for more"
	}
	return fmt.Sprintf("%s, and no time to ask for more: %v", what, e.Err)
}

func (e *SpaceError) Unwrap() error { return e.Err }

func describe(asked []Refusal, name func(uuid.UUID) string) string {
	var parts []string
	for _, r := range asked {
		parts = append(parts, name(r.By)+": "+r.Reason)
	}
	return strings.Join(parts, ", ")
}
