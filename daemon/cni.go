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
	old, had, err := d.keep.cni()
	if err != nil {
		return api.CNIReport{}, err
	}
	if req.Settings == nil {
		return d.removeCNI(old, had, req.DryRun)
	}
	files := cniFiles(*req.Settings, d.opts)
	if err := checkCNI(files); err != nil {
		return api.CNIReport{}, err
	}
	report := api.CNIReport{Written: files.Files(), Network: files.Network()}
	if before := cniFiles(old, d.opts); had {
		report.Removed = slices.DeleteFunc(before.Files(), func(f string) bool { return slices.Contains(report.Written, f) })
	}
	if req.DryRun {
		return report, nil
	}
	if len(report.Removed) > 0 {
		// What is in the same place under the same name is written again below.
		if _, err := cniFiles(old, d.opts).Remove(); err != nil {
			return api.CNIReport{}, err
		}
	}
	// Kept first: what was half written is removed by a reset, too.
	if err := d.keep.saveCNI(req.Settings); err != nil {
		return api.CNIReport{}, err
	}
	if err := files.Install(thisProgram); err != nil {
		return api.CNIReport{}, err
	}
	d.log.Info("CNI runtimes find weft", "network", req.Settings.Name, "files", report.Written)
	return report, nil
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

func (d *Daemon) removeCNI(s api.CNISettings, had, dryRun bool) (report api.CNIReport, err error) {
	if !had {
		return report, nil
	}
	files := cniFiles(s, d.opts)
	if dryRun {
		report.Removed = files.Files()
		return report, nil
	}
	if report.Removed, err = files.Remove(); err != nil {
		return report, err
	}
	d.log.Info("CNI runtimes do not find weft any more", "network", s.Name)
	return report, d.keep.saveCNI(nil)
}

// presentCNI renews what CNI runtimes find weft by, once it can serve them. A
// wish of this launch that cannot be met fails it.
func (d *Daemon) presentCNI(ctx context.Context) error {
	if d.opts.CNI != nil {
		_, err := d.CNI(ctx, api.CNIRequest{Settings: d.opts.CNI})
		return err
	}
	kept, ok, err := d.keep.cni()
	if err == nil && ok {
		_, err = d.CNI(ctx, api.CNIRequest{Settings: &kept})
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

// eraseCNI removes what CNI runtimes find weft by.
func eraseCNI(k keep, o Options) ([]string, error) {
	s, ok, err := k.cni()
	if err != nil || !ok {
		return nil, err
	}
	removed, err := cniFiles(s, o).Remove()
	return removed, errors.Join(err, k.saveCNI(nil))
}
