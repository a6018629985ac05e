package ipam

import (
	"fmt"

	"github.com/google/uuid"
)

// Disown takes the plan of a peer's store away from that peer, which goes on
// elsewhere with another copy of it: what has to be committed for the copy to be
// another peer's. It is as after a removal (see renounce), but that nobody is asked
// to shut out the member that this one was. Errors: those of Readable.
func Disown(cfg Config, saved []Record) ([]Record, error) {
	c, err := open(cfg, saved, 1)
	if err != nil {
		return nil, fmt.Errorf("disown the address plan: %w", err)
	}
	if c.self != uuid.Nil {
		delete(c.poisoned, c.self)
		c.renounce()
	}
	c.former = nil
	c.dirty.self, c.dirty.poisoned = true, true
	e := c.finish()
	out := make([]Record, len(e.Writes))
	for i, w := range e.Writes {
		out[i] = Record{w.Bucket, w.Key, EncodeWrite(w)}
	}
	return out, nil
}
