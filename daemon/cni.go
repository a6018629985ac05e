package daemon

import (
	"context"
	"errors"
	"slices"

	"github.com/weft-net/weft/api"
	"github.com/weft-net/weft/internal/cnifiles"
)

// thisProgram is the program of this process, even if its file was replaced or
// is in another mount namespace.
const thisProgram = "/proc/self/exe"

// CNI makes container runtimes on this host find weft, or no longer. What it
// wrote is kept in mind, so that a reset removes it and a launch renews it.
func (d *Daemon) CNI(_ context.Context, req api.CNIRequest) (api.CNIReport, error) {
	d.cni.Lock()
	defer d.cni.Unlock()
	before, had, err := notedCNI(d.keep, d.opts)
	if err != nil {
		return api.CNIReport{}, err
	}
	if req.Settings == nil {
		return d.removeCNI(before, had, req.DryRun)
	}
	files := cniFiles(*req.Settings, d.opts)
	if err := checkCNI(files); err != nil {
		return api.CNIReport{}, err
	}
	report := api.CNIReport{Written: files.Files(), Network: files.Network()}
	if had {
		report.Removed = slices.DeleteFunc(before.Files(), func(f string) bool { return slices.Contains(report.Written, f) })
	}
	if req.DryRun {
		return report, nil
	}
	if len(report.Removed) > 0 {
		// What is in the same place under the same name is written again below.
		if _, err := before.Remove(); err != nil {
			return api.CNIReport{}, err
		}
	}
	if !d.serves.Swap(true) {
		if err := d.reconcileKernel(); err != nil {
			return api.CNIReport{}, err
		}
	}
	// Noted first: what was half written is removed by a reset, too.
	if err := files.Note(d.opts.StateDir); err != nil {
		return api.CNIReport{}, err
	}
	if err := files.Install(thisProgram); err != nil {
		return api.CNIReport{}, err
	}
	d.log.Info("CNI runtimes find weft", "network", req.Settings.Name, "files", report.Written)
	return report, nil
}

// InstallCNIPlugins copies the plugin to a directory where there is none, without
// a daemon, and returns the files that were written.
func InstallCNIPlugins(binDir string) ([]string, error) {
	return cnifiles.Config{BinDir: binDir}.InstallPlugins(thisProgram)
}

// checkCNI finds what is wrong with files before they are written.
func checkCNI(files cnifiles.Config) error {
	if err := files.Validate(); err != nil {
		return &api.Error{Code: api.CodeInvalid, Message: err.Error()}
	}
	if err := files.Check(); err != nil {
		return &api.Error{Code: api.CodeConflict, Message: oneLine(err)}
	}
	return nil
}

func (d *Daemon) removeCNI(files cnifiles.Config, had, dryRun bool) (report api.CNIReport, err error) {
	if !had {
		return report, nil
	}
	if dryRun {
		report.Removed = files.Files()
		return report, nil
	}
	if report.Removed, err = files.Remove(); err != nil {
		return report, err
	}
	d.log.Info("CNI runtimes do not find weft any more", "network", files.Name)
	return report, cnifiles.Forget(d.opts.StateDir)
}

// presentCNI renews what CNI runtimes find weft by, once it can serve them. A
// wish of this launch that cannot be met fails it.
func (d *Daemon) presentCNI(ctx context.Context) error {
	if d.opts.CNI != nil {
		_, err := d.CNI(ctx, api.CNIRequest{Settings: d.opts.CNI})
		return err
	}
	noted, ok, err := notedCNI(d.keep, d.opts)
	if err == nil && ok {
		_, err = d.CNI(ctx, api.CNIRequest{Settings: &api.CNISettings{BinDir: noted.BinDir, ConfDir: noted.ConfDir, Name: noted.Name, Chain: noted.Chain}})
	}
	d.note("cni", err)
	return nil
}

func cniFiles(s api.CNISettings, o Options) cnifiles.Config {
	c := cnifiles.Config{BinDir: s.BinDir, ConfDir: s.ConfDir, Name: s.Name, Chain: s.Chain}
	if o.Socket != api.DefaultSocket {
		c.Socket = o.Socket
	}
	if o.StateDir != DefaultStateDir {
		c.StateDir = o.StateDir
	}
	return c
}

// notedCNI is how this host presents itself to CNI runtimes; ok is false if not
// at all.
func notedCNI(k keep, o Options) (c cnifiles.Config, ok bool, err error) {
	if c, ok, err = cnifiles.Noted(o.StateDir); err != nil {
		return c, false, err
	}
	if !ok {
		s, kept, err := k.cni() // by a weft that had no note
		if err != nil || !kept {
			return c, false, err
		}
		c = cnifiles.Config{BinDir: s.BinDir, ConfDir: s.ConfDir, Name: s.Name, Chain: s.Chain}
		if err := errors.Join(c.Note(o.StateDir), k.dropCNI()); err != nil {
			return c, false, err
		}
	}
	return cniFiles(api.CNISettings{BinDir: c.BinDir, ConfDir: c.ConfDir, Name: c.Name, Chain: c.Chain}, o), true, nil
}

// eraseCNI removes what CNI runtimes find weft by.
func eraseCNI(k keep, o Options) ([]string, error) {
	files, ok, err := notedCNI(k, o)
	if err != nil || !ok {
		return nil, err
	}
	removed, err := files.Remove()
	return removed, errors.Join(err, cnifiles.Forget(o.StateDir))
}
