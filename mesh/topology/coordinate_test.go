package topology

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestDistanceIsTheSameBothWaysAndNeverNegative(t *testing.T) {
	draw := rapid.Custom(func(t *rapid.T) Coordinate {
		c := Coordinate(rapid.SliceOfN(rapid.Int32Range(-farthest, farthest), coordinateLen, coordinateLen).Draw(t, "coordinate"))
		c[dimensions] = max(c[dimensions], -c[dimensions])
		return c
	})
	rapid.Check(t, func(t *rapid.T) {
		a, b := draw.Draw(t, "a"), draw.Draw(t, "b")
		if d := a.distance(b); d < 0 || d != b.distance(a) {
			t.Fatalf("%v and %v", d, b.distance(a))
		}
	})
}

func TestOnlyCoordinatesThatCanBeUsedAreValid(t *testing.T) {
	for what, c := range map[string]Coordinate{
		"none": nil, "short": {1, 2, 3}, "long": make(Coordinate, 8), "far": {math.MaxInt32, 0, 0, 0, 0, 0, 0}, "below the ground": {0, 0, 0, 0, -1, 0, 0},
	} {
		if c.IsValid() {
			t.Errorf("%s is valid", what)
		}
	}
	if !at(5).IsValid() {
		t.Error("a plain one is not")
	}
}

func TestPositionsComeToTellRoundTripTimes(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	// Two sites of four hosts, 80 ms from each other.
	const hosts = 8
	real := func(a, b int) time.Duration {
		if a/4 == b/4 {
			return 2 * time.Millisecond
		}
		return 80 * time.Millisecond
	}
	now := began
	var list []*Position
	for range hosts {
		list = append(list, NewPosition(nil, now))
	}
	published := 0
	said := make([]Coordinate, hosts)
	for range 1200 {
		now = now.Add(5 * time.Second)
		for i, p := range list {
			j := rng.IntN(hosts)
			if i == j {
				continue
			}
			noise := time.Duration(rng.IntN(400)) * time.Microsecond
			p.Observe(id(j), said[j], real(i, j)+noise)
			if c := p.Publish(hosts, now); c != nil && (said[i] == nil || &c[0] != &said[i][0]) {
				said[i] = c
				published++
			}
		}
	}
	for i := range hosts {
		for j := range i {
			// What is published may be wrong by a part of the usual time.
			if d := said[i].distance(said[j]); (d > 40*time.Millisecond) != (i/4 != j/4) || d > 160*time.Millisecond {
				t.Errorf("%d and %d: %s; are %s", i, j, d, real(i, j))
			}
		}
	}
	if perHost := published / hosts; perHost > 30 {
		t.Errorf("each published %d times in 100 minutes", perHost)
	}
}

func TestPlaceIsPublishedSeldom(t *testing.T) {
	p := NewPosition(nil, began)
	if c := p.Publish(10, began.Add(time.Hour)); c != nil {
		t.Errorf("who has measured nothing is at %v", c)
	}
	for range 20 {
		p.Observe(id(1), nil, 30*time.Millisecond)
	}
	if c := p.Publish(10, began.Add(time.Second)); c != nil {
		t.Errorf("published at once: %v", c)
	}
	first := p.Publish(10, began.Add(time.Hour))
	if !first.IsValid() {
		t.Fatalf("published: %v", first)
	}
	for range 200 {
		p.Observe(id(1), at(500), 900*time.Millisecond)
	}
	if c := p.Publish(1000, began.Add(2*time.Hour)); &c[0] != &first[0] {
		t.Error("in a large mesh it is said again after an hour")
	}
	if c := p.Publish(1000, began.Add(5*time.Hour)); &c[0] == &first[0] {
		t.Error("a place that is wrong by much is never corrected")
	}
	if again := NewPosition(first, began).Publish(10, began); again == nil {
		t.Error("a new process forgets what was published")
	}
}

func TestInOneNetworkNobodySaysWhereItIs(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	now := began
	var list []*Position
	for range 20 {
		list = append(list, NewPosition(nil, now))
	}
	for range 720 {
		now = now.Add(5 * time.Second)
		for i, p := range list {
			for j := range list {
				if i != j {
					p.Observe(id(j), nil, 200*time.Microsecond+time.Duration(rng.ExpFloat64()*float64(300*time.Microsecond)))
				}
			}
			if c := p.Publish(len(list), now); c != nil {
				t.Fatalf("%d published %v", i, c)
			}
		}
	}
}
