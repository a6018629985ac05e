package nl

import (
	"errors"
	"fmt"
	"time"

	"github.com/google/nftables"
	"github.com/mdlayher/netlink"
)

// Elements are some of one set of nftables. A key is as the kernel has it: its
// fields one after the other, each filled up to a multiple of four bytes where
// there are several.
type Elements struct {
	Family, Table, Set string // inet or bridge
	Keys               [][]byte
}

var tableFamilies = map[string]nftables.TableFamily{"inet": nftables.TableFamilyINet, "bridge": nftables.TableFamilyBridge}

// Sets changes sets of nftables in the network namespace that it was opened in. It
// keeps its socket: to close one after something was removed takes the kernel ten
// milliseconds. It is not safe for concurrent use.
type Sets struct {
	conn   *nftables.Conn
	socket *netlink.Conn
}

// OpenSets returns Sets for the caller's network namespace.
func OpenSets() (*Sets, error) {
	s := &Sets{}
	conn, err := nftables.New(nftables.AsLasting(), nftables.WithSockOptions(func(c *netlink.Conn) error {
		s.socket = c
		return nil
	}))
	if err != nil {
		return nil, fmt.Errorf("open nftables: %w", err)
	}
	s.conn = conn
	return s, nil
}

// Close releases the socket.
func (s *Sets) Close() error { return s.conn.CloseLasting() }

// Change removes elements of sets and adds others, in one transaction. What is to
// be removed has to be there; what is to be added may be. After an error nothing
// is changed, and Sets is of no use any more.
func (s *Sets) Change(remove, add []Elements) error {
	step := func(do func(*nftables.Set, []nftables.SetElement) error, list []Elements) error {
		for _, e := range list {
			elements := make([]nftables.SetElement, len(e.Keys))
			for i, k := range e.Keys {
				elements[i].Key = k
			}
			set := &nftables.Set{Table: &nftables.Table{Family: tableFamilies[e.Family], Name: e.Table}, Name: e.Set}
			if err := do(set, elements); err != nil {
				return fmt.Errorf("encode elements of %s %s %s: %w", e.Family, e.Table, e.Set, err)
			}
		}
		return nil
	}
	// The kernel tells some failures once for the whole transaction, so that there
	// may be fewer answers than are waited for.
	err := errors.Join(step(s.conn.SetDeleteElements, remove), step(s.conn.SetAddElements, add), s.socket.SetReadDeadline(time.Now().Add(requestTimeout)))
	if err == nil {
		err = s.conn.Flush()
	}
	if err != nil {
		return fmt.Errorf("change elements of nftables' sets: %w", err)
	}
	return nil
}
