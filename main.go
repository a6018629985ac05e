// Command weft is a gossip mesh overlay for containers: one network over many
// hosts, without a central store.
package main

import (
	"os"

	"github.com/weft-net/weft/cli"
	"github.com/weft-net/weft/plugin/cni"
)

func main() {
	if program := cni.Called(os.Args[0], os.Getenv); program != "" {
		os.Exit(cni.Main(program))
	}
	os.Exit(cli.Main(os.Args[1:], cli.Process()))
}
