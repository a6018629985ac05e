package cli

import (
	"github.com/spf13/cobra"
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
			a.say("weft is stopped; `weft launch` starts it again")
			return nil
		},
	}
}
