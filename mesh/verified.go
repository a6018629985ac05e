package mesh

import (
	"crypto/sha256"
	"sync"
)

// VerifyCache remembers records whose signature was found good. Peers that run in
// one process share one, where a million verifications would be most of what they
// do.
type VerifyCache struct {
	mu   sync.Mutex
	good map[[sha256.Size]byte]*Record
	said map[*Record][]byte // what passes each on, which waits in the queues of all
}

// NewVerifyCache returns an empty one.
func NewVerifyCache() *VerifyCache {
	return &VerifyCache{good: map[[sha256.Size]byte]*Record{}, said: map[*Record][]byte{}}
}

// verify is verify with a memory; nil has none.
func (c *VerifyCache) verify(t Token, s signed) (*Record, error) {
	if c == nil {
		return verify(t.MeshID, s)
	}
	h := sha256.New()
	h.Write(s.Signature)
	h.Write(s.Payload)
	key := [sha256.Size]byte(h.Sum(t.MeshID[:])[len(t.MeshID):])
	c.mu.Lock()
	r, ok := c.good[key]
	c.mu.Unlock()
	if ok {
		return r, nil
	}
	r, err := verify(t.MeshID, s)
	if err == nil {
		c.mu.Lock()
		c.good[key] = r
		c.mu.Unlock()
	}
	return r, err
}

// message passes a record on; nil makes it each time.
func (c *VerifyCache) message(r *Record) []byte {
	if c == nil {
		return recordsMessage([]signed{r.signed})
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	msg, ok := c.said[r]
	if !ok {
		msg = recordsMessage([]signed{r.signed})
		c.said[r] = msg
	}
	return msg
}
