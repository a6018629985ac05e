package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/weft-net/weft/api"
	"github.com/weft-net/weft/internal/store"
)

// What a launch does where a daemon runs already, as users give it.
const (
	RunningFail    = "fail"
	RunningWait    = "wait"
	RunningReplace = "replace"
)

// ErrReplaced says that another daemon asked Run to end, to take its place. The
// caller is to run again with RunningWait, in a new process: it comes back if the
// other ends.
var ErrReplaced = errors.New("another daemon takes this one's place")

// replaceTime is what a daemon that is to be replaced gets to end.
const replaceTime = 10 * time.Second

// runnings are the values of WhenRunning.
var runnings = []string{"", RunningFail, RunningWait, RunningReplace}

// awaitTurn waits for a daemon that runs already, if the options say so; else it
// returns nil.
func (d *Daemon) awaitTurn(ctx context.Context) (*store.Turn, error) {
	var ask func(context.Context) error
	switch d.opts.WhenRunning {
	case RunningReplace:
		ask = d.askToStandBy
	case RunningWait:
		d.log.Info("standing by until the daemon that runs ends")
	default:
		return nil, nil
	}
	return store.AwaitTurn(ctx, d.opts.StateDir, ask)
}

// askToStandBy asks the daemon that runs for its place. One that is being
// launched, or ends, does not answer, and is asked again.
func (d *Daemon) askToStandBy(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, replaceTime)
	defer cancel()
	err := api.NewClient(d.opts.Socket).Stop(ctx, api.StopRequest{StandBy: true})
	if err == nil {
		d.log.Info("the daemon that ran before stands by")
	}
	if code := api.CodeOf(err); code == api.CodeUnavailable || code == api.CodeTimeout || ctx.Err() != nil {
		return nil
	}
	return err
}

// mayReplace tells whether this daemon was launched to be replaced.
func (d *Daemon) mayReplace() error {
	if slices.Contains([]string{RunningWait, RunningReplace}, d.opts.WhenRunning) {
		return nil
	}
	return &api.Error{Code: api.CodeConflict, Message: fmt.Sprintf("a weft daemon (pid %d) runs on this host already, and was not launched to be replaced", os.Getpid()),
		Fix: "`weft stop` on the host ends it"}
}
