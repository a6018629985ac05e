package cli

import (
	"github.com/spf13/cobra"

	"github.com/weft-net/weft/internal/wgproc"
)

// wg is the process that is WireGuard on a kernel without it. The daemon starts
// it; nobody else has to.
func (a *app) wg() *cobra.Command {
	return &cobra.Command{
		Use:                "wg",
		Short:              "Be WireGuard for the daemon, on a kernel without it",
		Hidden:             true,
		DisableFlagParsing: true, // they are the process's own
		RunE:               func(_ *cobra.Command, args []string) error { return wgproc.Main(args) },
	}
}
