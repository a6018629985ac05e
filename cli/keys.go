package cli

import (
	"github.com/spf13/cobra"
)

func (a *app) keys() *cobra.Command {
	cmd := &cobra.Command{Use: "keys", Short: "The keys by which traffic between hosts is encrypted", Args: arguments(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			return usage("say what to do with them: weft keys rotate")
		}}
	cmd.AddCommand(a.withOutput(&cobra.Command{
		Use:   "rotate",
		Short: "Change the WireGuard keys of every host while traffic runs",
		Long: `Have every host of the mesh make a new key of WireGuard, move all traffic to the
new keys, and erase the old ones. No packet is lost. Hosts that do not answer are
named: they follow when they do.

It goes on by itself if it does not get done in time: an old key stays for as long
as another host needs it, and weft status says which. weft launch --rotate-keys has
it done again and again.`,
		Example: `  weft keys rotate
  weft keys rotate -o json | jq .epoch
  weft launch --rotate-keys 720h    # every 30 days`,
		Args: arguments(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			ctx, cancel := a.request()
			defer cancel()
			report, err := a.client().RotateKeys(ctx)
			if err != nil {
				return err
			}
			if a.output == "json" {
				return a.json(report)
			}
			a.say("every host that answers uses new keys (epoch %d), and the old ones are gone", report.Epoch)
			for _, name := range report.Away {
				a.say("%s did not answer: it follows when it does", name)
			}
			return nil
		},
	}, formatsOne))
	return cmd
}
