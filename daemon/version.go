package daemon

import (
	"runtime"

	"github.com/weft-net/weft/api"
	"github.com/weft-net/weft/mesh"
)

// software is this weft's version; releases set it when they are linked.
var software = "0.1.0-dev"

// Version is that of this program and of the protocol it speaks.
func Version() api.Version {
	return api.Version{Software: software, Protocol: mesh.ProtocolVersion, Go: runtime.Version()}
}
