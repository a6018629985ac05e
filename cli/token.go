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
	return cmd
}
