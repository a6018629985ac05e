package cli

import (
	"errors"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/weft-net/weft/api"
	"github.com/weft-net/weft/daemon"
)

type versions struct {
	Client api.Version  `json:"client"`
	Daemon *api.Version `json:"daemon,omitempty"`
}

func (a *app) version() *cobra.Command {
	return a.withOutput(&cobra.Command{
		Use:     "version",
		Short:   "Print the version of this program, and of the daemon if one runs",
		Example: "  weft version -o json",
		Args:    arguments(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			v := versions{Client: daemon.Version()}
			ctx, cancel := a.request()
			defer cancel()
			d, err := a.client().Version(ctx)
			if err == nil {
				v.Daemon = &d
			}
			if c := api.CodeOf(err); c == api.CodeUnavailable || c == api.CodeForbidden {
				err = nil // there is no daemon to tell the version of, or it is not for this user
			}
			if v.Daemon != nil && (v.Daemon.Software != v.Client.Software || v.Daemon.Protocol != v.Client.Protocol) {
				a.say("weft: the daemon is of another version than this program: `weft stop && weft launch` upgrades it, and no container notices")
			}
			if a.output == "json" {
				return errors.Join(a.json(v), err)
			}
			rows := [][]string{{"", "SOFTWARE", "PROTOCOL"}, {"client", v.Client.Software, strconv.Itoa(v.Client.Protocol)}}
			if v.Daemon != nil {
				rows = append(rows, []string{"daemon", v.Daemon.Software, strconv.Itoa(v.Daemon.Protocol)})
			}
			return errors.Join(a.table(rows), err)
		},
	}, formatsOne)
}
