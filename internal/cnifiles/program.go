package cnifiles

import (
	"bytes"
	"io"
	"os"
)

// source is the plugin's program: the one that this weft carries, or else weft
// itself, which can be the plugin, too, and takes longer to start.
type source interface {
	io.ReadSeeker
	io.Closer
}

type embedded struct{ *bytes.Reader }

// Close does nothing.
func (embedded) Close() error { return nil }

func openSource(weft string) (source, error) {
	if len(carried) > 0 {
		return embedded{bytes.NewReader(carried)}, nil
	}
	return os.Open(weft)
}
