package mesh

import (
	"crypto/ed25519"
	"errors"
	"maps"
	"net/netip"
	"testing"

	"github.com/google/uuid"
	"pgregory.net/rapid"
)

func newIdentity(t testing.TB) Identity {
	t.Helper()
	id, err := NewIdentity()
	if err != nil {
		t.Fatal(err)
	}
	return id
}

var meshA = uuid.UUID{1}

func sign(t testing.TB, id Identity, version uint64, body Body) Record {
	t.Helper()
	r, err := id.sign(meshA, version, body)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestIdentitySurvivesTheStore(t *testing.T) {
	id := newIdentity(t)
	b, _ := id.MarshalBinary()
	var again Identity
	if err := again.UnmarshalBinary(b); err != nil || again.ID != id.ID {
		t.Errorf("read back as %s, %v; want %s", again.ID, err, id.ID)
	}
	if err := again.UnmarshalBinary(b[1:]); err == nil {
		t.Error("a short identity is accepted")
	}
	if id.ID.Version() != 8 || id.ID.Variant() != uuid.RFC4122 {
		t.Errorf("%s is no UUID of version 8", id.ID)
	}
}

func TestRecordIsBelievedOnlyFromItsOwner(t *testing.T) {
	id, other := newIdentity(t), newIdentity(t)
	good := sign(t, id, 3, Body{Name: "a", Prefixes: []netip.Prefix{netip.MustParsePrefix("10.32.0.0/13")}}).signed
	r, err := verify(meshA, good)
	if err != nil || r.ID != id.ID || r.Version != 3 || r.Body.Name != "a" {
		t.Fatalf("verify = %+v, %v", r, err)
	}
	changed := signed{Payload: append([]byte{}, good.Payload...), Signature: good.Signature}
	changed.Payload[len(changed.Payload)-1] ^= 1
	forged := encode(payload{meshA, id.Key.Public().(ed25519.PublicKey), 9, Body{}})
	for name, tc := range map[string]struct {
		s    signed
		mesh uuid.UUID
		want error
	}{
		"another mesh":     {good, uuid.UUID{2}, errForeign},
		"forged":           {signed{Payload: forged, Signature: sign(t, other, 9, Body{}).signed.Signature}, meshA, errSignature},
		"too large":        {signed{Payload: make([]byte, maxRecord+1), Signature: good.Signature}, meshA, errOversized},
		"no signature":     {signed{Payload: good.Payload}, meshA, errOversized},
		"not a record":     {signed{Payload: []byte("hello"), Signature: good.Signature}, meshA, errMalformed},
		"too many of them": {sign(t, id, 1, Body{Prefixes: make([]netip.Prefix, maxPrefixes+1)}).signed, meshA, errOversized},
		"name too long":    {sign(t, id, 1, Body{Name: string(make([]byte, maxName+1))}).signed, meshA, errOversized},
	} {
		if _, err := verify(tc.mesh, tc.s); !errors.Is(err, tc.want) {
			t.Errorf("%s: %v; want %v", name, err, tc.want)
		}
	}
	if _, err := verify(meshA, changed); err == nil {
		t.Error("a changed record is believed")
	}
}

func TestOversizedOwnRecordIsNotPublished(t *testing.T) {
	if _, err := newIdentity(t).sign(meshA, 1, Body{WireGuardKey: make([]byte, maxRecord)}); !errors.Is(err, errOversized) {
		t.Errorf("sign: %v; want %v", err, errOversized)
	}
}

func TestMergingRecordsIsCommutativeAssociativeAndIdempotent(t *testing.T) {
	ids := []Identity{newIdentity(t), newIdentity(t)}
	rapid.Check(t, func(rt *rapid.T) {
		list := rapid.SliceOfN(rapid.Custom(func(rt *rapid.T) Record {
			return sign(t, ids[rapid.IntRange(0, 1).Draw(rt, "peer")], rapid.Uint64Range(1, 3).Draw(rt, "version"),
				Body{Name: rapid.SampledFrom([]string{"a", "b"}).Draw(rt, "name")})
		}), 1, 8).Draw(rt, "records")
		all := func(order []Record) records {
			t := records{}
			for _, r := range order {
				t.merge(r)
			}
			return t
		}
		want := all(list)
		got := all(append(rapid.Permutation(list).Draw(rt, "order"), rapid.Permutation(list).Draw(rt, "again")...))
		same := func(a, b Record) bool { return string(a.signed.Payload) == string(b.signed.Payload) }
		if !maps.EqualFunc(want, got, same) {
			rt.Fatalf("another order gives another result")
		}
		for _, r := range list {
			if got.merge(r) {
				rt.Fatalf("a record that is known is news")
			}
		}
	})
}

func FuzzForeignRecord(f *testing.F) {
	good := sign(f, newIdentity(f), 1, Body{Name: "a"}).signed
	f.Add(good.Payload, good.Signature)
	f.Fuzz(func(t *testing.T, p, sig []byte) {
		if r, err := verify(meshA, signed{Payload: p, Signature: sig}); err == nil && r.ID == uuid.Nil {
			t.Error("a record without a peer is believed")
		}
	})
}
