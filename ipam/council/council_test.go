package council

import (
	"maps"
	"slices"
	"testing"

	"github.com/google/uuid"
	pb "go.etcd.io/raft/v3/raftpb"
)

var meshID = uuid.UUID{7}

func member(n byte, sponsor ID) Member {
	return Member{Peer: uuid.UUID{15: n}, Sponsor: sponsor, Nonce: uint64(n)}
}

// voters is a council on a network that loses nothing, but for who is down.
type voters struct {
	t     *testing.T
	nodes map[ID]*Node
	disks map[ID]map[string]Write
	down  map[ID]bool
	last  []Decision
	sent  int // messages that arrived
}

func newVoters(t *testing.T) (*voters, Member) {
	v := &voters{t: t, nodes: map[ID]*Node{}, disks: map[ID]map[string]Write{}, down: map[ID]bool{}}
	founder := member(1, ID{})
	v.add(founder.ID(), Begin(Found(meshID, founder)))
	return v, founder
}

func (v *voters) add(id ID, d Disk) {
	n, err := NewNode(id, d)
	if err != nil {
		v.t.Fatal(err)
	}
	v.nodes[id] = n
	v.disks[id] = map[string]Write{}
	if d.Hard != nil {
		v.write(id, d.Writes())
	}
}

func (v *voters) write(id ID, ws []Write) {
	for _, w := range ws {
		if v.disks[id][w.Key] = w; w.Value == nil {
			delete(v.disks[id], w.Key)
		}
	}
}

func (v *voters) run(ticks int) {
	v.t.Helper()
	for range ticks {
		for id, n := range v.nodes {
			if !v.down[id] {
				if err := n.Tick(v.down[n.Leader()]); err != nil {
					v.t.Fatal(err)
				}
			}
		}
		for moved := true; moved; {
			moved = false
			for id, n := range v.nodes {
				out, err := n.Ready()
				if err != nil {
					v.t.Fatal(err)
				}
				v.write(id, out.Writes)
				v.last = append(v.last, out.Decisions...)
				for _, m := range out.Messages {
					if v.nodes[m.To] == nil || v.down[m.To] || v.down[id] {
						continue
					}
					moved, v.sent = true, v.sent+1
					if err := v.nodes[m.To].Step(id, m.Raft); err != nil {
						v.t.Fatal(err)
					}
				}
			}
		}
	}
}

func (v *voters) all() []ID { return slices.SortedFunc(maps.Keys(v.nodes), compareIDs) }

func (v *voters) leader() *Node {
	v.t.Helper()
	for id, n := range v.nodes {
		if !v.down[id] && n.IsLeader() {
			return n
		}
	}
	v.t.Fatal("nobody leads")
	return nil
}

func (v *voters) propose(c Command) {
	v.t.Helper()
	if err := v.leader().Propose(c); err != nil {
		v.t.Fatal(err)
	}
	v.run(1)
}

// threeVoters are a founder and two that it has let in.
func threeVoters(t *testing.T) *voters {
	t.Helper()
	v, founder := newVoters(t)
	v.run(1)
	for n := byte(2); n <= 3; n++ {
		m := member(n, founder.ID())
		v.propose(Command{Kind: Admit, Member: m})
		v.add(m.ID(), Disk{})
	}
	v.propose(Command{Kind: SetVoters, Voters: v.all()})
	return v
}

func TestCouncilGrowsLosesItsLeaderAndGoesOn(t *testing.T) {
	v := threeVoters(t)
	v.run(4)
	for id, n := range v.nodes {
		if s := n.State(); len(s.Voters) != 3 || len(s.Admitted) != 3 || s.Hash != v.leader().State().Hash {
			t.Errorf("voter %s has %d voters and %d members", id, len(s.Voters), len(s.Admitted))
		}
	}
	gone := v.leader().self
	v.down[gone] = true
	v.run(3 * electionTicks)
	v.propose(Command{Kind: Seal, ID: gone})
	if _, sealed := v.leader().State().Sealed[gone]; sealed {
		t.Error("a voter was sealed")
	}
	v.propose(Command{Kind: SetVoters, Voters: slices.DeleteFunc(v.all(), func(id ID) bool { return id == gone })})
	v.propose(Command{Kind: Seal, ID: gone})
	if s := v.leader().State(); len(s.Voters) != 2 || len(s.Pending()) != 1 {
		t.Errorf("after the seal: %d voters, %v pending", len(s.Voters), s.Pending())
	}
}

func TestCalmLeaderSpeaksSeldomAndIsFollowed(t *testing.T) {
	v := threeVoters(t)
	v.run(4 * heartbeatTicks)
	leader, sent := v.leader().self, v.sent
	const rounds = 20
	v.run(rounds * calmness * heartbeatTicks)
	if now := v.leader().self; now != leader {
		t.Errorf("%s leads, after %s", now, leader)
	}
	if got, most := v.sent-sent, 2*2*(rounds+1); got > most {
		t.Errorf("%d messages in %d rounds of two heartbeats and their answers", got, rounds)
	}
}

func TestNodeIsTheSameAfterARestart(t *testing.T) {
	v, founder := newVoters(t)
	v.run(1)
	for n := range 3 * keptEntries {
		m := member(2, founder.ID())
		m.Nonce = uint64(n)
		v.propose(Command{Kind: Admit, Member: m})
	}
	id := founder.ID()
	if n := len(v.disks[id]); n > 2*keptEntries+3 {
		t.Errorf("the disk has %d keys: it was not compacted", n)
	}
	var d Disk
	for _, key := range []string{keyHard, keySnapshot} {
		load(t, &d, v.disks[id][key])
	}
	for i := v.nodes[id].first; i <= v.nodes[id].applied; i++ {
		load(t, &d, v.disks[id][entryKey(i)])
	}
	want := v.nodes[id].State()
	v.add(id, d)
	v.run(2)
	if got := v.nodes[id].State(); got.Hash != want.Hash || got.Index != want.Index {
		t.Errorf("after the restart the state is of %d, before it was of %d", got.Index, want.Index)
	}
}

// load takes in a write as it would be on a disk.
func load(t *testing.T, d *Disk, w Write) {
	t.Helper()
	again, err := DecodeWrite(w.Key, Marshal(w.Value))
	if err == nil {
		err = d.Load(again)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestCommandsAreVoidWhereTheyMustBe(t *testing.T) {
	a := member(1, ID{})
	b, c := member(2, a.ID()), member(3, member(2, a.ID()).ID())
	s := Found(meshID, a)
	apply := func(c Command, want bool) {
		t.Helper()
		next, ok := s.Apply(s.Index+1, c)
		if ok != want {
			t.Errorf("%+v: decided = %v", c, ok)
		}
		if !ok && next.Hash != s.Hash {
			t.Errorf("%+v is void, and changes something", c)
		}
		s = next
	}
	apply(Command{Kind: Admit, Member: c}, false) // its sponsor is not admitted
	apply(Command{Kind: Admit, Member: b}, true)
	apply(Command{Kind: Admit, Member: b}, false)
	apply(Command{Kind: SetVoters, Voters: []ID{c.ID()}}, false) // no member
	apply(Command{Kind: SetVoters}, false)
	apply(Command{Kind: SetVoters, Voters: []ID{a.ID()}}, false) // as it is
	apply(Command{Kind: Seal, ID: a.ID()}, false)                // a voter
	early := Estate{Base: s.Index}
	apply(Command{Kind: Admit, Member: c}, true)
	apply(Command{Kind: Seal, ID: b.ID()}, true)
	apply(Command{Kind: Seal, ID: b.ID()}, false)
	apply(Command{Kind: Admit, Member: member(4, b.ID())}, false) // of a sealed sponsor
	apply(Command{Kind: Reclaim, Estate: early}, false)           // c was admitted after it
	apply(Command{Kind: Reclaim, Estate: Estate{Base: s.Index, Shares: []Share{{Count: 1, Heir: b.ID()}}}}, false)
	fine := Estate{Base: s.Index, Shares: []Share{{Count: 1, Heir: c.ID()}}}
	apply(Command{Kind: Reclaim, Estate: fine}, true)
	if len(s.Pending()) != 0 {
		t.Errorf("%v is pending after the reclaim", s.Pending())
	}
	apply(Command{Kind: Reclaim, Estate: fine}, false) // of before the last
	apply(Command{Kind: 99}, false)
	again, err := DecodeState(EncodeState(s))
	if err != nil || string(EncodeState(again)) != string(EncodeState(s)) {
		t.Errorf("state read again: %v", err)
	}
}

func TestForeignRaftMessagesThatOnlyANodeItselfMakesAreRefused(t *testing.T) {
	v, founder := newVoters(t)
	for kind := range pb.MessageType_name {
		stranger := member(9, founder.ID()).ID()
		to, from, k := raftID(founder.ID()), raftID(stranger), pb.MessageType(kind)
		_ = v.nodes[founder.ID()].Step(stranger, &pb.Message{Type: &k, To: &to, From: &from})
	}
	v.run(electionTicks * 2)
	v.leader()
}

func FuzzForeignBytesNeverPanic(f *testing.F) {
	founder := member(1, ID{})
	s := Found(meshID, founder)
	f.Add(EncodeState(s))
	f.Add(Encode(Command{Kind: Admit, Member: member(2, founder.ID())}))
	f.Add(Marshal(Begin(s).Snapshot))
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, err := DecodeState(b); err == nil {
			s.Apply(s.Index+1, Command{Kind: Seal, ID: founder.ID()})
		}
		if c, err := DecodeCommand(b); err == nil {
			s.Apply(2, c)
		}
		n, err := NewNode(founder.ID(), Begin(s))
		if err != nil {
			t.Fatal(err)
		}
		if m, err := DecodeMessage(b); err == nil {
			_ = n.Step(member(9, founder.ID()).ID(), m)
			_, _ = n.Ready()
		}
		_, _ = DecodeWrite(keySnapshot, b)
	})
}

func TestVotersThatStandTogetherPartInLaterTerms(t *testing.T) {
	for n := range uint64(64) {
		a, b := n*electionTicks*12345, (n+7)*electionTicks*977
		together := 0
		for term := range uint64(40) {
			if patience(a, term) == patience(b, term) {
				together++
			}
		}
		if together > 20 {
			t.Errorf("voters %d and %d stand together in %d of 40 terms", a, b, together)
		}
	}
}
