// Package cni is weft as a plugin of container runtimes that speak CNI: it
// turns what they say into requests to the daemon, and the daemon's answers
// into what they expect. It plumbs nothing, and knows no address; the daemon
// does. As weft-ipam it gives addresses to another plugin that plumbs.
package cni

import (
	"path/filepath"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/version"
)

// Names by which runtimes call the plugin, and another plugin calls it for
// addresses alone.
const (
	Plugin = "weft-cni"
	IPAM   = "weft-ipam"
)

// Called tells as which of the two this process was called; "" for neither.
func Called(arg0 string, env func(string) string) string {
	switch name := filepath.Base(arg0); {
	case name == Plugin, name == IPAM:
		return name
	case env("CNI_COMMAND") != "":
		return Plugin
	}
	return ""
}

// Main is the whole life of a plugin's process: one verb, which is in its
// environment. It returns the exit code.
func Main(program string) int {
	funcs := skel.CNIFuncs{Add: add, Del: del, Check: check, GC: gc(readNetwork), Status: status(readNetwork)}
	if program == IPAM {
		funcs = skel.CNIFuncs{Add: addAddress, Del: delAddress, Check: checkAddress, GC: gc(readIPAM), Status: status(readIPAM)}
	}
	if err := skel.PluginMainFuncsWithError(funcs, version.All, "CNI plugin "+program+" of weft"); err != nil {
		_ = err.Print() // nobody reads it, then
		return 1
	}
	return 0
}
