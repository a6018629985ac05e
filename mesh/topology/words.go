package topology

import (
	"time"

	"github.com/google/uuid"
)

// Words are since when peers say of others that their link to them is broken: who
// says that knew that the other was heard. The zero value is of who has just begun
// to listen.
type Words struct{ since map[word]time.Time }

type word struct{ by, of uuid.UUID }

// Next is what follows from what the peers say now. What was said already when this
// peer began to listen is as old as may be.
func (w Words) Next(peers []Peer, now time.Time) Words {
	next := Words{map[word]time.Time{}}
	for _, p := range peers {
		for _, of := range p.Broken {
			since, said := w.since[word{p.ID, of}]
			if !said && w.since != nil {
				since = now
			}
			next.since[word{p.ID, of}] = since
		}
	}
	return next
}

// Since is when somebody said it of a peer last that had not said it before; the
// zero value if nobody has. It is later than when that peer was heard, by as long
// as it took to come here.
func (w Words) Since(of uuid.UUID) (last time.Time) {
	for said, since := range w.since {
		if said.of == of && since.After(last) {
			last = since
		}
	}
	return last
}
