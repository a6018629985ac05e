package cli

import (
	"context"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/weft-net/weft/api"
)

// completionTime keeps the shell from hanging on a daemon that does not answer.
const completionTime = 500 * time.Millisecond

// completeAttached offers the containers that are on the network.
func (a *app) completeAttached(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	if fromEnvironment(cmd, a.Env) != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	ctx, cancel := context.WithTimeout(a.ctx, completionTime)
	defer cancel()
	list, err := a.client().Attachments(ctx)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var names []string
	for _, at := range list {
		names = append(names, at.Container)
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// completeNamespaces offers the named network namespaces.
func (a *app) completeNamespaces(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	entries, err := os.ReadDir("/run/netns")
	if err != nil {
		return nil, cobra.ShellCompDirectiveDefault
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names, cobra.ShellCompDirectiveDefault
}

// completing offers what the daemon's status says.
func (a *app) completing(offer func(api.Status) []string) cobra.CompletionFunc {
	return func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
		if fromEnvironment(cmd, a.Env) != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		ctx, cancel := context.WithTimeout(a.ctx, completionTime)
		defer cancel()
		s, err := a.client().Status(ctx)
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return offer(s), cobra.ShellCompDirectiveNoFileComp
	}
}

// otherPeers are the names of the other hosts, or the ids of those that share one.
func otherPeers(s api.Status) (names []string) {
	for _, p := range s.Peers {
		switch {
		case p.Self || p.IsOut():
		case unique(s, p.ID, p.Name) != p.Name:
			names = append(names, p.ID.String())
		default:
			names = append(names, p.Name)
		}
	}
	return names
}

// targetNames are the hosts to join.
func targetNames(s api.Status) (names []string) {
	for _, t := range s.Targets {
		names = append(names, t.Target)
	}
	return names
}
