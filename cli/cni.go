package cli

import (
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/weft-net/weft/api"
	"github.com/weft-net/weft/daemon"
)

// cniFlags binds what says how weft presents itself to CNI runtimes.
func cniFlags(f *pflag.FlagSet, prefix string, s *api.CNISettings) {
	*s = api.CNISettings{BinDir: api.DefaultCNIBinDir, ConfDir: api.DefaultCNIConfDir, Name: api.DefaultCNIName}
	f.StringVar(&s.BinDir, prefix+"bin-dir", s.BinDir, "`directory` of CNI plugins")
	f.StringVar(&s.ConfDir, prefix+"conf-dir", s.ConfDir, "`directory` of CNI networks")
	f.StringVar(&s.Name, prefix+"network", s.Name, "`name` of the CNI network")
	f.StringSliceVar(&s.Chain, prefix+"chain", nil, "`plugins` that run after weft's, such as bandwidth,tuning")
}

// absolute makes the directories absolute, since the daemon works elsewhere.
func absolute(s *api.CNISettings) (err error) {
	for _, path := range []*string{&s.BinDir, &s.ConfDir} {
		if *path == "" {
			return usage("a directory for CNI is empty")
		}
		if *path, err = filepath.Abs(*path); err != nil {
			return fmt.Errorf("make the path %s absolute: %w", *path, err)
		}
	}
	return nil
}

func (a *app) cni() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "cni",
		Short: "Let Kubernetes and other CNI runtimes use weft",
		Example: `  weft cni install
  weft cni uninstall`,
	}
	cmd.AddCommand(a.cniInstall(), a.cniUninstall())
	return cmd
}

func (a *app) cniInstall() *cobra.Command {
	var settings api.CNISettings
	var req api.CNIRequest
	var pluginOnly bool
	cmd := &cobra.Command{
		Use:   "install",
		Short: "Install weft's CNI plugin and its network on this host",
		Long: `Install weft's CNI plugin and its network on this host, where runtimes look for
them, and keep them so: each launch renews them once containers can be attached,
and a reset removes them. Nobody else's files are touched. The same again, with
other flags, moves them.

--chain names plugins of containernetworking that run after weft's. Ports of the
host (hostPort of Kubernetes) weft opens itself, unless portmap is among them.

--plugin-only does a part of it without a daemon, for an init container: it copies
the plugin, if there is none, so that a runtime that knows the network already is
told what is wrong while the daemon starts.`,
		Example: `  weft cni install
  weft cni install --chain bandwidth
  weft cni install --bin-dir /usr/lib/cni      # where Debian's podman looks
  weft cni install --dry-run                   # print the network, change nothing
  weft cni install --plugin-only               # before the daemon runs`,
		Args: arguments(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			if err := absolute(&settings); err != nil {
				return err
			}
			if pluginOnly {
				written, err := daemon.InstallCNIPlugins(settings.BinDir)
				if err != nil {
					return err
				}
				return a.reportCNI(api.CNIReport{Written: written}, false)
			}
			req.Settings = &settings
			return a.changeCNI(req)
		},
	}
	cniFlags(cmd.Flags(), "", &settings)
	cmd.Flags().BoolVar(&req.DryRun, "dry-run", false, "change nothing; print the network's file and say what would be written")
	cmd.Flags().BoolVar(&pluginOnly, "plugin-only", false, "copy the plugin, where there is none, and nothing else; takes no daemon")
	for _, other := range []string{"dry-run", "conf-dir", "network", "chain"} { // of which it makes nothing
		cmd.MarkFlagsMutuallyExclusive("plugin-only", other)
	}
	return a.withOutput(cmd, formatsOne)
}

func (a *app) cniUninstall() *cobra.Command {
	var req api.CNIRequest
	cmd := &cobra.Command{
		Use:   "uninstall",
		Short: "Remove weft's CNI plugin and its network from this host",
		Long: `Remove weft's CNI plugin and its network from this host. Containers stay on the
network. Delete those that a runtime made first: without the plugin it cannot.`,
		Example: `  weft cni uninstall`,
		Args:    arguments(cobra.NoArgs),
		RunE:    func(*cobra.Command, []string) error { return a.changeCNI(req) },
	}
	cmd.Flags().BoolVar(&req.DryRun, "dry-run", false, "change nothing; say what would be removed")
	return a.withOutput(cmd, formatsOne)
}

func (a *app) changeCNI(req api.CNIRequest) error {
	ctx, cancel := a.request()
	defer cancel()
	report, err := a.client().CNI(ctx, req)
	if err != nil {
		return err
	}
	return a.reportCNI(report, req.DryRun)
}

func (a *app) reportCNI(report api.CNIReport, dryRun bool) error {
	if a.output == "json" {
		return a.json(report)
	}
	would := ""
	if dryRun {
		would = "would be "
	}
	if dryRun && report.Network != nil {
		if err := a.json(report.Network); err != nil {
			return err
		}
	}
	for _, f := range report.Removed {
		a.say("%sremoved %s", would, f)
	}
	for _, f := range report.Written {
		a.say("%swritten %s", would, f)
	}
	return nil
}
