package ipam

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/weft-net/weft/ipam/council"
)

// mostLines of a story are printed unless it is asked for by its seed: what
// matters is near the end.
const mostLines = 400

// tell repeats a schedule and prints what happened, and how it is at the end.
func tell(t *testing.T, f faults, seed uint64) {
	story := &strings.Builder{}
	w := run(f, seed, story)
	lines := strings.SplitAfter(story.String(), "\n")
	if n := len(lines); n > mostLines && *simSeed == 0 {
		lines = lines[n-mostLines:]
	}
	t.Errorf("%s, seed %d: %s\n%s%s", f.name, seed, w.fail, strings.Join(lines, ""), w.state())
}

// tell adds a line to the story.
func (w *world) tell(format string, args ...any) {
	if w.story != nil {
		fmt.Fprintf(w.story, "%4d  %s\n", w.events, fmt.Sprintf(format, args...))
	}
}

// hostNames are short, so that a line of a story is one.
const hostNames = "abcdefghijklmnopqrstuvwxyz"

func (h *host) String() string { return hostNames[h.n : h.n+1] }

// who is a member's host and life, as in b3: the third member that b was.
func (w *world) who(id ID) string {
	if id == uuid.Nil {
		return "nobody"
	}
	if name, ok := w.names[id]; ok {
		return name
	}
	return fmt.Sprintf("%x", id[:2])
}

// name gives a new member a name.
func (w *world) name(h *host) {
	if h.core == nil || h.core.self == uuid.Nil {
		return
	}
	if _, ok := w.names[h.core.self]; !ok {
		h.lives++
		w.names[h.core.self] = fmt.Sprintf("%s%d", h, h.lives)
	}
}

func (w *world) whoAll(ids []ID) string {
	var out []string
	for _, id := range ids {
		out = append(out, w.who(id))
	}
	return strings.Join(out, " ")
}

// state is how every host is, a few lines each.
func (w *world) state() string {
	var b strings.Builder
	for _, h := range w.hosts {
		c := h.core
		if c == nil {
			fmt.Fprintf(&b, "%s is down\n", h)
			continue
		}
		fmt.Fprintf(&b, "%s is %s of %s, lodged %v, left %v; domain %x, decision %d, fence %d of %d\n", h, w.who(c.self),
			w.who(c.me.Sponsor), c.lodged, h.left, c.domain[:2], c.view.Index, c.enforced, c.fence)
		fmt.Fprintf(&b, "  members %s; voters %s; sealed %s; pending %s\n", w.whoAll(c.view.Members()), w.whoAll(c.view.Voters),
			w.whoAll(sortedIDs(c.view.Sealed)), w.whoAll(c.view.Pending()))
		fmt.Fprintf(&b, "  wards %s; not admitted %s; former %s; poisoned %s; uses blocks %v\n", w.whoAll(sortedIDs(c.wards)),
			w.whoAll(sortedIDs(c.members)), w.whoAll(c.former), w.whoAll(sortedIDs(c.poisoned)), c.own)
		for _, r := range c.table {
			fmt.Fprintf(&b, "  block %d+%d: %s from %s, epoch %d.%d\n", r.First, r.Count, w.who(r.Owner), w.who(r.From), r.Epoch, r.Version)
		}
		for _, a := range sortedAddrs(c.held) {
			x := c.held[a]
			fmt.Fprintf(&b, "  %s of %s: %s token %d %s\n", a, x.owner, useNames[x.use], x.token, x.refused)
		}
		for _, l := range c.books[c.self].leases {
			fmt.Fprintf(&b, "  %s leased to %s, token %d\n", l.Addr, w.who(l.Holder), l.Token)
		}
		if c.node != nil {
			fmt.Fprintf(&b, "  votes, leader %s, decision %d, voters %s\n", w.who(c.node.Leader()), c.node.State().Index, w.whoAll(c.node.State().Voters))
		}
	}
	return b.String()
}

var useNames = map[use]string{useWanted: "wanted", useOwn: "own", useLeased: "leased"}

var kindNames = map[kind]string{kindRequest: "request", kindGrant: "grant", kindRefusal: "refusal", kindHandOver: "hand-over", kindAccepted: "accepted",
	kindOffer: "offer", kindClaim: "claim", kindLeased: "leased", kindNoLease: "no lease", kindRelease: "release", kindReleased: "released",
	kindAudit: "audit", kindPropose: "propose", kindWantAck: "want ack", kindAck: "ack", kindDigest: "digest", kindSync: "sync", kindSeen: "seen"}

// tellMsg is a message in a few words.
func (w *world) tellMsg(m *Msg) string {
	out := kindNames[m.Kind]
	if m.FromID != uuid.Nil {
		out += " by " + w.who(m.FromID)
	}
	if m.To != uuid.Nil {
		out += " to " + w.who(m.To)
	}
	if m.Addr != (netip.Addr{}) {
		out += fmt.Sprintf(" %s token %d", m.Addr, m.Token)
	}
	if m.Delta != nil && m.Kind != kindSync {
		for _, r := range m.Delta.Rows {
			out += fmt.Sprintf(" [%d+%d to %s]", r.First, r.Count, w.who(r.Owner))
		}
	}
	if m.Raft != nil {
		out += fmt.Sprintf(" %s term %d index %d commit %d reject %v", m.Raft.Raft.GetType(), m.Raft.Raft.GetTerm(), m.Raft.Raft.GetIndex(), m.Raft.Raft.GetCommit(), m.Raft.Raft.GetReject())
	}
	if m.State != nil {
		out += fmt.Sprintf(" state %d", m.State.Index)
	}
	if m.Welcome {
		out += " welcome"
	}
	if m.Command != nil {
		out += fmt.Sprintf(" please %s", w.tellCommand(*m.Command))
	}
	return out
}

// activeOn are the hosts on which an address is in use.
func (w *world) activeOn(a netip.Addr) string {
	var out []string
	for _, h := range w.hosts {
		if h.active[a] && h.core != nil {
			out = append(out, h.String()+" as "+w.who(h.core.self))
		} else if h.active[a] {
			out = append(out, h.String()+", whose daemon is down")
		}
	}
	slices.Sort(out)
	return strings.Join(out, " and ")
}

// tellNews tells what an operation changed in the council's state.
func (w *world) tellNews(h *host, e Effects) {
	if w.story == nil {
		return
	}
	if e.Gossip != nil {
		for _, d := range e.Gossip.Delta.Decisions {
			w.tell("%s: decision %d: %s", h, d.Index, w.tellCommand(d.Command))
		}
	}
	if len(e.Granted) > 0 {
		w.tell("%s: may use %v", h, e.Granted)
	}
	if len(e.Lost) > 0 {
		w.tell("%s: loses %v", h, e.Lost)
	}
	if len(e.Cut) > 0 {
		w.tell("%s: cuts %v", h, e.Cut)
	}
}

func (w *world) tellCommand(c council.Command) string {
	switch c.Kind {
	case council.Admit:
		return fmt.Sprintf("admit %s of %s", w.who(c.Member.ID()), w.who(c.Member.Sponsor))
	case council.Seal:
		return "seal " + w.who(c.ID)
	case council.SetVoters:
		return "voters are " + w.whoAll(c.Voters)
	}
	out := fmt.Sprintf("inherit, of %d", c.Estate.Base)
	for _, s := range c.Estate.Shares {
		out += fmt.Sprintf(" [%d+%d to %s]", s.First, s.Count, w.who(s.Heir))
	}
	for _, l := range c.Estate.Leases {
		out += fmt.Sprintf(" %s leased to %s", l.Addr, w.who(l.Holder))
	}
	return out
}
