package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/weft-net/weft/api"
)

func (a *app) rmpeer() *cobra.Command {
	var req api.RemoveRequest
	var yes bool
	cmd := &cobra.Command{
		Use:   "rmpeer PEER…",
		Short: "Shut hosts out of the mesh for good, and give their addresses to others",
		Long: `Shut hosts out of the mesh for good: no other host takes anything from them any
more, and their addresses are given to others as soon as every other host has
confirmed that. A host that comes back joins as a new one, and its containers get
their addresses back where nobody else has them by then; with --revoke, which gives
the mesh a new token (weft token rotate --without), it is not let in. That does for a
host that never had addresses, too, such as an observer. A host that is gone for
longer than launch's --reclaim-after is removed without this.

It takes a majority of the voters (weft status ipam). Where that is gone for good,
--force makes a mesh of the hosts that answer, without those that are named, and
without their say. Never do it on both sides of a broken network: the two meshes
would give out the same addresses, and one of them has to be reset.`,
		Example: `  weft rmpeer node7
  weft rmpeer 3f2a91c4 --timeout 5m      # by the beginning of the id
  weft rmpeer --revoke stolen7
  weft rmpeer --force --yes node1 node2  # the majority is gone for good`,
		Args:              arguments(cobra.MinimumNArgs(1)),
		ValidArgsFunction: a.completing(otherPeers),
		RunE: func(_ *cobra.Command, args []string) error {
			req.Peers = args
			if !yes && (req.Force || terminal(a.Stdin)) {
				question := "Remove " + strings.Join(args, ", ") + " from the mesh for good?"
				if req.Force {
					question = "Go on without a majority, and without " + strings.Join(args, ", ") + "? If they are alive, this makes two meshes."
				}
				if err := a.confirm(question); err != nil {
					return err
				}
			}
			ctx, cancel := a.request()
			defer cancel()
			report, err := a.client().RemovePeer(ctx, req)
			if err != nil {
				return err
			}
			if a.output == "json" {
				return a.json(report)
			}
			for _, name := range report.Removed {
				fmt.Fprintln(a.Stdout, name)
			}
			if report.Rotated != nil {
				a.sayRotated(*report.Rotated)
			}
			if len(report.Kept) > 0 {
				a.say("the mesh goes on with %s", strings.Join(report.Kept, ", "))
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&req.Revoke, "revoke", false, "change the mesh's token, too, so that they cannot come back")
	cmd.Flags().BoolVar(&req.Force, "force", false, "go on without a majority of the voters, which is gone for good")
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	return a.withOutput(cmd, formatsOne)
}

func (a *app) leave() *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use:   "leave",
		Short: "Hand everything over to the other hosts and take this one out of the mesh",
		Long: `Take this host out of the mesh in good order: detach its containers, hand its
addresses to another host, have the others stop waiting for its word, and remove
every trace of weft. It changes nothing where no other host can take over: see
'weft reset --force' for a host that has to go without the others.`,
		Example: "  weft leave --yes",
		Args:    arguments(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			if !yes {
				if err := a.confirm("Detach all containers and take this host out of the mesh?"); err != nil {
					return err
				}
			}
			ctx, cancel := a.request()
			defer cancel()
			report, err := a.client().Reset(ctx, api.ResetRequest{})
			if err != nil {
				return err
			}
			return a.printReset(report)
		},
	}
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	return a.withOutput(cmd, formatsOne)
}

func (a *app) prime() *cobra.Command {
	return a.withOutput(&cobra.Command{
		Use:   "prime",
		Short: "Wait until addresses can be given on this host",
		Long: `Wait until this host is a member of the mesh's address plan and has addresses to
give, so that the next attach does not wait for another host.`,
		Example: "  weft prime --timeout 2m && weft attach c1",
		Args:    arguments(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			ctx, cancel := a.request()
			defer cancel()
			plan, err := a.client().Prime(ctx)
			if err != nil {
				return err
			}
			if a.output == "json" {
				return a.json(plan)
			}
			a.say("%d addresses can be given without asking another host", plan.Free)
			return nil
		},
	}, formatsOne)
}
