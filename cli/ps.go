package cli

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
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
					if !slices.ContainsFunc(list, func(at api.Attachment) bool { return isCalled(at, arg) }) {
						return &api.Error{Code: api.CodeNotFound, Message: fmt.Sprintf("container %s is not attached", arg), Fix: "`weft ps` lists those that are"}
					}
				}
				list = slices.DeleteFunc(list, func(at api.Attachment) bool {
					return !slices.ContainsFunc(args, func(arg string) bool { return isCalled(at, arg) })
				})
			}
			return a.printAttachments(list)
		},
	}, formatsList)
}

// isCalled tells whether an argument means an attachment.
func isCalled(at api.Attachment, arg string) bool {
	if engine, name, ok := strings.Cut(arg, ":"); ok && at.Engine == engine {
		arg = name
	}
	return arg == at.Container || arg == at.Reference || len(arg) >= 6 && strings.HasPrefix(at.ID, arg)
}

func (a *app) printAttachments(list []api.Attachment) error {
	rows := [][]string{{"CONTAINER", "ENGINE", "ADDRESS", "INTERFACE", "MAC", "STATE", "IPV6"}}
	switch a.output {
	case "json":
		return a.json(list)
	case "name":
		for _, at := range list {
			fmt.Fprintln(a.Stdout, at.Container)
		}
		return nil
	case "wide":
		rows[0] = append(rows[0], "HOST-INTERFACE", "GATEWAY", "MTU", "NETNS", "ID", "SINCE", "SUBNETS", "PUBLISHED")
	}
	for _, at := range list {
		addrs := "-" // a stopped container's is free
		if at.Address.IsValid() {
			addrs = at.Address.String()
		}
		for _, p := range at.More {
			addrs += "," + p.String()
		}
		row := []string{at.Container, cmp.Or(at.Engine, "-"), addrs, at.Interface, cmp.Or(at.MAC, "-"), at.State, join(at.IPv6)}
		if a.output == "wide" {
			since := "-" // an address that is only reserved does not tell
			if !at.Since.IsZero() {
				since = at.Since.Local().Format(time.DateTime)
			}
			row = append(row, at.HostInterface, at.Gateway.String(), strconv.Itoa(at.MTU), at.NetNS, cmp.Or(at.ID, "-"), since, join(at.Subnets), join(at.Published))
		}
		rows = append(rows, row)
	}
	return a.table(rows)
}
