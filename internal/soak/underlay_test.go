package soak

import (
	"math/rand/v2"
	"reflect"
	"testing"

	"pgregory.net/rapid"
)

// after is an underlay to which so many things have happened.
func after(seed uint64, hosts, steps int) (*Underlay, []Change) {
	r := rand.New(rand.NewPCG(seed, 0))
	u := NewUnderlay(hosts)
	var changes []Change
	for range steps {
		changes = append(changes, u.Befall(r))
	}
	return u, changes
}

func TestSeedDecidesEverything(t *testing.T) {
	a, first := after(7, 12, 200)
	b, again := after(7, 12, 200)
	if !reflect.DeepEqual(a, b) || !reflect.DeepEqual(first, again) {
		t.Error("the same seed led elsewhere")
	}
	seen := map[string]bool{}
	for _, c := range first {
		seen[c.Kind] = true
	}
	if len(seen) != len(kinds) {
		t.Errorf("of %d kinds of trouble only %v came in 200 steps", len(kinds), seen)
	}
}

// Two hosts are connected if they hear each other, or both are connected to a
// third one; and in no other case.
func TestConnectedIsWhatLinksThatPassBothWaysReach(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(2, 9).Draw(t, "hosts")
		u, _ := after(rapid.Uint64().Draw(t, "seed"), n, rapid.IntRange(0, 12).Draw(t, "steps"))
		reach := make([][]bool, n)
		for a := range n {
			reach[a] = make([]bool, n)
			for b := range n {
				reach[a][b] = a == b || !u.Drops(a, b) && !u.Drops(b, a)
			}
		}
		for via := range n {
			for a := range n {
				for b := range n {
					reach[a][b] = reach[a][b] || reach[a][via] && reach[via][b]
				}
			}
		}
		if got := u.Connected(); !reflect.DeepEqual(got, reach) {
			t.Fatalf("connected: %v; want %v", got, reach)
		}
	})
}

func TestShapesAreWhatTheirNamesSay(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	parts := func(u *Underlay) int {
		seen, c := 0, u.Connected()
		for a := range c {
			first := true
			for b := range a {
				first = first && !c[a][b]
			}
			if first {
				seen++
			}
		}
		return seen
	}
	links := func(u *Underlay, a int) (n int) {
		for b := range u.deaf {
			if b != a && !u.Drops(a, b) {
				n++
			}
		}
		return n
	}
	for range 100 {
		for name, want := range map[string][2]int{"split": {2, 3}, "bridge": {1, 1}, "chain": {1, 1}, "isolate": {2, 2}} {
			u := NewUnderlay(8)
			for _, k := range kinds {
				if k.name == name {
					k.befall(u, r)
				}
			}
			if n := parts(u); n < want[0] || n > want[1] {
				t.Fatalf("%s leaves %d parts", name, n)
			}
		}
		u := NewUnderlay(8)
		c := u.cutOneWay(r)
		if n := parts(u); n != 1 {
			t.Fatalf("%s of eight leaves %d parts", c.Detail, n)
		}
		u.chain(r)
		if ends := func() (n int) {
			for a := range 8 {
				if links(u, a) == 1 {
					n++
				}
			}
			return n
		}(); ends < 1 {
			t.Fatal("a chain without an end")
		}
	}
}
