package cli

import (
	"context"
	"errors"
	"time"

	"github.com/spf13/cobra"

	"github.com/weft-net/weft/api"
)

func (a *app) stop() *cobra.Command {
	return &cobra.Command{
		Use:   "stop",
		Short: "End the daemon; containers go on talking, on this host and to others",
		Long: `End the daemon. The kernel goes on forwarding, so containers notice nothing;
what changes on other hosts while it is ended is taken up at the next launch.
To take this host out of the mesh, see 'weft reset'.`,
		Example: `  weft stop && weft launch   # restart, for an upgrade`,
		Args:    arguments(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			ctx, cancel := a.request()
			defer cancel()
			if err := a.client().Stop(ctx); err != nil {
				return err
			}
			if err := a.awaitEnd(ctx); err != nil {
				return err
			}
			a.say("weft is stopped; `weft launch` starts it again")
			return nil
		},
	}
}

// awaitEnd returns once no daemon answers any more.
func (a *app) awaitEnd(ctx context.Context) error {
	for {
		var e *api.Error
		if _, err := a.client().Version(ctx); errors.As(err, &e) && e.Code == api.CodeUnavailable {
			return nil
		}
		select {
		case <-ctx.Done():
			return &api.Error{Code: api.CodeTimeout, Message: "the daemon was told to end, and still answers", Fix: "look at its log, or end it with kill"}
		case <-time.After(20 * time.Millisecond):
		}
	}
}
