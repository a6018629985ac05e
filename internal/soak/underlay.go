// Package soak says what befalls a network in a long run of trouble, which of its
// hosts the network still connects, and what came of it. All of it is pure: a
// seed decides everything. Whoever runs it makes the network so, and looks.
package soak

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
)

// Underlay is which of its hosts, numbered from 0, hear which.
type Underlay struct {
	deaf [][]bool // deaf[a][b]: what a sends does not come to b
}

// NewUnderlay is one of n hosts that all hear each other.
func NewUnderlay(n int) *Underlay {
	u := &Underlay{deaf: make([][]bool, n)}
	for i := range u.deaf {
		u.deaf[i] = make([]bool, n)
	}
	return u
}

// Drops tells whether what one host sends does not come to another.
func (u *Underlay) Drops(from, to int) bool { return u.deaf[from][to] }

// Connected tells of each two hosts whether there is a path between them of links
// that pass both ways.
func (u *Underlay) Connected() [][]bool {
	part := make([]int, len(u.deaf)) // 0 is none yet
	for i := range part {
		if part[i] > 0 {
			continue
		}
		part[i] = i + 1
		for next := []int{i}; len(next) > 0; {
			a := next[0]
			next = next[1:]
			for b := range part {
				if part[b] == 0 && !u.deaf[a][b] && !u.deaf[b][a] {
					part[b] = i + 1
					next = append(next, b)
				}
			}
		}
	}
	out := make([][]bool, len(part))
	for a := range out {
		out[a] = make([]bool, len(part))
		for b := range part {
			out[a][b] = part[a] == part[b]
		}
	}
	return out
}

// Change is what befell the network.
type Change struct {
	Kind    string
	Detail  string
	Restart []int // hosts whose daemon is killed and started again
}

func (c Change) String() string { return strings.TrimSpace(c.Kind + " " + c.Detail) }

// kinds of trouble, each with how often it comes in relation to the others.
var kinds = []struct {
	name   string
	weight int
	befall func(u *Underlay, r *rand.Rand) Change
}{
	{"heal", 3, func(u *Underlay, _ *rand.Rand) Change { u.heal(); return Change{} }},
	{"cut pairs", 4, (*Underlay).cutPairs},
	{"cut one way", 2, (*Underlay).cutOneWay},
	{"split", 3, (*Underlay).split},
	{"isolate", 2, (*Underlay).isolate},
	{"bridge", 3, (*Underlay).bridge},
	{"chain", 1, (*Underlay).chain},
	{"restart", 3, (*Underlay).restart},
}

// Befall has something happen that the source of chance decides: some of it on
// top of what was, some instead.
func (u *Underlay) Befall(r *rand.Rand) Change {
	total := 0
	for _, k := range kinds {
		total += k.weight
	}
	at := r.IntN(total)
	for _, k := range kinds {
		if at -= k.weight; at < 0 {
			c := k.befall(u, r)
			c.Kind = k.name
			return c
		}
	}
	panic("weights do not sum up")
}

func (u *Underlay) heal() {
	for i := range u.deaf {
		clear(u.deaf[i])
	}
}

func (u *Underlay) cut(a, b int) { u.deaf[a][b], u.deaf[b][a] = a != b, a != b }

// two hosts that are not the same.
func (u *Underlay) two(r *rand.Rand) (a, b int) {
	p := r.Perm(len(u.deaf))
	return p[0], p[1]
}

func (u *Underlay) cutPairs(r *rand.Rand) Change {
	var said []string
	for range 1 + r.IntN(len(u.deaf)) {
		a, b := u.two(r)
		u.cut(a, b)
		said = append(said, fmt.Sprintf("%d-%d", a, b))
	}
	return Change{Detail: strings.Join(said, " ")}
}

func (u *Underlay) cutOneWay(r *rand.Rand) Change {
	var said []string
	for range 1 + r.IntN(3) {
		a, b := u.two(r)
		u.deaf[a][b] = true
		said = append(said, fmt.Sprintf("%d>%d", a, b))
	}
	return Change{Detail: strings.Join(said, " ")}
}

// split parts the hosts in two or three groups that hear nothing of each other.
func (u *Underlay) split(r *rand.Rand) Change {
	u.heal()
	groups := u.groups(r, 2+r.IntN(2))
	u.part(groups)
	return Change{Detail: fmt.Sprint(groups)}
}

// groups parts the hosts in some groups, none of them empty if there are as many.
func (u *Underlay) groups(r *rand.Rand, n int) [][]int {
	out := make([][]int, min(n, len(u.deaf)))
	for i, h := range r.Perm(len(u.deaf)) {
		g := i
		if i >= len(out) {
			g = r.IntN(len(out))
		}
		out[g] = append(out[g], h)
	}
	for _, g := range out {
		slices.Sort(g)
	}
	return out
}

func (u *Underlay) part(groups [][]int) {
	for i, g := range groups {
		for _, other := range groups[i+1:] {
			for _, a := range g {
				for _, b := range other {
					u.cut(a, b)
				}
			}
		}
	}
}

func (u *Underlay) isolate(r *rand.Rand) Change {
	h := r.IntN(len(u.deaf))
	for b := range u.deaf {
		u.cut(h, b)
	}
	return Change{Detail: fmt.Sprint(h)}
}

// bridge parts the hosts in groups of which each is joined to the next by one link
// alone.
func (u *Underlay) bridge(r *rand.Rand) Change {
	u.heal()
	groups := u.groups(r, 2+r.IntN(2))
	u.part(groups)
	said := fmt.Sprint(groups)
	for i := range len(groups) - 1 {
		a, b := groups[i][r.IntN(len(groups[i]))], groups[i+1][r.IntN(len(groups[i+1]))]
		u.deaf[a][b], u.deaf[b][a] = false, false
		said += fmt.Sprintf(" by %d-%d", a, b)
	}
	return Change{Detail: said}
}

// chain leaves a few hosts nothing but the one before and the one after; the
// rest stays with the first of them.
func (u *Underlay) chain(r *rand.Rand) Change {
	u.heal()
	order := r.Perm(len(u.deaf))
	links := order[:min(len(order), 3+r.IntN(3))]
	for i, h := range links {
		if i == 0 {
			continue
		}
		for b := range u.deaf {
			u.cut(h, b)
		}
		u.deaf[h][links[i-1]], u.deaf[links[i-1]][h] = false, false
	}
	return Change{Detail: fmt.Sprint(links)}
}

func (u *Underlay) restart(r *rand.Rand) Change {
	hosts := r.Perm(len(u.deaf))[:1+r.IntN(min(3, len(u.deaf)))]
	slices.Sort(hosts)
	return Change{Detail: fmt.Sprint(hosts), Restart: hosts}
}
