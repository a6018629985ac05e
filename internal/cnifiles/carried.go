//go:build smallplugin

package cnifiles

import _ "embed"

// carried is the program of plugin/cni/weft-cni, which has to be built before.
//
//go:embed weft-cni
var carried []byte
