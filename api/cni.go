package api

import (
	"context"
	"encoding/json"
	"net/http"
)

// PathCNI is that of a CNIRequest.
const PathCNI = "/v1/cni"

// Defaults of CNISettings, which are those of the container runtimes.
const (
	DefaultCNIBinDir  = "/opt/cni/bin"
	DefaultCNIConfDir = "/etc/cni/net.d"
	DefaultCNIName    = "weft"
)

// CNISettings say how weft presents itself to CNI runtimes.
type CNISettings struct {
	// BinDir and ConfDir are where runtimes look for plugins and networks.
	BinDir  string `json:"binDir"`
	ConfDir string `json:"confDir"`
	// Name of the network; also in the name of its file.
	Name string `json:"name"`
	// Chain are plugins that run after weft's: portmap, bandwidth, firewall, tuning.
	Chain []string `json:"chain,omitempty"`
}

// CNIRequest changes how weft presents itself to CNI runtimes.
type CNIRequest struct {
	// Settings to be written and kept; nil removes what was written.
	Settings *CNISettings `json:"settings,omitempty"`
	// DryRun changes nothing.
	DryRun bool `json:"dryRun,omitempty"`
}

// CNIReport says what was written, or would be.
type CNIReport struct {
	Written []string `json:"written,omitempty"`
	Removed []string `json:"removed,omitempty"`
	// Network is the text of the network's file.
	Network json.RawMessage `json:"network,omitempty"`
}

// CNI makes the daemon's host use weft for its CNI runtimes, or no longer.
func (c *Client) CNI(ctx context.Context, r CNIRequest) (CNIReport, error) {
	return call[CNIReport](ctx, c, http.MethodPost, PathCNI, r)
}
