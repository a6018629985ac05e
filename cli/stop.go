package cli

import (
	"os"

	"github.com/spf13/cobra"

	"github.com/weft-net/weft/api"
	"github.com/weft-net/weft/daemon"
)

func (a *app) stop() *cobra.Command {
	var all bool
	opts := daemon.DefaultOptions()
	cmd := &cobra.Command{
		Use:   "stop",
		Short: "End the daemon; containers go on talking, on this host and to others",
		Long: `End the daemon. Packets are forwarded without it, so containers notice nothing;
what changes on other hosts while it is ended is taken up at the next launch.

Where the kernel has no WireGuard, a process that carries the packets to other
hosts goes on as well. With --all it is ended, too, and containers reach those of
other hosts again only after the next launch.
To take this host out of the mesh, see 'weft reset'.`,
		Example: `  weft stop && weft launch         # restart, for an upgrade
  weft stop --all && weft launch   # restart the process of userspace WireGuard, too`,
		Args: arguments(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			ctx, cancel := a.request()
			defer cancel()
			err := a.client().Stop(ctx, api.StopRequest{All: all})
			if all && api.CodeOf(err) == api.CodeUnavailable && os.Geteuid() == 0 {
				if ended, e := daemon.StopAll(opts); e != nil || ended {
					err = e
				}
			}
			if err != nil {
				return err
			}
			a.say("weft is stopped; `weft launch` starts it again")
			return nil
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "end the process of userspace WireGuard, too, and with it traffic to other hosts")
	cmd.Flags().StringVar(&opts.StateDir, "state-dir", opts.StateDir, "state `directory`, for --all when no daemon runs")
	return cmd
}
