package ipam

import (
	"fmt"
	"net/netip"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"
)

// Write is one change of what has to be durable; Value nil deletes the key.
type Write struct {
	Bucket     string
	Key, Value []byte
}

// Buckets of Writes.
const (
	bucketTable  = "table"  // one key: the whole table of registers
	bucketAddrs  = "addrs"  // an address: its owner
	bucketGrants = "grants" // one key: the latest answers to requests
)

var (
	keyTable  = []byte("rows")
	keyGrants = []byte("latest")
)

// grant is an answer to a request, kept so that a request that arrives twice
// is answered alike and granted once.
type grant struct {
	peer  uuid.UUID
	nonce uint64
	rows  []Row
}

// grantsKept bounds the memory of grants; a request is repeated within seconds.
const grantsKept = 64

type savedGrant struct {
	_     struct{} `cbor:",toarray"`
	Peer  [16]byte
	Nonce uint64
	Rows  []wireRow
}

func (c *Core) tableWrite() Write { return Write{bucketTable, keyTable, c.State()} }

func addrWrite(a netip.Addr, owner string) Write {
	return Write{bucketAddrs, a.AsSlice(), encode(owner)}
}

func (c *Core) grantsWrite() Write {
	out := make([]savedGrant, len(c.grants))
	for i, g := range c.grants {
		out[i] = savedGrant{Peer: g.peer, Nonce: g.nonce, Rows: toWire(g.rows)}
	}
	return Write{bucketGrants, keyGrants, encode(out)}
}

// load takes in a value that was committed.
func (c *Core) load(w Write) error {
	switch {
	case w.Bucket == bucketTable && string(w.Key) == string(keyTable):
		rows, err := c.decodeState(w.Value)
		if err != nil {
			return fmt.Errorf("read stored registers: %w", err)
		}
		c.table, _ = c.table.merge(rows)
		c.own = c.table.owned(c.self)
	case w.Bucket == bucketGrants && string(w.Key) == string(keyGrants):
		if err := c.loadGrants(w.Value); err != nil {
			return fmt.Errorf("read stored grants: %w", err)
		}
	case w.Bucket == bucketAddrs:
		if err := c.loadAddr(w.Key, w.Value); err != nil {
			return fmt.Errorf("read stored address %x: %w", w.Key, err)
		}
	default:
		return fmt.Errorf("read stored value %s/%x: %w: this version does not know it", w.Bucket, w.Key, ErrCorrupt)
	}
	return nil
}

func (c *Core) loadGrants(b []byte) error {
	var in []savedGrant
	if err := decode(b, &in); err != nil {
		return err
	}
	if len(in) > grantsKept {
		return fmt.Errorf("%w: %d grants, at most %d are kept", ErrCorrupt, len(in), grantsKept)
	}
	c.grants = make([]grant, len(in))
	for i, g := range in {
		rows, err := c.fromWire(g.Rows)
		if err != nil {
			return err
		}
		c.grants[i] = grant{g.Peer, g.Nonce, rows}
	}
	return nil
}

func (c *Core) loadAddr(key, value []byte) error {
	var owner string
	if err := decode(value, &owner); err != nil {
		return err
	}
	a, ok := netip.AddrFromSlice(key)
	if _, twice := c.addrs[a]; twice || !ok || !c.rng.Contains(a) || c.reserved(c.offset(a)) {
		return fmt.Errorf("%w: no address that could be given from %s", ErrCorrupt, c.rng)
	}
	if err := validOwner(owner); err != nil {
		return fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	c.hold(owner, a)
	return nil
}

// validOwner keeps owners printable and bounded; they end up in messages, and
// have to be readable again from the store.
func validOwner(owner string) error {
	if owner == "" || len(owner) > 256 || !utf8.ValidString(owner) || printable(owner, 256) != owner {
		return fmt.Errorf("owner %q is empty, longer than 256 bytes or not printable", owner)
	}
	return nil
}

// printable is the text without what could play tricks on a terminal, cut
// after so many characters.
func printable(text string, most int) string {
	out := make([]rune, 0, min(len(text), most))
	for _, r := range text {
		if len(out) == most {
			break
		}
		if unicode.IsPrint(r) {
			out = append(out, r)
		}
	}
	return string(out)
}
