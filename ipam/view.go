package ipam

import (
	"net/netip"

	"github.com/google/uuid"
)

func look[T any](a *Allocator, fn func(*Core) T) T {
	a.mu.Lock()
	defer a.mu.Unlock()
	return fn(a.core)
}

// State is the whole table, for another peer's Merge; nil while it is not known
// what of it is durable.
func (a *Allocator) State() []byte {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.stale {
		return nil
	}
	return a.core.State()
}

// Status is the plan in numbers.
func (a *Allocator) Status() Status { return look(a, (*Core).Status) }

// Allocations are the addresses in use, in order.
func (a *Allocator) Allocations() []Allocation { return look(a, (*Core).Allocations) }

// Prefixes are the fewest CIDR prefixes that cover what a peer owns.
func (a *Allocator) Prefixes(peer uuid.UUID) []netip.Prefix {
	return look(a, func(c *Core) []netip.Prefix { return c.Prefixes(peer) })
}

// Owned are the addresses of one owner, in order.
func (a *Allocator) Owned(owner string) []netip.Addr {
	var out []netip.Addr
	for _, al := range a.Allocations() {
		if al.Owner == owner {
			out = append(out, al.Addr)
		}
	}
	return out
}
