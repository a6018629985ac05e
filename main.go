// Command weft is a gossip mesh overlay for containers: one network over many
// hosts, without a central store.
package main

import (
	"os"

	"github.com/weft-net/weft/cli"
)

func main() {
	os.Exit(cli.Main(os.Args[1:], cli.Process()))
}
