package daemon

import (
	"fmt"
	"slices"
	"strings"

	"github.com/google/uuid"

	"github.com/weft-net/weft/api"
	"github.com/weft-net/weft/mesh"
)

// shortPeer is how much of a peer's id is enough to name it.
const shortPeer = 8

// nameOf is a peer's name for people: with the beginning of its id where others
// have that name, too, and its id where no name is known.
func (d *Daemon) nameOf(id uuid.UUID) string {
	if m := d.replicate.mesh.Load(); m != nil {
		return nameAmong(m.Peers(), id)
	}
	return id.String()
}

func nameAmong(peers []mesh.Peer, id uuid.UUID) string {
	i := slices.IndexFunc(peers, func(p mesh.Peer) bool { return p.ID == id })
	if i < 0 || peers[i].Record.Name == "" {
		return id.String()
	}
	name := peers[i].Record.Name
	if slices.ContainsFunc(peers, func(p mesh.Peer) bool {
		return p.ID != id && p.Record.Name == name && !p.IsOut()
	}) {
		return fmt.Sprintf("%s (%s)", name, id.String()[:shortPeer])
	}
	return name
}

func (d *Daemon) names(ids []uuid.UUID) []string {
	out := []string{}
	for _, id := range ids {
		out = append(out, d.nameOf(id))
	}
	return out
}

// findPeer finds a peer by its name, its id or the beginning of that.
func (d *Daemon) findPeer(ref string) (mesh.Peer, error) { return findAmong(d.mesh.Peers(), ref) }

func findAmong(peers []mesh.Peer, ref string) (mesh.Peer, error) {
	var found []mesh.Peer
	for _, p := range peers {
		if p.ID.String() == ref {
			return p, nil
		}
		if ref != "" && p.Record.Name == ref || len(ref) >= shortPeer && strings.HasPrefix(p.ID.String(), ref) {
			found = append(found, p)
		}
	}
	// Of several of one name those that have left or were removed are not meant.
	if len(found) > 1 {
		found = slices.DeleteFunc(found, mesh.Peer.IsOut)
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return mesh.Peer{}, &api.Error{Code: api.CodeNotFound, Message: fmt.Sprintf("no host %q is known", ref), Fix: "`weft status peers` lists names and ids"}
	}
	var which []string
	for _, p := range found {
		which = append(which, fmt.Sprintf("%s (%s, %s)", p.ID, p.Record.Name, p.State))
	}
	return mesh.Peer{}, &api.Error{Code: api.CodeConflict, Message: fmt.Sprintf("%q may be any of %d hosts: %s", ref, len(found), strings.Join(which, ", ")),
		Fix: fmt.Sprintf("give the id, or its first %d digits or more", shortPeer)}
}
