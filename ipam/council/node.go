package council

import (
	"errors"
	"fmt"
	"slices"

	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"
	"go.etcd.io/raft/v3/tracker"
)

// Times in ticks.
const (
	heartbeatTicks = 2
	electionTicks  = 6 // at least; at most twice that
	// calmness is how many times as seldom a leader says that it leads while nothing
	// is under way, and as long it may be silent while it is known to be there.
	calmness = 4
	// keptEntries is how much of the log is kept for voters that lag.
	keptEntries = 64
)

// ErrBroken is wrapped by errors of a node whose store contradicts what it said
// earlier. It can be no voter any more.
var ErrBroken = errors.New("the council's log contradicts itself")

// Decision is a command that was decided, and the State that follows.
type Decision struct {
	Index   uint64
	Command Command
	State   State
	Valid   bool // else the command was void, and State is the one before
}

// Output is what a Node asks of its caller: make Writes durable, then apply
// Decisions in order and send Messages.
type Output struct {
	Writes    []Write
	Messages  []Message
	Decisions []Decision
}

// Message is for another voter's Step.
type Message struct {
	To   ID
	Raft *pb.Message
}

// Node is one member's part in Raft. It has no clock and does no I/O. It is not
// safe for concurrent use.
//
// Elections are timed here and not by raft, whose own timer draws from a
// source of chance that cannot be seeded: a leader is ticked, others count.
type Node struct {
	self    ID
	rn      *raft.RawNode
	log     *storage
	state   State // at applied
	applied uint64
	first   uint64 // of the entries on the disk
	conf    *pb.ConfState
	elapsed int
	known   map[uint64]ID // whose numbers raft may use
}

// NewNode returns the node of a member with what it wrote before, or of a voter
// to be that has written nothing, and waits to be told everything.
func NewNode(self ID, d Disk) (n *Node, err error) {
	defer catch(&err)
	// A leader that is calm has to be heard first.
	n = &Node{self: self, known: map[uint64]ID{}, elapsed: -calmness * heartbeatTicks}
	n.log = &storage{MemoryStorage: raft.NewMemoryStorage(), node: n}
	if d.Snapshot != nil {
		if err := n.log.ApplySnapshot(d.Snapshot); err != nil {
			return nil, err
		}
		if n.state, err = DecodeState(d.Snapshot.GetData()); err != nil {
			return nil, err
		}
		n.know(n.state)
		n.applied = d.Snapshot.GetMetadata().GetIndex()
		n.conf = d.Snapshot.GetMetadata().GetConfState()
	}
	if d.Hard != nil {
		if err := n.log.SetHardState(d.Hard); err != nil {
			return nil, err
		}
	}
	entries := slices.DeleteFunc(slices.Clone(d.Entries), func(e *pb.Entry) bool { return e.GetIndex() <= n.applied })
	if err := n.log.Append(entries); err != nil {
		return nil, err
	}
	n.first = n.applied + 1
	n.rn, err = raft.NewRawNode(&raft.Config{
		ID: raftID(self), ElectionTick: 2 * electionTicks, HeartbeatTick: heartbeatTicks, Storage: n.log, Applied: n.applied,
		MaxSizePerMsg: 1 << 20, MaxInflightMsgs: 64, PreVote: true, StepDownOnRemoval: true,
		DisableProposalForwarding: true, Logger: silent{},
	})
	return n, err
}

// catch turns raft's panics, by which it says that its store is not what it
// was, into errors.
func catch(err *error) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("%w: %v", ErrBroken, p)
	}
}

// Begin is the disk of the only voter of a State.
func Begin(s State) Disk {
	index, term := s.Index, uint64(1)
	return Disk{
		Hard: &pb.HardState{Term: &term, Commit: &index},
		Snapshot: &pb.Snapshot{Data: EncodeState(s), Metadata: &pb.SnapshotMetadata{
			Index: &index, Term: &term, ConfState: &pb.ConfState{Voters: []uint64{raftID(s.Voters[0])}},
		}},
	}
}

// State is the node's own, which may be older than what is known of others.
func (n *Node) State() State { return n.state }

// IsVoter tells whether the node takes part in decisions, as far as it knows.
func (n *Node) IsVoter() bool { return slices.Contains(n.state.Voters, n.self) }

// inConf tells whether the node's vote counts, be it in a transition only.
func (n *Node) inConf() bool {
	id := raftID(n.self)
	return slices.Contains(n.conf.GetVoters(), id) || slices.Contains(n.conf.GetVotersOutgoing(), id)
}

// IsLeader tells whether the node leads, as far as it knows.
func (n *Node) IsLeader() bool { return n.rn.BasicStatus().RaftState == raft.StateLeader }

// Leader is who leads as far as the node knows; zero for nobody.
func (n *Node) Leader() ID {
	return n.known[n.rn.BasicStatus().Lead]
}

// know learns the numbers of the voters.
func (n *Node) know(s State) {
	for _, v := range s.Voters {
		n.known[raftID(v)] = v
	}
}

// patience is how long a voter waits before it stands for election. Two that
// stand together in one term are unlikely to do so again in the next, so both
// have to be mixed well: a sum would keep them together for ever.
func patience(voter, term uint64) int {
	x := voter ^ term*0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return electionTicks + int((x^x>>31)%electionTicks)
}

// isCalm tells of a leader that every voter has all that it has.
func (n *Node) isCalm() bool {
	calm := !n.Changing() && n.rn.BasicStatus().LeadTransferee == raft.None
	last, err := n.log.LastIndex()
	n.rn.WithProgress(func(_ uint64, _ raft.ProgressType, pr tracker.Progress) { calm = calm && pr.Match == last })
	return calm && err == nil
}

// Tick is a unit of time. A voter that hears of no leader for long enough, and
// soon if leaderGone, stands for election.
func (n *Node) Tick(leaderGone bool) (err error) {
	defer catch(&err)
	if n.IsLeader() {
		if n.elapsed%calmness == 0 || !n.isCalm() {
			n.rn.Tick()
		}
		if n.elapsed++; n.elapsed%(2*electionTicks) == 0 {
			n.resendSnapshots()
		}
		return nil
	}
	if !n.inConf() {
		return nil
	}
	n.elapsed++
	status := n.rn.BasicStatus()
	patience := patience(raftID(n.self), status.GetTerm())
	switch {
	case leaderGone:
		patience -= electionTicks
	case status.Lead != raft.None:
		patience *= calmness
	}
	if len(n.state.Voters) == 1 || n.elapsed >= patience {
		n.elapsed = 0
		return n.rn.Campaign()
	}
	return nil
}

// resendSnapshots has raft, which waits for an answer for ever, send those
// again that may have been lost.
func (n *Node) resendSnapshots() {
	n.rn.WithProgress(func(id uint64, _ raft.ProgressType, pr tracker.Progress) {
		if pr.State == tracker.StateSnapshot {
			n.rn.ReportSnapshot(id, raft.SnapshotFailure)
		}
	})
}

// Step takes in another voter's message.
func (n *Node) Step(from ID, m *pb.Message) (err error) {
	defer catch(&err)
	switch m.GetType() {
	case pb.MsgHup, pb.MsgBeat, pb.MsgProp, pb.MsgUnreachable, pb.MsgSnapStatus, pb.MsgCheckQuorum, pb.MsgTransferLeader,
		pb.MsgForgetLeader, pb.MsgStorageAppend, pb.MsgStorageApply, pb.MsgStorageAppendResp, pb.MsgStorageApplyResp:
		return fmt.Errorf("%w: a raft message of type %s from another peer", ErrMalformed, m.GetType())
	case pb.MsgApp, pb.MsgHeartbeat, pb.MsgSnap:
		n.elapsed = 0
	}
	if m.GetTo() != raftID(n.self) || m.GetFrom() != raftID(from) || from == n.self {
		return fmt.Errorf("%w: a raft message for another, or of another", ErrMalformed)
	}
	n.known[raftID(from)] = from
	err = n.rn.Step(m)
	if errors.Is(err, raft.ErrStepPeerNotFound) {
		return nil // an answer of a voter that was removed
	}
	return err
}

// Propose puts a command before the council. Only a leader can; the command is
// lost if it ceases to be one.
func (n *Node) Propose(c Command) (err error) {
	defer catch(&err)
	data := Encode(c)
	if c.Kind == SetVoters {
		err = n.rn.ProposeConfChange(&pb.ConfChangeV2{Changes: changes(n.state.Voters, c.Voters), Context: data})
	} else {
		err = n.rn.Propose(data)
	}
	if errors.Is(err, raft.ErrProposalDropped) {
		return nil // not the leader, or a change of voters is under way: it is put again
	}
	return err
}

// changes lead from some voters to others. Raft makes one step of a single
// change, and of several a transition in which both majorities must agree.
func changes(from, to []ID) []*pb.ConfChangeSingle {
	var out []*pb.ConfChangeSingle
	add := func(ids, others []ID, kind pb.ConfChangeType) {
		for _, id := range ids {
			if number := raftID(id); !slices.Contains(others, id) {
				out = append(out, &pb.ConfChangeSingle{Type: &kind, NodeId: &number})
			}
		}
	}
	add(to, from, pb.ConfChangeAddNode)
	add(from, to, pb.ConfChangeRemoveNode)
	return out
}

// Changing tells whether a transition from some voters to others is under way,
// in which the old ones are needed still.
func (n *Node) Changing() bool { return len(n.conf.GetVotersOutgoing()) > 0 }

// Yield asks another voter to lead in this one's place.
func (n *Node) Yield(to ID) (err error) {
	defer catch(&err)
	n.rn.TransferLeader(raftID(to))
	return nil
}

// Ready is what there is to be done since the last call.
func (n *Node) Ready() (out Output, err error) {
	defer catch(&err)
	for n.rn.HasReady() {
		rd := n.rn.Ready()
		if err := n.persist(rd, &out); err != nil {
			return Output{}, err
		}
		for _, m := range rd.Messages {
			if to, ok := n.known[m.GetTo()]; ok {
				out.Messages = append(out.Messages, Message{to, m})
			}
		}
		for _, e := range rd.CommittedEntries {
			if err := n.decide(e, &out); err != nil {
				return Output{}, err
			}
		}
		n.rn.Advance(rd)
	}
	if n.applied >= n.first+2*keptEntries {
		if err := n.compact(&out); err != nil {
			return Output{}, err
		}
	}
	return out, nil
}

// decide applies an entry of the log.
func (n *Node) decide(e *pb.Entry, out *Output) error {
	n.applied = e.GetIndex()
	data := e.GetData()
	var change pb.ConfChangeV2
	isChange := e.GetType() == pb.EntryConfChangeV2
	if isChange {
		if err := unmarshal(data, &change); err != nil {
			return err
		}
		data = change.GetContext()
	}
	var c Command
	var valid bool
	if len(data) > 0 { // else it is raft's own: a new leader's first, or the end of a transition
		var err error
		if c, err = DecodeCommand(data); err != nil {
			return err
		}
		n.state, valid = n.state.Apply(e.GetIndex(), c)
		n.know(n.state)
	}
	if isChange {
		if len(data) > 0 && !valid {
			for _, single := range change.GetChanges() {
				single.NodeId = new(uint64) // the voters stay
			}
		}
		n.log.changing = true
		n.conf = n.rn.ApplyConfChange(&change)
		n.log.changing = false
	}
	if len(data) == 0 {
		return nil
	}
	out.Decisions = append(out.Decisions, Decision{e.GetIndex(), c, n.state, valid})
	return nil
}
