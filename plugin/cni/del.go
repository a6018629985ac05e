package cni

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"time"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"

	"github.com/weft-net/weft/api"
	"github.com/weft-net/weft/internal/journal"
)

// retry is the pause between two attempts to reach a daemon that is there and
// does not answer yet, or does not any more.
const retry = 50 * time.Millisecond

func del(args *skel.CmdArgs) error {
	n, err := readNetwork(args.StdinData)
	if err != nil {
		return err
	}
	return n.detach(args)
}

// detach succeeds when nothing of the endpoint is left, or when a daemon that
// does not run now will see to that at its next start. A daemon that runs holds
// the journal, so that one of the two works.
func (n *network) detach(args *skel.CmdArgs) error {
	ctx, cancel := n.deadline(timeout)
	defer cancel()
	req := api.DetachRequest{Endpoint: n.endpoint(args)}
	var before error
	for {
		_, err := n.client().Detach(ctx, req)
		if err != nil && ctx.Err() != nil && before != nil {
			return explain(before) // which tells more than that time ran out
		}
		if err == nil || api.CodeOf(err) != api.CodeUnavailable {
			return explain(err)
		}
		before = err
		switch later := leaveForLater(n.own.StateDir, req); {
		case later == nil, errors.Is(later, journal.ErrNoState):
			return nil
		case !errors.Is(later, journal.ErrBusy):
			return types.NewError(types.ErrIOFailure, later.Error(), "no daemon runs, and what is to be detached cannot be written down: give the state directory of the daemon as stateDir")
		}
		if !pause(ctx) {
			return explain(err)
		}
	}
}

func pause(ctx context.Context) bool {
	select {
	case <-time.After(retry):
		return true
	case <-ctx.Done():
		return false
	}
}

// leaveForLater writes a detach down for the daemon's next start.
func leaveForLater(stateDir string, req api.DetachRequest) error {
	b, err := json.Marshal(req)
	if err != nil {
		return err
	}
	key := sha256.Sum256([]byte(req.Endpoint.String()))
	return journal.Add(stateDir, hex.EncodeToString(key[:]), b)
}
