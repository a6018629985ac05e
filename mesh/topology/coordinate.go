package topology

import (
	"math"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/hashicorp/serf/coordinate"
)

// Coordinate is a place in a space where distances are round-trip times (Vivaldi,
// as Serf has it): the dimensions, the height and the adjustment in tens of
// microseconds, and the error in thousandths. Nil is the middle, where each peer
// begins: in one network all stay near it, and none has to say where it is.
type Coordinate []int32

const (
	dimensions = 4 // more of them tell hosts of one network little more
	// coordinateLen is the number of numbers in a coordinate.
	coordinateLen = dimensions + 3
	unit          = 10 * time.Microsecond
	// farthest bounds each number: what is more is no round-trip time.
	farthest = int32(100 * time.Second / unit)
)

var middle = make(Coordinate, coordinateLen)

// orMiddle is a place with all its numbers.
func (c Coordinate) orMiddle() Coordinate {
	if c == nil {
		return middle
	}
	return c
}

// IsValid tells whether a coordinate, of whomever, is one that can be used.
func (c Coordinate) IsValid() bool {
	return len(c) == coordinateLen && !slices.ContainsFunc(c, func(n int32) bool { return n > farthest || n < -farthest }) && c.height() >= 0
}

func (c Coordinate) height() int32     { return c[dimensions] }
func (c Coordinate) adjustment() int32 { return c[dimensions+1] }

// distance of valid places is the same on all machines: it has only whole numbers,
// and a root that every processor rounds alike.
func (c Coordinate) distance(o Coordinate) time.Duration {
	c, o = c.orMiddle(), o.orMiddle()
	var sum int64
	for i := range dimensions {
		d := int64(c[i]) - int64(o[i])
		sum += d * d
	}
	raw := int64(math.Sqrt(float64(sum))) + int64(c.height()) + int64(o.height())
	if adjusted := raw + int64(c.adjustment()) + int64(o.adjustment()); adjusted > 0 {
		raw = adjusted
	}
	return time.Duration(raw) * unit
}

// What is published is news to every peer, so a small move is none, and in a
// large mesh each may say so more seldom.
const (
	leastMove    = 2 * time.Millisecond
	leastPause   = time.Minute
	pausePerPeer = 10 * time.Second
)

// Position is where this peer is, by the round-trip times that it measures.
type Position struct {
	client *coordinate.Client
	config *coordinate.Config
	said   Coordinate
	at     time.Time     // when said was published
	usual  time.Duration // smoothed round-trip time to the others
}

// NewPosition begins with what this peer has published before, if anything.
func NewPosition(said Coordinate, now time.Time) *Position {
	p := &Position{config: coordinate.DefaultConfig(), at: now}
	p.config.Dimensionality = dimensions
	var err error
	if p.client, err = coordinate.NewClient(p.config); err != nil {
		panic(err) // of the number of dimensions alone
	}
	if said.IsValid() && p.client.SetCoordinate(p.toSerf(said)) == nil {
		p.said = said
	}
	return p
}

// Observe takes in a round-trip time to a peer at a place, which may be unknown.
func (p *Position) Observe(peer uuid.UUID, at Coordinate, rtt time.Duration) {
	if _, err := p.client.Update(peer.String(), p.toSerf(at), rtt); err != nil {
		return // it is no time that a network takes
	}
	if p.usual == 0 {
		p.usual = rtt
	}
	p.usual += (rtt - p.usual) / 16
}

// Publish is the place to be published in a mesh of so many peers: the one that
// was said before, unless it is wrong by much and not young; nil while it is near
// the middle and nothing was said.
func (p *Position) Publish(peers int, now time.Time) Coordinate {
	pause := max(leastPause, time.Duration(peers)*pausePerPeer)
	if p.said == nil {
		pause = leastPause
	}
	is := p.fromSerf(p.client.GetCoordinate())
	if p.usual == 0 || now.Sub(p.at) < pause || is.moved(p.said) < max(leastMove, p.usual/4) {
		return p.said
	}
	p.said, p.at = is, now
	return p.said
}

// moved is how far two places are from each other, whatever the heights.
func (c Coordinate) moved(o Coordinate) time.Duration {
	c, o = c.orMiddle(), o.orMiddle()
	var sum float64
	for i := range dimensions + 2 {
		sum += math.Pow(float64(c[i]-o[i]), 2)
	}
	return time.Duration(math.Sqrt(sum)) * unit
}

func (p *Position) toSerf(c Coordinate) *coordinate.Coordinate {
	out := coordinate.NewCoordinate(p.config)
	if !c.IsValid() {
		return out // as uncertain as can be
	}
	for i := range dimensions {
		out.Vec[i] = seconds(c[i])
	}
	out.Height, out.Adjustment = max(p.config.HeightMin, seconds(c.height())), seconds(c.adjustment())
	out.Error = min(float64(c[dimensions+2])/1000, p.config.VivaldiErrorMax)
	return out
}

func (p *Position) fromSerf(s *coordinate.Coordinate) Coordinate {
	var c Coordinate
	for _, f := range append(slices.Clone(s.Vec), s.Height, s.Adjustment) {
		c = append(c, bounded(f/unit.Seconds()))
	}
	return append(c, bounded(s.Error*1000))
}

func seconds(n int32) float64 { return float64(n) * unit.Seconds() }

func bounded(f float64) int32 {
	return int32(math.Round(min(max(f, -float64(farthest)), float64(farthest))))
}
