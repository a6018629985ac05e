package cnifiles

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func fixture(t *testing.T) (Config, string) {
	t.Helper()
	dir := t.TempDir()
	program := filepath.Join(dir, "weft")
	if err := os.WriteFile(program, bytes.Repeat([]byte("program "), 40_000), 0o700); err != nil {
		t.Fatal(err)
	}
	return Config{BinDir: filepath.Join(dir, "bin"), ConfDir: filepath.Join(dir, "net.d"), Name: "weft"}, program
}

func TestInstallWritesPluginsAndNetworkAndRemoveTakesThemAway(t *testing.T) {
	c, program := fixture(t)
	for range 2 {
		if err := c.Install(program); err != nil {
			t.Fatal(err)
		}
	}
	want, _ := os.ReadFile(program)
	for _, path := range c.Files()[:2] {
		got, err := os.ReadFile(path)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %d bytes, %v", path, len(got), err)
		}
		if st, err := os.Lstat(path); err != nil || st.Mode() != 0o755 {
			t.Errorf("%s has mode %s", path, st.Mode())
		}
	}
	for _, dir := range []string{c.BinDir, c.ConfDir} {
		if left, _ := filepath.Glob(filepath.Join(dir, ".*")); len(left) > 0 {
			t.Errorf("left: %v", left)
		}
	}
	removed, err := c.Remove()
	if err != nil || len(removed) != 3 || !strings.HasSuffix(removed[0], ".conflist") {
		t.Errorf("removed: %v, %v", removed, err)
	}
	if removed, err = c.Remove(); err != nil || len(removed) != 0 {
		t.Errorf("removed again: %v, %v", removed, err)
	}
}

func TestAnotherVersionOfTheProgramReplacesTheOldOneWhileItRuns(t *testing.T) {
	c, program := fixture(t)
	if err := c.Install(program); err != nil {
		t.Fatal(err)
	}
	running, err := os.Open(c.Files()[0])
	if err != nil {
		t.Fatal(err)
	}
	defer running.Close()
	newer := bytes.Repeat([]byte("PROGRAM "), 40_000) // of the same size
	if err := os.WriteFile(program, newer, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := c.Install(program); err != nil {
		t.Fatal(err)
	}
	if got, _ := os.ReadFile(c.Files()[0]); !bytes.Equal(got, newer) {
		t.Error("the plugin is the old one")
	}
	first := make([]byte, 8)
	if _, err := running.ReadAt(first, 0); err != nil || string(first) != "program " {
		t.Errorf("who had the old one open reads %q, %v", first, err)
	}
}

func TestPluginsAloneAreCopiedWhereThereAreNoneAndWithoutANetwork(t *testing.T) {
	c, program := fixture(t)
	theirs := []byte("an older plugin")
	if err := os.MkdirAll(c.BinDir, 0o755); err != nil {
		t.Fatal(err)
	}
	older, missing := c.Files()[0], c.Files()[1]
	if err := os.WriteFile(older, theirs, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, want := range [][]string{{missing}, nil} {
		if written, err := c.InstallPlugins(program); err != nil || !slices.Equal(written, want) {
			t.Errorf("written: %v, %v; want %v", written, err, want)
		}
	}
	if got, err := os.ReadFile(older); err != nil || !bytes.Equal(got, theirs) {
		t.Errorf("the plugin that was there has %d bytes, %v", len(got), err)
	}
	if st, err := os.Stat(missing); err != nil || st.Mode() != 0o755 {
		t.Errorf("the other: %v, %v", st, err)
	}
	if _, err := os.Stat(c.ConfDir); err == nil {
		t.Error("the network's directory was made")
	}
}

func TestAnotherPluginsNetworkIsNeverTouched(t *testing.T) {
	c, program := fixture(t)
	if err := os.MkdirAll(c.ConfDir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, theirs := range []string{`{"name":"weft","plugins":[{"type":"bridge"}]}`, "no JSON", ""} {
		if err := os.WriteFile(c.networkFile(), []byte(theirs), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := c.Install(program); err == nil || !strings.Contains(err.Error(), "is not weft's") {
			t.Errorf("install over %q: %v", theirs, err)
		}
		if removed, err := c.Remove(); err != nil || len(removed) != 0 {
			t.Errorf("removed %v, %v", removed, err)
		}
		if got, err := os.ReadFile(c.networkFile()); err != nil || string(got) != theirs {
			t.Errorf("it is now %q, %v", got, err)
		}
	}
}

func TestAPluginThatIsToFollowHasToBeThere(t *testing.T) {
	c, program := fixture(t)
	c.Chain = []string{"portmap"}
	if err := c.Install(program); err == nil || !strings.Contains(err.Error(), "portmap") {
		t.Errorf("install: %v", err)
	}
	if _, err := os.Stat(c.networkFile()); err == nil {
		t.Error("the network was written")
	}
}

func TestTheNetworkFile(t *testing.T) {
	c, _ := fixture(t)
	c.Socket = "/run/x.sock"
	if got, want := string(c.Network()), `{
  "cniVersion": "1.0.0",
  "cniVersions": [
    "1.0.0",
    "1.1.0"
  ],
  "name": "weft",
  "plugins": [
    {
      "type": "weft-cni",
      "capabilities": {
        "ips": true,
        "mac": true,
        "portMappings": true
      },
      "socket": "/run/x.sock"
    }
  ]
}
`; got != want {
		t.Errorf("got %s", got)
	}
	c.Chain = []string{"portmap", "tuning"}
	got := string(c.Network())
	if strings.Contains(got, "cniVersions") || strings.Count(got, `"portMappings": true`) != 1 || !strings.Contains(got, `"tuning"`) {
		t.Errorf("chained: %s", got)
	}
}

func TestWhatCannotBeAreRefused(t *testing.T) {
	good := Config{BinDir: "/opt/cni/bin", ConfDir: "/etc/cni/net.d", Name: "weft", Chain: []string{"portmap"}}
	if err := good.Validate(); err != nil {
		t.Error(err)
	}
	for what, spoil := range map[string]func(*Config){
		"relative bin":   func(c *Config) { c.BinDir = "bin" },
		"relative conf":  func(c *Config) { c.ConfDir = "" },
		"no name":        func(c *Config) { c.Name = "" },
		"name is a path": func(c *Config) { c.Name = "../x" },
		"chain is path":  func(c *Config) { c.Chain = []string{"../portmap"} },
		"chain is weft":  func(c *Config) { c.Chain = []string{PluginType} },
		"chain twice":    func(c *Config) { c.Chain = []string{"portmap", "portmap"} },
	} {
		c := good
		spoil(&c)
		if c.Validate() == nil {
			t.Errorf("%s is not refused", what)
		}
	}
}
