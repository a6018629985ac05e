package daemon

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/weft-net/weft/api"
	"github.com/weft-net/weft/mesh"
)

// greetAgain is the pause between two rounds of greetings.
const greetAgain = time.Second

// foundOrJoin is how a new host begins that was given a list of founders, which
// may be the same on every host of the mesh. A mesh that answers is joined, by
// whomever: so a founder that lost its state, or a list that grew, makes no second
// mesh. If nobody answers, a host on the list founds together with the others on
// it, and one that is not waits for them.
func (d *Daemon) foundOrJoin(ctx context.Context, p *peerState) (err error) {
	founders, err := foundersOf(d.opts.Founders, d.opts.Port)
	if err != nil {
		return err
	}
	if p.token, err = parseToken(d.opts.Token); err != nil {
		return err
	}
	others := slices.DeleteFunc(slices.Clone(founders), d.isAt)
	p.targets = slices.Concat(others, d.opts.Join)
	waiting := ""
	for {
		welcome, err := d.greet(ctx, p, p.targets)
		switch {
		case err == nil && len(p.targets) > 0:
			return d.takeSettings(p, welcome)
		case isRefused(err):
			return d.explain(err)
		case len(others) < len(founders):
			return d.decideSettings(p, founders)
		}
		if now := oneLine(err); now != waiting {
			waiting = now
			d.log.Info("waiting for a founder to answer", "err", now)
		}
		select {
		case <-ctx.Done():
			return &api.Error{Code: api.CodeTimeout, Message: "this host, which is " + d.gossipAt().String() + ", is none of the founders, and none of them answers: " + oneLine(err),
				Fix: "start weft on them; or name this host, too, if it is to found the mesh with them: --advertise says which of its addresses counts"}
		case <-time.After(greetAgain):
		}
	}
}

// isRefused tells whether a host answered and does not let us in: waiting does
// not change that.
func isRefused(err error) bool {
	var refused *mesh.RefusedError
	return errors.As(err, &refused)
}
