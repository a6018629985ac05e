package daemon

import (
	"bytes"
	"net/netip"
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
	most := func(list []uuid.UUID) []uuid.UUID { return list[:min(topology.Most, len(list))] }
	body.Broken, body.Shaky, body.Mute = most(broken), most(shaky), most(mute)
	body.Leaf = len(broken) > topology.Most || len(shaky) > topology.Most
	body.Coordinate = r.position.Publish(r.peers, d.now())
}

// ownLink is the address by which the links of this host are probed; the zero
// value if another, that comes first, has the same.
func (d *Daemon) ownLink() netip.Addr {
	own := encap.LinkAddr(d.identity.ID)
	for _, p := range d.mesh.Peers() {
		if !p.Self && p.State != mesh.StateDeparted && p.Record.Link == own && bytes.Compare(p.ID[:], d.identity.ID[:]) < 0 {
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
func vertexOf(p mesh.Peer, link netip.Addr) topology.Peer {
	if !link.IsValid() {
		return topology.Peer{ID: p.ID, Leaf: true}
	}
	return topology.Peer{ID: p.ID, Broken: p.Record.Broken, Shaky: p.Record.Shaky, Mute: p.Record.Mute, Leaf: p.Record.Leaf, At: p.Record.Coordinate}
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
