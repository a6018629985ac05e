package nl

import (
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

// ChangeElements removes elements of sets and adds others, in one transaction,
// in the calling thread's network namespace. What is to be removed has to be
// there; what is to be added may be.
func ChangeElements(remove, add []Elements) error {
	// The kernel tells some failures once for the whole transaction, so that there
	// may be fewer answers than are waited for.
	bound := func(c *netlink.Conn) error { return c.SetReadDeadline(time.Now().Add(requestTimeout)) }
	conn, err := nftables.New(nftables.WithSockOptions(bound))
	if err != nil {
		return fmt.Errorf("open nftables: %w", err)
	}
	step := func(do func(*nftables.Set, []nftables.SetElement) error, list []Elements) error {
		for _, e := range list {
			family, ok := tableFamilies[e.Family]
			if !ok {
				return fmt.Errorf("nftables has no family %q", e.Family)
			}
			elements := make([]nftables.SetElement, len(e.Keys))
			for i, k := range e.Keys {
				elements[i].Key = k
			}
			set := &nftables.Set{Table: &nftables.Table{Family: family, Name: e.Table}, Name: e.Set}
			if err := do(set, elements); err != nil {
				return fmt.Errorf("encode elements of %s %s %s: %w", e.Family, e.Table, e.Set, err)
			}
		}
		return nil
	}
	if err := step(conn.SetDeleteElements, remove); err != nil {
		return err
	}
	if err := step(conn.SetAddElements, add); err != nil {
		return err
	}
	if err := conn.Flush(); err != nil {
		return fmt.Errorf("change elements of nftables' sets: %w", err)
	}
	return nil
}
