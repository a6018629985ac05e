package ipam

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/weft-net/weft/ipam/council"
)

type savedSelf struct {
	_      struct{} `cbor:",toarray"`
	Me     council.Member
	Is     bool
	Lodged bool
	Former []ID
	Seq    uint64
}

type savedHolding struct {
	_       struct{} `cbor:",toarray"`
	Owner   string
	Use     use
	Token   uint64
	Refused string
}

type savedGrant struct {
	_     struct{} `cbor:",toarray"`
	To    ID
	Nonce uint64
	Rows  []wireRow
}

type savedRelease struct {
	_     struct{} `cbor:",toarray"`
	Addr  netip.Addr
	Token uint64
}

type savedLife struct {
	_                  struct{} `cbor:",toarray"`
	Start, First, Last uint64
}

// EncodeWrite makes the bytes of a Write's value; nil of nil.
func EncodeWrite(w Write) []byte {
	switch v := w.Value.(type) {
	case nil:
		return nil
	case selfRecord:
		return encode(savedSelf{Me: v.me, Is: v.is, Lodged: v.lodged, Former: v.former, Seq: v.seq})
	case council.State:
		return encode(council.EncodeState(v))
	case table:
		return encode(toWire(v))
	case []span:
		return encode(convert(v, toWireSpan))
	case holding:
		return encode(savedHolding{Owner: v.owner, Use: v.use, Token: v.token, Refused: v.refused})
	case book:
		return encode(toWireBook(v))
	case []grant:
		return encode(convert(v, func(g grant) savedGrant { return savedGrant{To: g.to, Nonce: g.nonce, Rows: toWire(g.rows)} }))
	case []release:
		return encode(convert(v, func(r release) savedRelease { return savedRelease{Addr: r.addr, Token: r.token} }))
	case []life:
		return encode(convert(v, func(l life) savedLife { return savedLife{Start: l.start, First: l.first, Last: l.last} }))
	case council.Write:
		return encode(council.Marshal(v.Value))
	}
	return encode(w.Value) // lists of members and of ids
}

// DecodeWrite reads what EncodeWrite wrote. Errors: ErrNewer, ErrCorrupt.
func DecodeWrite(bucket, key string, b []byte) (Write, error) {
	v, err := decodeValue(bucket, key, b)
	if err != nil {
		if !errors.Is(err, ErrNewer) && !errors.Is(err, ErrCorrupt) {
			err = fmt.Errorf("%w: %w", ErrCorrupt, err)
		}
		return Write{}, fmt.Errorf("read stored %s: %w", bucket, err)
	}
	return Write{bucket, key, v}, nil
}

func decodeValue(bucket, key string, b []byte) (any, error) {
	switch bucket {
	case bucketSelf:
		var v savedSelf
		err := decode(b, &v)
		return selfRecord{v.Me, v.Is, v.Lodged, v.Former, v.Seq}, err
	case bucketView:
		var v []byte
		if err := decode(b, &v); err != nil {
			return nil, err
		}
		return council.DecodeState(v)
	case bucketTable:
		var v []wireRow
		if err := decode(b, &v); err != nil {
			return nil, err
		}
		rows := fromWire(v)
		return table(rows), checkTable(rows)
	case bucketOwn:
		var v []wireSpan
		err := decode(b, &v)
		return convert(v, fromWireSpan), err
	case bucketMembers:
		var v []council.Member
		err := decode(b, &v)
		return v, err
	case bucketWards, bucketPoisoned:
		var v []ID
		err := decode(b, &v)
		return v, err
	case bucketHeld:
		var v savedHolding
		if err := decode(b, &v); err != nil {
			return nil, err
		}
		if len(key) != 4 || v.Use > useLeased {
			return nil, fmt.Errorf("no address, or no use of one")
		}
		return holding{v.Owner, v.Use, v.Token, v.Refused}, validOwner(v.Owner)
	case bucketBooks:
		var v wireBook
		err := decode(b, &v)
		return fromWireBook(v), err
	}
	return decodeRest(bucket, key, b)
}

func decodeRest(bucket, key string, b []byte) (any, error) {
	switch bucket {
	case bucketGrants:
		var v []savedGrant
		err := decode(b, &v)
		return convert(v, func(g savedGrant) grant { return grant{g.To, g.Nonce, fromWire(g.Rows)} }), err
	case bucketReleases:
		var v []savedRelease
		err := decode(b, &v)
		return convert(v, func(r savedRelease) release { return release{r.Addr, r.Token} }), err
	case bucketSeen:
		var v []savedLife
		err := decode(b, &v)
		if err == nil && len(key) != len(ID{}) {
			err = fmt.Errorf("a key of %d bytes", len(key))
		}
		return convert(v, func(l savedLife) life { return life{l.Start, l.First, l.Last} }), err
	case bucketRaft:
		var v []byte
		if err := decode(b, &v); err != nil {
			return nil, err
		}
		return council.DecodeWrite(key, v)
	}
	return nil, fmt.Errorf("this version does not know it")
}

// checkTable finds out whether rows are a whole table.
func checkTable(rows []Row) error {
	next := 0
	for _, r := range rows {
		if r.First != next || r.Count <= 0 || !r.valid() {
			return fmt.Errorf("a row of blocks %d+%d after block %d", r.First, r.Count, next)
		}
		next = r.end()
	}
	if next == 0 {
		return fmt.Errorf("no rows")
	}
	return nil
}
