package cli

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/spf13/cobra"

	"github.com/weft-net/weft/api"
)

func (a *app) expose() *cobra.Command {
	return a.exposure(&cobra.Command{
		Use:   "expose [ADDRESS[/LENGTH] | SUBNET]",
		Short: "Give this host an address on the network, and print it",
		Long: `Give this host an address of its own on the network, by which containers on
every host reach what listens here, and print it. An address in a subnet is
reached by the containers in that subnet. The same again changes nothing.`,
		Example: `  weft expose
  weft expose 10.32.0.80
  weft expose 10.40.1.0/24       # any address in that subnet
  weft expose 10.40.1.80/24      # this one`,
	}, (*api.Client).Expose)
}

func (a *app) hide() *cobra.Command {
	return a.exposure(&cobra.Command{
		Use:   "hide [ADDRESS]",
		Short: "Take addresses that expose gave off this host",
		Example: `  weft hide              # all of them
  weft hide 10.32.0.80   # this one; prints what is left`,
	}, (*api.Client).Hide)
}

func (a *app) exposure(cmd *cobra.Command, ask func(*api.Client, context.Context, api.ExposeRequest) (api.Exposure, error)) *cobra.Command {
	cmd.Args = arguments(cobra.MaximumNArgs(1))
	cmd.RunE = func(_ *cobra.Command, args []string) (err error) {
		var req api.ExposeRequest
		ctx, cancel := a.request()
		defer cancel()
		if req.Address, req.Subnet, err = a.address(ctx, args); err != nil {
			return err
		}
		if req.Subnet.IsValid() && req.Address == req.Subnet.Addr() {
			req.Address = netip.Addr{} // the subnet itself
		}
		got, err := ask(a.client(), ctx, req)
		if err != nil {
			return err
		}
		if a.output == "json" {
			return a.json(got)
		}
		for _, p := range got.Addresses {
			fmt.Fprintln(a.Stdout, p.Addr())
		}
		return nil
	}
	return a.withOutput(cmd, formatsOne)
}
