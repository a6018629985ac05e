package mesh

import (
	"crypto/ed25519"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
)

func TestOnlyTheVersionsNextToThisOneAreUnderstood(t *testing.T) {
	id := newIdentity(t)
	for version, want := range map[int]bool{ProtocolVersion - 2: false, ProtocolVersion - 1: true, ProtocolVersion: true, ProtocolVersion + 1: true, ProtocolVersion + 2: false} {
		_, err := decodeMessage(encode(message{Protocol: version, Kind: kindRecords}))
		if (err == nil) != want || err != nil && reason(err) != "version" {
			t.Errorf("message of version %d: %v", version, err)
		}
		v := judge(Token{MeshID: meshA}, helloOpen{Protocol: version, Mesh: meshA})
		if (v.Code == "") != want || !want && v.Code != CodeVersion {
			t.Errorf("hello of version %d: %+v", version, v)
		}
		_, err = verify(meshA, sign(t, id, 1, Body{Protocol: version}).signed)
		if (err == nil) != want || err != nil && !errors.Is(err, errVersion) {
			t.Errorf("record of version %d: %v", version, err)
		}
	}
	if _, err := verify(meshA, sign(t, id, maxVersion+1, Body{}).signed); !errors.Is(err, errVersion) {
		t.Errorf("a record that nothing can be newer than: %v", err)
	}
}

func TestWhatIsRefusedIsCounted(t *testing.T) {
	tok := newToken(t)
	p := start(t, nil, Config{Token: tok, Name: "p"})
	id := newIdentity(t)
	by := func(version uint64, b Body) signed {
		r, err := id.sign(tok.MeshID, version, b)
		if err != nil {
			t.Fatal(err)
		}
		return r.signed
	}
	forged := by(3, Body{Name: "x"})
	forged.Signature = ed25519.Sign(newIdentity(t).Key, forged.Payload)
	for name, s := range map[string]signed{
		"": by(2, Body{}), "outdated": by(1, Body{}), "bad-signature": forged, "version": by(4, Body{Protocol: ProtocolVersion + 2}),
		"oversized": {Payload: make([]byte, maxRecord+1)}, "malformed": {Payload: []byte("x")}, "foreign-mesh": sign(t, id, 5, Body{}).signed,
	} {
		if name == "outdated" {
			p.mergeRecord(by(2, Body{}))
		}
		before := p.Counters().RecordsRefused[name]
		_, news := p.mergeRecord(s)
		if after := p.Counters().RecordsRefused[name]; name != "" && (news || after != before+1) {
			t.Errorf("%s: news %v, counted %d times", name, news, after-before)
		}
	}
	if c := p.Counters(); len(c.RecordsRefused) != 6 || c.LastRefused.IsZero() {
		t.Errorf("counted: %+v", c)
	}
	for reason, b := range map[string][]byte{"malformed": []byte("x"), "version": encode(message{Protocol: 99}), "bad-signature": encode(message{
		Kind: kindDirect, To: p.id(), Key: make([]byte, ed25519.PublicKeySize), Channels: []channelData{{Name: "board"}}})} {
		p.inbox <- delivery{msg: b}
		p.settle(t.Context())
		if c := p.Counters(); c.MessagesRefused[reason] != 1 {
			t.Errorf("a message that is %s: %+v", reason, c.MessagesRefused)
		}
	}
}

func TestThereIsRoomForSoManyPeers(t *testing.T) {
	table := records{}
	id := newIdentity(t)
	table.merge(sign(t, id, 1, Body{}))
	for i := range maxRecords - 1 {
		var u uuid.UUID
		u[0], u[1], u[2] = byte(i), byte(i>>8), 1
		table[u] = &Record{ID: u}
	}
	if table.isFull(id.ID) || !table.isFull(newIdentity(t).ID) {
		t.Error("a known peer is refused, or an unknown one is not")
	}
}

func TestTombstonesAreBoundedAlikeOnAllPeers(t *testing.T) {
	now := time.Unix(1<<31, 0)
	left := func(n int, at time.Time) *Record {
		var u uuid.UUID
		u[0], u[1], u[2] = byte(n), byte(n>>8), 2
		return &Record{ID: u, Version: 1, Body: Body{Departed: true, DepartedAt: at.Unix()}}
	}
	self := left(9999, now.Add(-2*tombstoneTime))
	old, fresh := left(1, now.Add(-tombstoneTime-time.Second)), left(2, now.Add(-tombstoneTime+time.Second))
	table := tableOf([]*Record{self, old, fresh})
	if buried := table.bury(self.ID, now, nil); len(buried) != 1 || buried[0] != old.ID || len(table) != 2 {
		t.Errorf("buried: %v; kept: %d", buried, len(table))
	}
	if !table.isBuried(old, now) || table.isBuried(fresh, now) || table.isBuried(&Record{}, now) {
		t.Error("what was buried is taken back, or what was not is refused")
	}
	// Of too many the latest stay, whichever come first.
	for i := range maxTombstones + 10 {
		r := left(100+i, now.Add(time.Duration(-i)*time.Second))
		if !table.isBuried(r, now) {
			table.merge(r)
		}
	}
	table.bury(self.ID, now, nil)
	kept := 0
	for id := range table {
		if id != self.ID {
			kept++
		}
	}
	_, first := table[left(100, now).ID]
	if _, last := table[left(100+maxTombstones, now).ID]; kept != maxTombstones || !first || last {
		t.Errorf("%d are kept, the latest %v, the one too many %v", kept, first, last)
	}
	if _, stays := table[fresh.ID]; stays {
		t.Error("one that left before all of them is kept")
	}
	// Who says that it leaves long after now does not outlive the others by that.
	liar := left(1, now.Add(100*tombstoneTime))
	if !table.isBuried(liar, now) {
		t.Error("one that says to have left in years to come displaces another")
	}
	if table.merge(liar); !slices.Equal(table.bury(self.ID, now, nil), []uuid.UUID{liar.ID}) {
		t.Error("it is kept before the others")
	}
}

func TestFarewellByAWrongClockIsHeardAndEndsAllTheSame(t *testing.T) {
	now := time.Now()
	of := func(id Identity, version uint64, b Body) signed {
		b.Protocol = ProtocolVersion
		return sign(t, id, version, b).signed
	}
	knowing := func(list ...signed) *Mesh {
		m := bare(t)
		m.cfg.Token.MeshID = meshA
		m.mergeRecords(list)
		return m
	}
	x := newIdentity(t)
	lives := of(x, 1, Body{Name: "x"})
	for name, at := range map[string]int64{"in 1970": 5, "a while before this host's clock was set ahead": now.Add(-tombstoneTime - time.Hour).Unix()} {
		left := of(x, 2, Body{Name: "x", Departed: true, DepartedAt: at})
		m := knowing(lives)
		if news := m.mergeRecords([]signed{left}); len(news) != 1 || !m.hasDeparted(x.ID) {
			t.Fatalf("who left %s is not heard, or not passed on: %d", name, len(news))
		}
		if m.bury(now.Add(tombstoneTime - time.Minute)); !m.hasDeparted(x.ID) {
			t.Errorf("who left %s is forgotten too soon", name)
		}
		if m.bury(now.Add(tombstoneTime + time.Minute)); len(m.records) != 0 || len(m.farewells) != 0 {
			t.Errorf("who left %s is kept for ever", name)
		}
		if news := m.mergeRecords([]signed{left}); len(news) != 0 || len(m.records) != 0 {
			t.Errorf("who left %s is taken back from another that has heard it later", name)
		}
		if m.mergeRecords([]signed{lives, left}); !m.hasDeparted(x.ID) {
			t.Errorf("who left %s lives again by the word of one that was away", name)
		}
	}
}
