package cli

import (
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/weft-net/weft/api"
)

func (a *app) ps() *cobra.Command {
	return a.withOutput(&cobra.Command{
		Use:     "ps [CONTAINER…]",
		Aliases: []string{"list"},
		Short:   "List the containers of this host that are on the network",
		Example: `  weft ps
  weft ps c1 -o json
  weft ps -o name`,
		ValidArgsFunction: a.completeAttached,
		RunE: func(_ *cobra.Command, args []string) error {
			ctx, cancel := a.request()
			defer cancel()
			list, err := a.client().Attachments(ctx)
			if err != nil {
				return err
			}
			if len(args) > 0 {
				for i, arg := range args {
					if args[i], err = containerArg(arg); err != nil {
						return err
					}
				}
				for _, arg := range args {
					if !slices.ContainsFunc(list, func(at api.Attachment) bool { return at.Container == arg }) {
						return &api.Error{Code: api.CodeNotFound, Message: fmt.Sprintf("container %s is not attached", arg), Fix: "`weft ps` lists those that are"}
					}
				}
				list = slices.DeleteFunc(list, func(at api.Attachment) bool { return !slices.Contains(args, at.Container) })
			}
			return a.printAttachments(list)
		},
	}, formatsList)
}

func (a *app) printAttachments(list []api.Attachment) error {
	rows := [][]string{{"CONTAINER", "ADDRESS", "INTERFACE", "MAC", "STATE", "IPV6"}}
	switch a.output {
	case "json":
		return a.json(list)
	case "name":
		for _, at := range list {
			fmt.Fprintln(a.Stdout, at.Container)
		}
		return nil
	case "wide":
		rows[0] = append(rows[0], "HOST-INTERFACE", "GATEWAY", "MTU", "NETNS", "SINCE")
	}
	for _, at := range list {
		addrs := at.Address.String()
		for _, p := range at.More {
			addrs += "," + p.String()
		}
		row := []string{at.Container, addrs, at.Interface, at.MAC, at.State, join(at.IPv6)}
		if a.output == "wide" {
			row = append(row, at.HostInterface, at.Gateway.String(), strconv.Itoa(at.MTU), at.NetNS, at.Since.Local().Format(time.DateTime))
		}
		rows = append(rows, row)
	}
	return a.table(rows)
}
