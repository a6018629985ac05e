// Command weft-cni is weft's CNI plugin, and nothing else of weft: a runtime
// starts it for every container that comes or goes, and what is not in it need
// not be initialised. A weft that `make build` made carries it and installs it.
package main

import (
	"cmp"
	"os"

	"github.com/weft-net/weft/plugin/cni"
)

func main() {
	os.Exit(cni.Main(cmp.Or(cni.Called(os.Args[0], os.Getenv), cni.Plugin)))
}
