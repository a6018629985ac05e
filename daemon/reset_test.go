package daemon

import (
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weft-net/weft/api"
	"github.com/weft-net/weft/internal/nl"
)

// withDevices runs a test in a network namespace with a bridge of weft's and one of
// its tunnels.
func withDevices(t *testing.T, bridge string, fn func(conn *nl.Conn)) {
	t.Helper()
	ns, err := nl.NewNamespace()
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	err = ns.Do(func() error {
		conn, err := nl.Open()
		if err != nil {
			return err
		}
		defer conn.Close()
		for _, name := range []string{bridge, bridge + "-vx"} {
			dev, err := conn.CreateBridge(name, nil)
			if err == nil {
				err = conn.AdjustLink(dev, nl.LinkState{Alias: nl.AliasPrefix + "lost"})
			}
			if err != nil {
				return err
			}
		}
		fn(conn)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestResetWithoutAStoreRemovesWhatTheKernelHasOnlyByForce(t *testing.T) {
	withDevices(t, "wb", func(conn *nl.Conn) {
		o := Options{StateDir: filepath.Join(t.TempDir(), "gone"), Socket: filepath.Join(t.TempDir(), "weft", "weft.sock")}
		log := slog.New(slog.DiscardHandler)
		has := func(name string) bool { _, err := conn.Link(name); return err == nil }

		// Whose the bridge is nobody knows: a weft with another directory may have it.
		if r, err := Reset(t.Context(), o, log, true); err != nil || len(r.Removed) > 0 || !has("wb") {
			t.Errorf("without the bridge's name: %+v, %v; the bridge is there: %v", r, err, has("wb"))
		}
		o.Bridge = "wb"
		if _, err := Reset(t.Context(), o, log, false); api.CodeOf(err) != api.CodeConflict || !strings.Contains(err.Error(), "wb, wb-vx") || !has("wb") {
			t.Errorf("without force: %v; the bridge is there: %v", err, has("wb"))
		}
		r, err := Reset(t.Context(), o, log, true)
		if err != nil || has("wb") || has("wb-vx") || len(r.Left) != 1 || !strings.Contains(strings.Join(r.Removed, ";"), "bridge wb") {
			t.Errorf("with force: %+v, %v", r, err)
		}
		if _, err := os.Stat(o.StateDir); err == nil {
			t.Error("the state directory is there")
		}
		if r, err := Reset(t.Context(), o, log, false); err != nil || len(r.Removed) > 0 {
			t.Errorf("again: %+v, %v", r, err)
		}
	})
}

func TestLaunchNamesTheResetOfAWeftWhoseStoreIsLost(t *testing.T) {
	for _, c := range []struct{ dir, bridge, want string }{
		{DefaultStateDir, DefaultBridge, "`weft reset --force`"},
		{DefaultStateDir, "wb", "`weft reset --force --bridge wb`"},
		{"/other", DefaultBridge, "`weft reset --force --state-dir /other --bridge weft`"},
	} {
		withDevices(t, c.bridge, func(conn *nl.Conn) {
			d := &Daemon{conn: conn, opts: Options{StateDir: c.dir, HostOptions: HostOptions{Bridge: c.bridge}}}
			if err := d.checkDevices(); err == nil || !strings.Contains(err.(*api.Error).Fix, c.want+" removes it") {
				t.Errorf("%s, %s: %+v", c.dir, c.bridge, err)
			}
		})
	}
}

func TestRangeThatAnotherWeftOnThisHostHasIsRefused(t *testing.T) {
	withDevices(t, "w2", func(conn *nl.Conn) {
		dev, err := conn.Link("w2")
		if err == nil {
			err = conn.AdjustLink(dev, nl.LinkState{Alias: dev.Alias, Up: true})
		}
		if err == nil {
			err = conn.SyncRoutes([]nl.Route{{Dst: netip.MustParsePrefix("10.64.0.0/13"), Device: dev.Index}}, func(nl.Route) bool { return true })
		}
		if err != nil {
			t.Fatal(err)
		}
		for bridge, c := range map[string]struct {
			rng string
			is  bool
		}{
			DefaultBridge: {"10.64.0.0/12", true}, "wb": {"10.32.0.0/12", false}, "w2": {"10.64.0.0/12", false},
		} {
			d := &Daemon{conn: conn, opts: Options{HostOptions: HostOptions{Bridge: bridge}}}
			if err := d.checkRange(netip.MustParsePrefix(c.rng)); (err != nil) != c.is || err != nil && !strings.Contains(err.Error(), "on w2") {
				t.Errorf("%s with %s: %v", bridge, c.rng, err)
			}
		}
	})
}
