package daemon

import (
	"time"

	"github.com/weft-net/weft/encap/probe"
)

// qualities are what is known of the paths to the other hosts.
func (d *Daemon) qualities() map[probe.Path]probe.Quality { return d.prober.Qualities() }

// probe has these paths measured, and no others.
func (d *Daemon) probe(targets []probe.Target) { d.note("probe", d.prober.Set(d.gateway(), targets)) }

// unsettledPause is when links are looked at again while one of them may move
// because nothing but time has passed.
const unsettledPause = time.Second

// unsettled returns a channel that says when to look at the links again; nil if
// the periodic pass is soon enough.
func (d *Daemon) unsettled() <-chan time.Time {
	for _, l := range d.tunnel.Load().links {
		if l.waits {
			return time.After(unsettledPause)
		}
	}
	return nil
}
