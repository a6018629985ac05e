package ipam

import (
	"github.com/google/uuid"

	"github.com/weft-net/weft/ipam/council"
)

// Removed are the peers that are shut out, and are no member by another life: those
// that left are among them. Of those that never were admitted a restart forgets that
// they are. The map is made anew when something changes, and must not be changed.
func (c *Core) Removed() map[uuid.UUID]bool {
	if c.removed != nil {
		return c.removed
	}
	c.removed = map[uuid.UUID]bool{}
	look := func(id ID, m council.Member) {
		out, seen := c.removed[m.Peer]
		c.removed[m.Peer] = c.isSealed(id) && (out || !seen)
	}
	for id, a := range c.view.Admitted {
		look(id, a.Member)
	}
	for id, m := range c.members {
		look(id, m)
	}
	for peer := range c.unadmitted {
		if _, seen := c.removed[peer]; !seen {
			c.removed[peer] = true
		}
	}
	for peer, out := range c.removed {
		if !out || peer == c.cfg.Peer {
			delete(c.removed, peer)
		}
	}
	return c.removed
}

// Removed are the peers that are shut out, as in Core.
func (a *Allocator) Removed() map[uuid.UUID]bool { return look(a, (*Core).Removed) }

// Removed are the peers that the plan in a store has shut out. Errors: those of
// Readable.
func Removed(cfg Config, saved []Record) (map[uuid.UUID]bool, error) {
	c, err := open(cfg, saved, 1)
	if err != nil {
		return nil, err
	}
	return c.Removed(), nil
}
