package topology

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"pgregory.net/rapid"
)

func id(n int) uuid.UUID {
	return uuid.NewSHA1(uuid.NameSpaceOID, fmt.Append(nil, n))
}

// names writes a way as the numbers of its peers.
func names(path []uuid.UUID) string {
	out := ""
	for _, p := range path {
		for n := range 100 {
			if id(n) == p {
				out += fmt.Sprint(n)
			}
		}
	}
	return out
}

// at is a place on a line, in milliseconds.
func at(ms int32) Coordinate { return Coordinate{ms * 100, 0, 0, 0, 0, 0, 0} }

// mesh makes peers, each with the numbers of those that it says it does not reach.
func mesh(broken ...[]int) []Peer {
	var out []Peer
	for i, list := range broken {
		p := Peer{ID: id(i), At: at(0)}
		for _, j := range list {
			p.Broken = append(p.Broken, id(j))
		}
		out = append(out, p)
	}
	return out
}

func TestDetourTakesTheFewestRelaysThenTheLeastTime(t *testing.T) {
	near := func(list []Peer, places ...int32) []Peer {
		for i, ms := range places {
			list[i].At = at(ms)
		}
		return list
	}
	mutes := func(list []Peer, by int, who ...int) []Peer {
		for _, n := range who {
			list[by].Mute = append(list[by].Mute, id(n))
		}
		return list
	}
	shaky := func(list []Peer, by int, who ...int) []Peer {
		for _, n := range who {
			list[by].Shaky = append(list[by].Shaky, id(n))
		}
		return list
	}
	leaf := func(list []Peer, who int) []Peer {
		list[who].Leaf = true
		return list
	}
	for what, tc := range map[string]struct {
		peers []Peer
		to    int
		want  string
	}{
		"nothing is broken":                           {mesh(nil, nil, nil), 2, "direct"},
		"of others":                                   {mesh(nil, []int{2}, nil), 2, "direct"},
		"by the only other":                           {mesh([]int{2}, nil, nil), 2, "12"},
		"the other end says so":                       {mesh(nil, nil, []int{0}), 2, "12"},
		"a peer that is not there is broken":          {mesh([]int{77, 2}, nil, nil), 2, "12"},
		"the nearer relay":                            {near(mesh([]int{3}, nil, nil, nil), 0, 90, 5, 10), 3, "23"},
		"the nearer relay is not linked":              {near(mesh([]int{3}, nil, []int{3}, nil), 0, 90, 5, 10), 3, "13"},
		"two relays in a chain":                       {mesh([]int{2, 3}, []int{3}, nil, nil), 3, "123"},
		"one far relay before two near ones":          {near(mesh([]int{3, 2}, nil, nil, nil), 0, 900, 5, 10), 3, "13"},
		"nobody is linked with it":                    {mesh([]int{2}, []int{2}, nil), 2, ""},
		"a leaf relays nothing":                       {leaf(mesh([]int{2}, nil, nil), 1), 2, ""},
		"a leaf is reached":                           {leaf(mesh([]int{2}, nil, nil), 2), 2, "12"},
		"a mute relay is left for another":            {mutes(near(mesh([]int{3}, nil, nil, nil), 0, 90, 5, 10), 3, 2), 3, "13"},
		"a mute relay is left for two others":         {mutes(mesh([]int{4, 3}, nil, []int{4}, nil, nil), 0, 1), 4, "234"},
		"a mute relay is better than none":            {mutes(mesh([]int{2}, nil, nil), 0, 1), 2, "12"},
		"a mute peer is reached directly":             {mutes(mesh([]int{2}, nil, nil), 0, 1), 1, "direct"},
		"a shaky link where nobody relays":            {shaky(mesh(nil, []int{2}, nil), 0, 2), 2, "2"},
		"a relay before a shaky link":                 {shaky(mesh(nil, nil, nil), 2, 0), 2, "12"},
		"two relays before a shaky link":              {shaky(mesh([]int{2}, []int{3}, nil, nil), 0, 3), 3, "123"},
		"a shaky link of a relay where it must be":    {shaky(mesh([]int{2}, nil, nil), 2, 1), 2, "12"},
		"a shaky link before a mute relay":            {shaky(mutes(mesh(nil, nil, nil), 0, 1), 0, 2), 2, "2"},
		"one end says broken, the other shaky":        {shaky(mesh([]int{2}, nil, nil), 2, 0), 2, "12"},
		"a relay that says no place is in the middle": {near(mesh([]int{3}, nil, nil, nil), 0, 90, -1, 10), 3, "23"},
	} {
		peers := tc.peers
		for i, p := range peers {
			if p.At[0] < 0 {
				peers[i].At = nil
			}
		}
		got := "direct"
		if d, ok := Detours(id(0), peers)[id(tc.to)]; ok {
			got = names(d.Path)
		}
		if got != tc.want {
			t.Errorf("%s: %q; want %q", what, got, tc.want)
		}
	}
}

func TestTimeOfADetourIsThatOfItsLinks(t *testing.T) {
	peers := mesh([]int{2}, nil, nil)
	peers[1].At, peers[2].At = at(30), at(10)
	if d := Detours(id(0), peers)[id(2)]; d.RTT != 50*time.Millisecond {
		t.Errorf("%+v", d)
	}
}

// anyMesh draws peers with places, links that are broken as either end says, mute
// relays and leaves. Places are few, so that many ways are equally long.
func anyMesh(t *rapid.T, most int) []Peer {
	n := rapid.IntRange(2, most).Draw(t, "peers")
	density := rapid.IntRange(1, 9).Draw(t, "broken of ten")
	var out []Peer
	for i := range n {
		p := Peer{ID: id(i), At: at(rapid.Int32Range(0, 2).Draw(t, "at")), Leaf: rapid.IntRange(0, 9).Draw(t, "leaf") == 0}
		for j := range n {
			if j != i && rapid.IntRange(1, 10).Draw(t, "broken") <= density {
				p.Broken = append(p.Broken, id(j))
			} else if j != i && rapid.IntRange(1, 10).Draw(t, "shaky") <= density/2 {
				p.Shaky = append(p.Shaky, id(j))
			}
			if j != i && rapid.IntRange(0, 19).Draw(t, "mute") == 0 {
				p.Mute = append(p.Mute, id(j))
			}
		}
		out = append(out, p)
	}
	return out
}

// way is how a peer with a view sends to another; nil if it cannot.
func way(view []Peer, from, to uuid.UUID) []uuid.UUID {
	if d, ok := Detours(from, view)[to]; ok {
		return d.Path
	}
	return []uuid.UUID{to}
}

func linked(view []Peer, a, b uuid.UUID) bool {
	says := func(x, y uuid.UUID) bool {
		return slices.ContainsFunc(view, func(p Peer) bool { return p.ID == x && slices.Contains(p.Broken, y) })
	}
	return !says(a, b) && !says(b, a)
}

func shakes(view []Peer, a, b uuid.UUID) bool {
	return slices.ContainsFunc(view, func(p Peer) bool {
		return p.ID == a && slices.Contains(p.Shaky, b) || p.ID == b && slices.Contains(p.Shaky, a)
	})
}

// reaches tells whether there is any way without a leaf as a relay.
func reaches(view []Peer, from, to uuid.UUID) bool {
	seen, queue := map[uuid.UUID]bool{from: true}, []uuid.UUID{from}
	leaf := map[uuid.UUID]bool{}
	for _, p := range view {
		leaf[p.ID] = p.Leaf
	}
	for ; len(queue) > 0; queue = queue[1:] {
		at := queue[0]
		if at != from && leaf[at] {
			continue
		}
		for _, p := range view {
			if !seen[p.ID] && linked(view, at, p.ID) {
				seen[p.ID] = true
				queue = append(queue, p.ID)
			}
		}
	}
	return seen[to]
}

func TestPeersThatSeeTheSameAgreeOnEveryWay(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		view := anyMesh(t, 9)
		for _, a := range view {
			for _, b := range view {
				if a.ID == b.ID {
					continue
				}
				there, back := way(view, a.ID, b.ID), way(view, b.ID, a.ID)
				if (len(there) > 0) != reaches(view, a.ID, b.ID) {
					t.Fatalf("%s to %s: %q", names([]uuid.UUID{a.ID}), names([]uuid.UUID{b.ID}), names(there))
				}
				if len(there) == 0 {
					continue
				}
				if linked(view, a.ID, b.ID) && !shakes(view, a.ID, b.ID) && len(there) > 1 {
					t.Fatalf("%s is linked, and reached by %s", names([]uuid.UUID{b.ID}), names(there))
				}
				whole := append([]uuid.UUID{a.ID}, there...)
				home := append([]uuid.UUID{b.ID}, back...)
				slices.Reverse(home)
				if !slices.Equal(whole, home) {
					t.Fatalf("there by %s, back by %s", names(whole), names(home))
				}
				for i := range there {
					if !linked(view, whole[i], whole[i+1]) {
						t.Fatalf("%s leads over a broken link", names(whole))
					}
					if rest := way(view, there[i], b.ID); i < len(there)-1 && !slices.Equal(rest, there[i+1:]) {
						t.Fatalf("%s, but %s goes on by %s", names(whole), names(there[i:i+1]), names(rest))
					}
				}
			}
		}
	})
}

// A relay passes a packet on only if it came from where the relay itself sends
// what is for its source.
func TestNoPeerPassesAPacketOnTwiceWhateverEachBelieves(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		views := map[uuid.UUID][]Peer{}
		first := anyMesh(t, 8)
		for _, p := range first {
			view := first
			if rapid.Bool().Draw(t, "stale") {
				view = anyMesh(t, 8)
			}
			views[p.ID] = view
		}
		next := func(at, to uuid.UUID) (uuid.UUID, bool) {
			if !slices.ContainsFunc(views[at], func(p Peer) bool { return p.ID == to }) {
				return uuid.Nil, false
			}
			path := way(views[at], at, to)
			if len(path) == 0 {
				return uuid.Nil, false
			}
			return path[0], true
		}
		for _, from := range first {
			for _, to := range first {
				passed, at, came := map[uuid.UUID]bool{}, from.ID, uuid.Nil
				for at != to.ID {
					if at != from.ID {
						if expected, ok := next(at, from.ID); !ok || expected != came {
							break // dropped
						}
					}
					if passed[at] {
						t.Fatalf("from %v to %v: %v passes it on twice", from.ID, to.ID, at)
					}
					hop, ok := next(at, to.ID)
					if !ok || hop == from.ID {
						break // nobody takes what comes back to its source
					}
					passed[at], came, at = true, at, hop
				}
			}
		}
	})
}

// large is a mesh in which a few have a few broken links.
func large(n, troubled, each int) []Peer {
	out := make([]Peer, n)
	for i := range out {
		out[i] = Peer{ID: id(i), At: Coordinate{int32(i % 97 * 100), int32(i % 31 * 100), int32(i % 11), 0, 20, 0, 100}}
	}
	for i := range troubled {
		for j := range each {
			out[i].Broken = append(out[i].Broken, id((i*7+j*13+1)%n))
		}
	}
	return out
}

func BenchmarkDetours(b *testing.B) {
	for what, peers := range map[string][]Peer{
		"3000 peers, nothing broken":                large(3000, 0, 0),
		"3000 peers, 100 with 3 broken links":       large(3000, 100, 3),
		"3000 peers, one that lacks 1000":           large(3000, 1, 1000),
		"3000 peers, each of which lacks 32 others": large(3000, 3000, 32),
	} {
		b.Run(what, func(b *testing.B) {
			for b.Loop() {
				Detours(id(0), peers)
			}
		})
	}
}
