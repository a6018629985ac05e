// Package cnifiles writes what container runtimes find weft by: its plugin, and
// the file of its network. It touches no file of anybody else. When they are to
// be there is left to the daemon.
package cnifiles

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"sync"
)

// PluginType and IPAMType are the names by which runtimes call the plugin.
const (
	PluginType = "weft-cni"
	IPAMType   = "weft-ipam"
)

// Config is how weft presents itself to container runtimes.
type Config struct {
	BinDir  string   `json:"binDir"`  // absolute path
	ConfDir string   `json:"confDir"` // absolute path
	Name    string   `json:"name"`    // of the network
	Chain   []string `json:"chain"`   // types of plugins that run after weft's
	// Socket and StateDir of the daemon; "" for those that the plugin takes
	// where it is told none. They are not noted, since each launch says them.
	Socket   string `json:"-"`
	StateDir string `json:"-"`
}

// Version and versions that the network's file names. Plugins of others may
// know no more than the first.
const oldVersion = "1.0.0"

var versions = []string{oldVersion, "1.1.0"}

// Compiled when they are needed: most processes of weft never need them.
var (
	networkName = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,62}$`) })
	pluginName  = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,62}$`) })
)

// Validate finds what is wrong without looking at the host.
func (c Config) Validate() error {
	switch {
	case !filepath.IsAbs(c.BinDir):
		return fmt.Errorf("the directory of CNI plugins %q is not an absolute path", c.BinDir)
	case !filepath.IsAbs(c.ConfDir):
		return fmt.Errorf("the directory of CNI networks %q is not an absolute path", c.ConfDir)
	case !networkName().MatchString(c.Name):
		return fmt.Errorf("the network's name %q is not 1 to 63 letters, digits, _ . or -", c.Name)
	}
	for i, p := range c.Chain {
		if !pluginName().MatchString(p) || p == PluginType || p == IPAMType || slices.Contains(c.Chain[:i], p) {
			return fmt.Errorf("%q is no plugin that can run after weft's, or is named twice", p)
		}
	}
	return nil
}

// capabilities that runtimes have to hand to the plugins that take them.
var capabilities = map[string][]string{
	PluginType: {"ips", "mac", portMappings}, portmap: {portMappings}, "bandwidth": {"bandwidth"},
}

// portmap does what weft does for ports, in its own way, if it is in the chain.
const (
	portmap      = "portmap"
	portMappings = "portMappings"
)

type plugin struct {
	Type         string          `json:"type"`
	Capabilities map[string]bool `json:"capabilities,omitempty"`
	Socket       string          `json:"socket,omitempty"`
	StateDir     string          `json:"stateDir,omitempty"`
}

// Network is the text of the network's file.
func (c Config) Network() []byte {
	network := struct {
		Version  string   `json:"cniVersion"`
		Versions []string `json:"cniVersions,omitempty"`
		Name     string   `json:"name"`
		Plugins  []plugin `json:"plugins"`
	}{Version: oldVersion, Name: c.Name}
	if len(c.Chain) == 0 {
		network.Versions = versions
	}
	for _, t := range append([]string{PluginType}, c.Chain...) {
		p := plugin{Type: t}
		for _, name := range capabilities[t] {
			if t == PluginType && name == portMappings && slices.Contains(c.Chain, portmap) {
				continue
			}
			if p.Capabilities == nil {
				p.Capabilities = map[string]bool{}
			}
			p.Capabilities[name] = true
		}
		if t == PluginType {
			p.Socket, p.StateDir = c.Socket, c.StateDir
		}
		network.Plugins = append(network.Plugins, p)
	}
	out, err := json.MarshalIndent(network, "", "  ")
	if err != nil {
		panic(err) // strings and booleans can always be encoded
	}
	return append(out, '\n')
}

// networkFile sorts before what others call their network, as runtimes take
// the first.
func (c Config) networkFile() string { return filepath.Join(c.ConfDir, "10-"+c.Name+".conflist") }

// isWefts tells whether a network's file is of weft.
func isWefts(text []byte) bool {
	var network struct {
		Plugins []plugin `json:"plugins"`
	}
	return json.Unmarshal(text, &network) == nil && len(network.Plugins) > 0 && network.Plugins[0].Type == PluginType
}
