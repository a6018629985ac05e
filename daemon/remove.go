package daemon

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

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
	switch {
	case req.Force:
		report, err := d.forceWithout(gone, report)
		if err != nil || !req.Revoke {
			return report, err
		}
		if report.Rotated, err = d.revoke(ctx, gone); err != nil {
			return report, d.having(ctx, "the mesh goes on without "+strings.Join(report.Removed, ", "), err)
		}
		return report, nil
	case req.Revoke:
		return d.removeAndRevoke(ctx, gone, report)
	}
	if err := d.plan.Remove(ctx, gone...); err != nil {
		return report, d.explainRemove(err, report)
	}
	d.log.Info("hosts removed", "peers", report.Removed)
	return report, nil
}

func (d *Daemon) explainRemove(err error, report api.RemoveReport) error {
	if errors.Is(err, ipam.ErrUnknownPeer) {
		return &api.Error{Code: api.CodeConflict, Message: "of " + strings.Join(report.Removed, ", ") + " not all are members of the address plan: one that never was has nothing to be given away",
			Fix: "name only those that `weft status ipam` lists; others are forgotten by themselves when they are silent for long, and `weft rmpeer --revoke` keeps them out"}
	}
	return d.explain(err)
}

// shutTime is how long a revocation waits for hosts to be shut out of the address plan
// while they are still heard.
const shutTime = 5 * time.Second

// removeAndRevoke removes hosts and keeps the new token from them. They are shut out of
// the plan first, since it may take the vote of one that is not heard any more later,
// but none keeps its token for longer because of that. One that has nothing in the plan
// is only revoked.
func (d *Daemon) removeAndRevoke(ctx context.Context, gone []uuid.UUID, report api.RemoveReport) (api.RemoveReport, error) {
	var members []uuid.UUID
	for _, id := range gone {
		if d.plan.Knows(id) {
			members = append(members, id)
		}
	}
	soon, cancel := context.WithTimeout(ctx, shutTime)
	err := d.plan.ShutOut(soon, members...)
	cancel()
	if err != nil {
		d.log.Warn("the token is changed before the hosts are shut out of the address plan", "err", err)
	}
	names := strings.Join(report.Removed, ", ")
	done := ""
	if err == nil && len(members) > 0 {
		done = "the address plan goes on without " + strings.Join(d.names(members), ", ")
	}
	if report.Rotated, err = d.revoke(ctx, gone); err != nil {
		return report, d.having(ctx, done, err)
	}
	// Again for one that has come back as a new member before it had to go.
	if err := d.plan.Remove(ctx, members...); err != nil {
		done = "the token is another, and it is kept from " + names
		if away := report.Rotated.Away; len(away) > 0 {
			done += "; these did not answer and need the new one by hand: " + strings.Join(away, ", ")
		}
		return report, d.having(ctx, done, d.explainRemove(err, report))
	}
	d.log.Info("hosts removed", "peers", report.Removed)
	return report, nil
}

func (d *Daemon) revoke(ctx context.Context, gone []uuid.UUID) (*api.RotateReport, error) {
	rotated, err := d.rotateWithout(ctx, gone)
	if err != nil {
		return nil, err
	}
	return &rotated, nil
}

// having is an error with what was done before it.
func (d *Daemon) having(ctx context.Context, done string, err error) error {
	e := *asAPIError(ctx, d.explain(err))
	if done != "" {
		e.Message = done + "; " + e.Message
	}
	return &e
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
