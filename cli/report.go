package cli

import (
	"time"

	"github.com/spf13/cobra"

	"github.com/weft-net/weft/api"
)

func (a *app) report() *cobra.Command {
	return &cobra.Command{
		Use:   "report",
		Short: "Print everything that this host's daemon knows, as JSON",
		Long: `Print everything that this host's daemon knows of itself, of the mesh and of the
containers here, as JSON: for those who look into what is wrong. There is no token
and no key in it but public ones.`,
		Example: `  weft report > report.json
  weft report | jq -r .graph | dot -Tsvg > mesh.svg`,
		Args: arguments(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			ctx, cancel := a.request()
			defer cancel()
			r := api.Report{Taken: time.Now()}
			var err error
			if r.Status, err = a.client().Status(ctx); err != nil {
				return err
			}
			if r.Attachments, err = a.client().Attachments(ctx); err != nil {
				return err
			}
			r.Graph = dot(r.Status)
			return a.json(r)
		},
	}
}
