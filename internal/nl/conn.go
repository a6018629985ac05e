// Package nl is the one place that speaks netlink: links, addresses, routes,
// neighbours, namespaces and sysctls in the words that the rest of weft uses.
// Its Sync functions take the whole desired set and change only the
// difference, so that calling them again is free and repairs what others
// removed. What the set should be is decided elsewhere, by bridge and encap.
package nl

import (
	"errors"
	"fmt"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// ErrNotFound is wrapped by errors about a link or namespace that does not exist.
var ErrNotFound = errors.New("not found")

// Conn speaks netlink in one network namespace. It is safe for concurrent use.
type Conn struct{ h *netlink.Handle }

// requestTimeout bounds one netlink exchange: the kernel answers in
// microseconds, or something is wrong.
const requestTimeout = 10 * time.Second

// Open returns a connection in the caller's network namespace.
func Open() (*Conn, error) {
	return wrap(netlink.NewHandle(unix.NETLINK_ROUTE))
}

// OpenIn returns a connection in another network namespace.
func OpenIn(ns *Namespace) (*Conn, error) {
	return wrap(netlink.NewHandleAt(netns.NsHandle(ns.file.Fd()), unix.NETLINK_ROUTE))
}

func wrap(h *netlink.Handle, err error) (*Conn, error) {
	if err != nil {
		return nil, fmt.Errorf("open netlink socket: %w", err)
	}
	if err := h.SetSocketTimeout(requestTimeout); err != nil {
		h.Close()
		return nil, fmt.Errorf("bound netlink requests: %w", err)
	}
	return &Conn{h: h}, nil
}

// Close releases the sockets; the kernel's state stays.
func (c *Conn) Close() { c.h.Close() }

// dump repeats a listing that the kernel says was interrupted by a change: a
// list with holes would make a Sync remove and add what is right already.
func dump[T any](list func() ([]T, error)) ([]T, error) {
	const attempts = 20
	var out []T
	var err error
	for range attempts {
		out, err = list()
		if !errors.Is(err, netlink.ErrDumpInterrupted) {
			return out, err
		}
	}
	return nil, err
}
