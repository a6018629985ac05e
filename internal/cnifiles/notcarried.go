//go:build !smallplugin

package cnifiles

// carried is nothing in a weft that `go build` made alone.
var carried []byte
