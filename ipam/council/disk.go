package council

import (
	"encoding/binary"
	"fmt"

	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// Write is one change of what has to be durable. Value nil deletes the key.
type Write struct {
	Key   string
	Value proto.Message
}

// Keys of Writes. An entry's is 'e' and its index, big endian.
const (
	keyHard     = "hard"
	keySnapshot = "snapshot"
)

// Disk is what a Node wrote.
type Disk struct {
	Hard     *pb.HardState
	Snapshot *pb.Snapshot
	Entries  []*pb.Entry // in order
}

// Writes are those that make a disk hold just this.
func (d Disk) Writes() []Write {
	out := []Write{{keyHard, d.Hard}, {keySnapshot, d.Snapshot}}
	for _, e := range d.Entries {
		out = append(out, Write{entryKey(e.GetIndex()), e})
	}
	return out
}

// Load takes in a write; entries must come in the order of their keys.
func (d *Disk) Load(w Write) error {
	switch v := w.Value.(type) {
	case *pb.HardState:
		d.Hard = v
	case *pb.Snapshot:
		d.Snapshot = v
	case *pb.Entry:
		if n := len(d.Entries); n > 0 && d.Entries[n-1].GetIndex()+1 != v.GetIndex() {
			return fmt.Errorf("%w: entry %d follows entry %d", ErrBroken, v.GetIndex(), d.Entries[n-1].GetIndex())
		}
		d.Entries = append(d.Entries, v)
	default:
		return fmt.Errorf("%w: key %q", ErrMalformed, w.Key)
	}
	return nil
}

// DecodeWrite reads a value that was written under a key.
func DecodeWrite(key string, value []byte) (Write, error) {
	var m proto.Message
	switch {
	case key == keyHard:
		m = &pb.HardState{}
	case key == keySnapshot:
		m = &pb.Snapshot{}
	case len(key) == 9 && key[0] == 'e':
		m = &pb.Entry{}
	default:
		return Write{}, fmt.Errorf("%w: key %q", ErrMalformed, key)
	}
	return Write{key, m}, unmarshal(value, m)
}

// Marshal writes a raft message or the value of a Write.
func Marshal(m proto.Message) []byte {
	return must(proto.MarshalOptions{Deterministic: true}.Marshal(m))
}

// DecodeMessage reads a raft message.
func DecodeMessage(b []byte) (*pb.Message, error) {
	m := &pb.Message{}
	return m, unmarshal(b, m)
}

func unmarshal(b []byte, m proto.Message) error {
	if err := proto.Unmarshal(b, m); err != nil {
		return fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	return nil
}

func entryKey(index uint64) string {
	return string(binary.BigEndian.AppendUint64([]byte{'e'}, index))
}

// persist puts what raft wants durable into its own storage, and into out.
func (n *Node) persist(rd raft.Ready, out *Output) error {
	if !raft.IsEmptySnap(rd.Snapshot) {
		if err := n.install(rd.Snapshot, out); err != nil {
			return err
		}
	}
	if len(rd.Entries) > 0 {
		old, err := n.log.LastIndex()
		if err != nil {
			return err
		}
		if err := n.log.Append(rd.Entries); err != nil {
			return err
		}
		for _, e := range rd.Entries {
			out.Writes = append(out.Writes, Write{entryKey(e.GetIndex()), e})
		}
		// What contradicted the leader is gone, with all that came after it.
		for i := rd.Entries[len(rd.Entries)-1].GetIndex() + 1; i <= old; i++ {
			out.Writes = append(out.Writes, Write{Key: entryKey(i)})
		}
	}
	if !raft.IsEmptyHardState(rd.HardState) {
		if err := n.log.SetHardState(rd.HardState); err != nil {
			return err
		}
		out.Writes = append(out.Writes, Write{keyHard, rd.HardState})
	}
	return nil
}

// install makes a leader's snapshot this node's state.
func (n *Node) install(s *pb.Snapshot, out *Output) error {
	state, err := DecodeState(s.GetData())
	if err != nil {
		return err
	}
	last, err := n.log.LastIndex()
	if err != nil {
		return err
	}
	if err := n.log.ApplySnapshot(s); err != nil {
		return err
	}
	for i := n.first; i <= last; i++ {
		out.Writes = append(out.Writes, Write{Key: entryKey(i)})
	}
	out.Writes = append(out.Writes, Write{keySnapshot, s})
	n.state, n.applied, n.conf = state, s.GetMetadata().GetIndex(), s.GetMetadata().GetConfState()
	n.first = n.applied + 1
	n.know(state)
	out.Decisions = append(out.Decisions, Decision{Index: n.applied, State: state})
	return nil
}

// storage is raft's, with snapshots of the present: raft's own keeps the last
// one, which a voter that was added since refuses because it is not in it.
type storage struct {
	*raft.MemoryStorage
	node     *Node
	changing bool // the voters, so that applied and conf do not fit
}

// Snapshot is of what is applied.
func (s *storage) Snapshot() (*pb.Snapshot, error) {
	n := s.node
	if s.changing {
		return nil, raft.ErrSnapshotTemporarilyUnavailable
	}
	term, err := s.Term(n.applied)
	if err != nil {
		return nil, err
	}
	index := n.applied
	return &pb.Snapshot{Data: EncodeState(n.state), Metadata: &pb.SnapshotMetadata{Index: &index, Term: &term, ConfState: n.conf}}, nil
}

// compact puts all but the last entries into a snapshot.
func (n *Node) compact(out *Output) error {
	s, err := n.log.CreateSnapshot(n.applied, n.conf, EncodeState(n.state))
	if err != nil {
		return err
	}
	out.Writes = append(out.Writes, Write{keySnapshot, s})
	for ; n.first <= n.applied; n.first++ {
		out.Writes = append(out.Writes, Write{Key: entryKey(n.first)})
	}
	return n.log.Compact(n.applied - keptEntries)
}
