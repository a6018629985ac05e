package cli

import (
	"bufio"
	"errors"
	"log/slog"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/weft-net/weft/api"
	"github.com/weft-net/weft/daemon"
)

func (a *app) reset() *cobra.Command {
	var force, yes bool
	opts := daemon.DefaultOptions()
	cmd := &cobra.Command{
		Use:   "reset",
		Short: "Take this host out of the mesh and remove every trace of weft",
		Long: `Take this host out of the mesh: detach its containers, hand its address space
to another peer, remove every device, route, rule and file of weft, and put the
sysctls back as they were. Other hosts go on without it.`,
		Example: `  weft reset --yes
  weft reset --yes --force   # also if no other peer can take over the address space`,
		Args: arguments(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			if !yes {
				if err := a.confirm("Detach all containers and remove weft from this host?"); err != nil {
					return err
				}
			}
			ctx, cancel := a.request()
			defer cancel()
			report, err := a.client().Reset(ctx, api.ResetRequest{Force: force})
			var e *api.Error
			if errors.As(err, &e) && e.Code == api.CodeUnavailable {
				if os.Geteuid() != 0 {
					return &api.Error{Code: api.CodeForbidden, Message: e.Message + ", and removing weft without it takes root", Fix: "run it as root: sudo weft reset"}
				}
				opts.Socket = a.socket
				report, err = daemon.Reset(ctx, opts, slog.New(slog.DiscardHandler), force)
			}
			if err != nil {
				return err
			}
			return a.printReset(report)
		},
	}
	cmd.Flags().BoolVar(&force, "force", false, "go on where no peer can take over this host's address space")
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	cmd.Flags().StringVar(&opts.StateDir, "state-dir", opts.StateDir, "state `directory`, for when no daemon runs")
	cmd.Flags().StringVar(&opts.Bridge, "bridge", "", "`name` of the bridge, for when the store is lost; weft with the default state directory")
	return a.withOutput(cmd, formatsOne)
}

func (a *app) printReset(r api.ResetReport) error {
	if a.output == "json" {
		return a.json(r)
	}
	for _, what := range r.Removed {
		a.say("removed %s", what)
	}
	for _, what := range r.Left {
		a.say("left %s", what)
	}
	switch {
	case r.HandedTo != "":
		a.say("address space handed to %s", r.HandedTo)
	case len(r.Removed) == 0:
		a.say("there was nothing of weft on this host")
	}
	return nil
}

// confirm asks on a terminal, and refuses where nobody can answer.
func (a *app) confirm(question string) error {
	if !terminal(a.Stdin) {
		return &api.Error{Code: api.CodeInvalid, Message: "this cannot be undone, and there is nobody to ask", Fix: "say --yes if that is meant"}
	}
	a.say("%s [y/N] ", question)
	line, _ := bufio.NewReader(a.Stdin).ReadString('\n')
	if answer := strings.ToLower(strings.TrimSpace(line)); answer != "y" && answer != "yes" {
		return &api.Error{Code: api.CodeFailed, Message: "nothing was changed"}
	}
	return nil
}
