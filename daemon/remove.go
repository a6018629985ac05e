package daemon

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/google/uuid"

	"github.com/weft-net/weft/api"
	"github.com/weft-net/weft/ipam"
)

// RemovePeer shuts another host out of the mesh for good and gives its addresses
// to the others. If it comes back it is a new member, and its containers get
// their addresses back where nobody has them.
func (d *Daemon) RemovePeer(ctx context.Context, req api.RemoveRequest) (api.RemoveReport, error) {
	var report api.RemoveReport
	var gone []uuid.UUID
	for _, ref := range req.Peers {
		p, err := d.findPeer(ref)
		if err != nil {
			return report, err
		}
		if p.Self {
			return report, &api.Error{Code: api.CodeInvalid, Message: "this host cannot remove itself", Fix: "`weft leave` takes it out of the mesh"}
		}
		if slices.Contains(gone, p.ID) {
			continue
		}
		gone = append(gone, p.ID)
		report.Removed = append(report.Removed, d.nameOf(p.ID))
	}
	if req.Revoke {
		rotated, err := d.rotateWithout(ctx, gone)
		if err != nil {
			return report, err
		}
		report.Rotated = &rotated
	}
	if req.Force {
		return d.forceWithout(gone, report)
	}
	err := d.plan.Remove(ctx, gone...)
	if errors.Is(err, ipam.ErrUnknownPeer) {
		err = &api.Error{Code: api.CodeConflict, Message: "of " + strings.Join(report.Removed, ", ") + " not all are members of the address plan: one that never was has nothing to be given away",
			Fix: "name only those that `weft status ipam` lists"}
	}
	if err != nil {
		return report, d.explain(err)
	}
	d.log.Info("hosts removed", "peers", report.Removed)
	return report, nil
}

// forceWithout goes on without a majority of the voters. Every host that does
// not answer has to be named, so that none is lost by an oversight.
func (d *Daemon) forceWithout(gone []uuid.UUID, report api.RemoveReport) (api.RemoveReport, error) {
	members := map[uuid.UUID]bool{}
	for _, s := range d.plan.Status().Members {
		if !s.Sealed && s.Peer != uuid.Nil {
			members[s.Peer] = true
		}
	}
	live := d.replicate.Live()
	var keep []uuid.UUID
	var silent []string
	for id := range members {
		_, answers := live[id]
		switch {
		case slices.Contains(gone, id):
		case id == d.identity.ID || answers:
			keep = append(keep, id)
			report.Kept = append(report.Kept, d.nameOf(id))
		default:
			silent = append(silent, d.nameOf(id))
		}
	}
	slices.Sort(report.Kept)
	if len(silent) > 0 {
		slices.Sort(silent)
		return report, &api.Error{Code: api.CodeConflict, Message: "these hosts do not answer either: " + strings.Join(silent, ", "),
			Fix: "name them too if they are gone for good, or start them"}
	}
	voters, answer := d.plan.Status().Voters, 0
	for _, v := range voters {
		if _, ok := live[v]; ok || v == d.identity.ID {
			answer++
		}
	}
	if 2*answer > len(voters) {
		return report, &api.Error{Code: api.CodeConflict, Message: "a majority of the voters answers, and can remove hosts without force",
			Fix: "leave out --force; of voters that were lost just now `weft status peers` says so within seconds"}
	}
	if err := d.plan.Force(keep); err != nil {
		return report, d.explain(err)
	}
	d.log.Warn("the mesh goes on without a majority of its voters", "kept", report.Kept, "removed", report.Removed)
	return report, nil
}

// Prime waits until addresses can be given here.
func (d *Daemon) Prime(ctx context.Context) (api.IPAM, error) {
	if err := d.plan.Prime(ctx); err != nil {
		return api.IPAM{}, d.explain(err)
	}
	return d.ipamStatus(), nil
}
