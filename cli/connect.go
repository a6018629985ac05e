package cli

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/weft-net/weft/api"
)

func (a *app) connect() *cobra.Command {
	var req api.ConnectRequest
	cmd := &cobra.Command{
		Use:   "connect PEER…",
		Short: "Add hosts to join, for ever",
		Long: `Add hosts to join: addresses, names, multicast:, file:PATH or exec:PROGRAM, as for
launch. They
are kept, and tried again for as long as nobody answers there; weft status targets
shows them. Peers that are known are found again without this.

Exit code 4 says that one of them has not answered yet.`,
		Example: `  weft connect 192.168.1.7
  weft connect --replace seeds.example    # and forget all others
  weft connect file:/etc/weft/peers`,
		Args: arguments(cobra.MinimumNArgs(1)),
		RunE: func(_ *cobra.Command, args []string) error {
			req.Targets = args
			ctx, cancel := a.request()
			defer cancel()
			targets, err := a.client().Connect(ctx, req)
			if err != nil {
				return err
			}
			if err := a.showTargets(targets); err != nil {
				return err
			}
			if slices.ContainsFunc(targets, func(t api.Target) bool { return !t.Connected }) {
				return errDegraded
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&req.Replace, "replace", false, "forget all others")
	return a.withOutput(cmd, formatsOne)
}

func (a *app) forget() *cobra.Command {
	return a.withOutput(&cobra.Command{
		Use:   "forget PEER…",
		Short: "Take back what connect or launch --join added",
		Long: `Take hosts to join away, as weft status targets shows them. No connection ends: a
peer of the mesh stays one, and is looked for if it is lost. To shut a host out of
the mesh see weft rmpeer.`,
		Example:           "  weft forget 192.168.1.7",
		Args:              arguments(cobra.MinimumNArgs(1)),
		ValidArgsFunction: a.completing(targetNames),
		RunE: func(_ *cobra.Command, args []string) error {
			ctx, cancel := a.request()
			defer cancel()
			targets, err := a.client().Forget(ctx, api.ConnectRequest{Targets: args})
			if err != nil {
				return err
			}
			return a.showTargets(targets)
		},
	}, formatsOne)
}

func (a *app) showTargets(targets []api.Target) error {
	if a.output == "json" {
		return a.json(targets)
	}
	if len(targets) == 0 {
		a.say("there are no hosts to join; known peers are found again all the same")
		return nil
	}
	for _, t := range targets {
		switch {
		case t.Connected:
			a.say("%s: connected", t.Target)
		default:
			a.say("%s: not connected, tried again for ever: %s", t.Target, strings.Join(strings.Fields(t.LastError), " "))
		}
	}
	return nil
}
