package daemon

import (
	"bytes"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/weft-net/weft/encap"
	"github.com/weft-net/weft/mesh"
	"github.com/weft-net/weft/mesh/topology"
)

// relays is what this host finds out about its links, for itself and for others.
type relays struct {
	mu          sync.Mutex
	exceptions  topology.Exceptions
	words       topology.Words
	position    *topology.Position
	observed    time.Time          // when round-trip times were last taken in
	peers       int                // that there are
	hops        map[uuid.UUID]bool // by which traffic is relayed
	hurries     bool               // much may change, and others may know it
	waits       bool               // for something that comes by time alone
	untold      bool               // there are exceptions that the others have not been told
	changed     time.Time          // when the exceptions did
	compared    time.Time          // when this host last compared what it knows with another
	comparisons int                // so far
}

// startRelays takes up what an earlier process has published, so that nothing
// moves because the daemon is launched anew.
func (d *Daemon) startRelays() {
	var own mesh.Body
	for _, p := range d.mesh.Peers() {
		if p.Self {
			own = p.Record
		}
	}
	d.relays.exceptions = topology.Restore(own.Broken, own.Shaky, own.Mute, d.now())
	d.relays.position = topology.NewPosition(own.Coordinate, d.now())
}

// tellRelays adds to this host's record what it found out.
func (d *Daemon) tellRelays(body *mesh.Body) {
	r := &d.relays
	r.mu.Lock()
	defer r.mu.Unlock()
	r.untold = false
	broken, shaky, mute := r.exceptions.Broken(), r.exceptions.Shaky(), r.exceptions.Mute()
	body.Link = d.ownLink()
	setExceptions(body, broken, shaky, mute)
	body.Coordinate = r.position.Publish(r.peers, d.now())
}

// ownLink is the address by which the links of this host are probed; the zero
// value if another, that comes first, has the same.
// setExceptions puts them into a record, as far as there is room.
func setExceptions(body *mesh.Body, broken, shaky, mute []uuid.UUID) {
	most := func(list []uuid.UUID) (some, further []uuid.UUID) {
		n := min(topology.Most, len(list))
		return list[:n], list[n:]
	}
	var moreBroken, moreShaky []uuid.UUID
	body.Broken, moreBroken = most(broken)
	body.Shaky, moreShaky = most(shaky)
	body.Mute, _ = most(mute)
	n := len(moreBroken) + len(moreShaky)
	body.Leaf, body.FurtherBroken, body.FurtherShaky = n > 0, nil, nil
	if n <= topology.MostShort {
		body.FurtherBroken, body.FurtherShaky = topology.Shorten(moreBroken), topology.Shorten(moreShaky)
	}
}

// exceptionsOf are the peers to which a record says that the links are broken and
// shaky, and whether it says that it relays nothing.
func exceptionsOf(r mesh.Body, known topology.Directory) (broken, shaky []uuid.UUID, leaf bool) {
	if !hasFurther(r) {
		return r.Broken, r.Shaky, r.Leaf
	}
	return slices.Concat(r.Broken, known.Whole(r.FurtherBroken)), slices.Concat(r.Shaky, known.Whole(r.FurtherShaky)), false
}

func hasFurther(r mesh.Body) bool { return len(r.FurtherBroken)+len(r.FurtherShaky) > 0 }

// directory finds peers by what records have of their ids.
func directory(peers []mesh.Peer) topology.Directory {
	d := topology.Directory{}
	if slices.ContainsFunc(peers, func(p mesh.Peer) bool { return hasFurther(p.Record) }) {
		for _, p := range peers {
			d.Add(p.ID)
		}
	}
	return d
}

func (d *Daemon) ownLink() netip.Addr {
	own := encap.LinkAddr(d.identity.ID)
	for _, p := range d.mesh.Peers() {
		if !p.Self && p.State != mesh.StateDeparted && encap.LinkAddr(p.ID) == own && p.Record.Link == own && bytes.Compare(p.ID[:], d.identity.ID[:]) < 0 {
			return netip.Addr{}
		}
	}
	return own
}

// linkTo is the address by which the link to a peer is probed while others relay;
// the zero value if either end has none. Nobody can claim one that is not its own.
func linkTo(own netip.Addr, p mesh.Peer) netip.Addr {
	if own.IsValid() && p.Record.Link == encap.LinkAddr(p.ID) && p.Record.Link != own {
		return p.Record.Link
	}
	return netip.Addr{}
}

// vertexOf is a peer as it describes itself. What links it has cannot be told of
// one that they cannot be probed with.
func vertexOf(p mesh.Peer, link netip.Addr, known topology.Directory) topology.Peer {
	if !link.IsValid() {
		return topology.Peer{ID: p.ID, Leaf: true}
	}
	v := topology.Peer{ID: p.ID, Mute: p.Record.Mute, At: p.Record.Coordinate}
	v.Broken, v.Shaky, v.Leaf = exceptionsOf(p.Record, known)
	return v
}

// news tells whether the others have to be told of links.
func (r *relays) news() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.untold
}

// waiting tells whether something may change because time passes, and whether that
// may be soon.
func (r *relays) waiting() (waits, hurries bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.waits, r.hurries
}
