package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/weft-net/weft/api"
	"github.com/weft-net/weft/daemon"
)

func (a *app) token() *cobra.Command {
	cmd := &cobra.Command{Use: "token", Short: "The secret with which other hosts join", Args: arguments(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return usage("say what to do with it: weft token show, or weft token new")
		}}
	cmd.AddCommand(a.withOutput(&cobra.Command{
		Use:   "show",
		Short: "Print the line with which another host joins; it holds the secret",
		Example: `  weft token show
  weft token show -o json | jq -r .token`,
		Args: arguments(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			ctx, cancel := a.request()
			defer cancel()
			t, err := a.client().Token(ctx)
			if err != nil {
				return err
			}
			if a.output == "json" {
				return a.json(t)
			}
			_, err = fmt.Fprintln(a.Stdout, t.Join)
			return err
		},
	}, formatsOne))
	cmd.AddCommand(a.withOutput(&cobra.Command{
		Use:   "new",
		Short: "Make a token for hosts that are to found a mesh together",
		Example: `  weft token new > token
  weft launch --founders 192.168.1.1,192.168.1.2,192.168.1.3 --token-file token  # on each of them`,
		Args: arguments(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			t, err := daemon.NewToken()
			if err != nil {
				return err
			}
			if a.output == "json" {
				return a.json(api.Token{Token: t})
			}
			_, err = fmt.Fprintln(a.Stdout, t)
			return err
		},
	}, formatsOne))
	cmd.AddCommand(a.rotateToken())
	return cmd
}

func (a *app) rotateToken() *cobra.Command {
	var req api.RotateRequest
	var yes bool
	cmd := &cobra.Command{
		Use:   "rotate",
		Short: "Change the mesh's token while everything runs",
		Long: `Make a new token, have every host of the mesh use it, and let nobody in with the
old one any more. Traffic of containers is not touched. Hosts that do not answer
meanwhile are named: each of them needs the new token by hand, once, by weft launch
--token.

It goes on by itself if it does not get done in time. A host that is alive and cannot
take the new token holds it up; --without goes on without it.`,
		Example: `  weft token rotate
  weft token rotate --without stolen7    # see also weft rmpeer --revoke
  weft launch --token weft1-…            # on a host that was away`,
		Args: arguments(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			if !yes && terminal(a.Stdin) {
				if err := a.confirm("Change the token? Hosts that do not answer now will need it by hand."); err != nil {
					return err
				}
			}
			ctx, cancel := a.request()
			defer cancel()
			report, err := a.client().RotateToken(ctx, req)
			if err != nil {
				return err
			}
			if a.output == "json" {
				return a.json(report)
			}
			a.sayRotated(report)
			_, err = fmt.Fprintln(a.Stdout, report.Join)
			return err
		},
	}
	cmd.Flags().StringSliceVar(&req.Without, "without", nil, "`peers` that are not told, and are out of the mesh by it")
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	return a.withOutput(cmd, formatsOne)
}

func (a *app) sayRotated(r api.RotateReport) {
	a.say("every host that answers uses the new token")
	for _, name := range r.Away {
		a.say("%s did not answer: run `weft launch --token …` there, with the new one", name)
	}
}
