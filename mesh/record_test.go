package mesh

import (
	"crypto/ed25519"
	"errors"
	"maps"
	"net/netip"
	"testing"
	"time"

	"github.com/google/uuid"
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

func sign(t testing.TB, id Identity, version uint64, body Body) *Record {
	t.Helper()
	r, err := id.sign(meshA, version, body)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// signAnything is what a peer could write whose weft has no limits.
func signAnything(id Identity, b Body) signed {
	p := encode(payload{meshA, id.Key.Public().(ed25519.PublicKey), 1, b})
	return signed{Payload: p, Signature: ed25519.Sign(id.Key, append([]byte(recordContext), p...))}
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
		"no signature":     {signed{Payload: good.Payload}, meshA, errSignature},
		"long signature":   {signed{Payload: good.Payload, Signature: make([]byte, 65)}, meshA, errOversized},
		"not a record":     {signed{Payload: []byte("hello"), Signature: good.Signature}, meshA, errMalformed},
		"too many of them": {signAnything(id, Body{Prefixes: make([]netip.Prefix, maxPrefixes+1)}), meshA, errOversized},
		"invalid prefix":   {signAnything(id, Body{Prefixes: make([]netip.Prefix, 1)}), meshA, errMalformed},
		"invalid address":  {signAnything(id, Body{Underlay: make([]netip.Addr, 1)}), meshA, errMalformed},
		"too much broken":  {signAnything(id, Body{Broken: make([]uuid.UUID, maxList+1)}), meshA, errOversized},
		"too many mute":    {signAnything(id, Body{Mute: make([]uuid.UUID, maxList+1)}), meshA, errOversized},
		"name too long":    {signAnything(id, Body{Name: string(make([]byte, maxName+1))}), meshA, errOversized},
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

func TestUnknownFieldsOfANewerPeerSurviveForwarding(t *testing.T) {
	id := newIdentity(t)
	p := encode(map[int]any{1: meshA, 2: []byte(id.Key.Public().(ed25519.PublicKey)), 3: 7, 4: map[int]any{1: "newer", 99: "unknown"}, 77: true})
	s := signed{Payload: p, Signature: ed25519.Sign(id.Key, append([]byte(recordContext), p...))}
	r, err := verify(meshA, s)
	if err != nil || r.Body.Name != "newer" || string(r.signed.Payload) != string(p) {
		t.Fatalf("verify = %+v, %v", r, err)
	}
}

func TestNamesCannotPlayTricksOnTheScreen(t *testing.T) {
	id := newIdentity(t)
	r, err := verify(meshA, signAnything(id, Body{Name: "a\x1b[31m\u202eb\n", Software: "\x07"}))
	if err != nil || r.Body.Name != "a [31m b " || r.Body.Software != " " {
		t.Errorf("%q %q, %v", r.Body.Name, r.Body.Software, err)
	}
}

func TestRefusedRecordsAreCountedByReason(t *testing.T) {
	m := &Mesh{cfg: Config{Identity: newIdentity(t)}, log: quiet(), records: records{}, changed: make(chan struct{}, 1), queue: newQueue(func() int { return 1 }, 4)}
	m.cfg.Token.MeshID = meshA
	id := newIdentity(t)
	good := sign(t, id, 1, Body{Name: "a"}).signed
	m.mergeRecords([]signed{{Payload: good.Payload}, {Payload: []byte("x"), Signature: good.Signature}, {Payload: make([]byte, maxRecord+1)}, good})
	want := map[string]uint64{"bad-signature": 1, "malformed": 1, "oversized": 1}
	if got := m.Counters().RecordsRefused; !maps.Equal(got, want) {
		t.Errorf("refused %v; want %v", got, want)
	}
	if m.records[id.ID].Body.Name != "a" {
		t.Error("the good one is not known")
	}
}

func TestARememberedRecordThatIsRefusedIsLeftOut(t *testing.T) {
	self, a, b := newIdentity(t), newIdentity(t), newIdentity(t)
	tooMuch := Body{Name: "b", Broken: make([]uuid.UUID, maxList+1)}
	remembered := func(list ...signed) []byte { return encode(snapshot{Version: snapshotVersion, Records: list}) }
	own, other := sign(t, self, 3, Body{Name: "self"}).signed, sign(t, a, 1, Body{Name: "a"}).signed
	refused := 0
	known, err := restore(nil, Token{MeshID: meshA}, self.ID, remembered(signAnything(b, tooMuch), own, other, signed{Payload: []byte{1}}), time.Now(), func(error) { refused++ })
	if err != nil || len(known) != 2 || known.of(self.ID).Version != 3 || refused != 2 {
		t.Errorf("%d records, %d left out: %v", len(known), refused, err)
	}
	if _, err := restore(nil, Token{MeshID: meshA}, self.ID, remembered(signAnything(self, tooMuch), other), time.Now(), func(error) {}); err == nil {
		t.Error("a peer begins without its own record")
	}
}
