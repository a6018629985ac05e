package daemon

import (
	"bytes"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/encap/probe"
)

// qualities are what is known of the paths to the other hosts.
func (d *Daemon) qualities() map[probe.Path]probe.Quality { return d.prober.Load().Qualities() }

// probe has these paths measured, and no others.
func (d *Daemon) probe(targets []probe.Target) {
	err := d.startProber()
	if err == nil {
		err = d.prober.Load().Set(targets)
	}
	d.note("probe", err)
}

// checkProbing says whether another program keeps this host from sending probes. Other
// errors are of devices that are not there, and end with what those come from.
func checkProbing(d *Daemon) string {
	d.health.mu.Lock()
	err := d.health.failing["probe"]
	d.health.mu.Unlock()
	if !errors.Is(err, unix.EADDRINUSE) {
		return ""
	}
	return fmt.Sprintf("UDP port %d is taken by another program, so links cannot be tried out: one that fails is not left for another, and no faster one is taken", probe.Port)
}

// startProber starts the prober, and anew when the mesh's token has changed.
// Those who still have the other one then do not answer, which moves no traffic:
// no path works better than another.
func (d *Daemon) startProber() error {
	secret := d.mesh.Tokens().Use.ProbeSecret()
	old := d.prober.Load()
	if old != nil && bytes.Equal(secret, d.probeSecret) {
		return nil
	}
	prober, err := probe.New(d.identity.ID, secret)
	if err != nil {
		return err
	}
	d.prober.Store(prober)
	d.probeSecret = secret
	if old != nil {
		old.Close()
	}
	return nil
}

// Pauses after which links are looked at again while one of them may move because
// nothing but time has passed: one that does not work, or could be faster.
const (
	brokenPause = 200 * time.Millisecond
	fasterPause = time.Second
)

// restless returns a channel that says when to look at the links again, after a pass
// that took so long; nil if the periodic pass is soon enough.
func (d *Daemon) restless(took time.Duration) <-chan time.Time {
	var pause time.Duration
	for _, l := range d.tunnel.Load().links {
		switch {
		case l.waits && !l.works:
			return time.After(brokenPause)
		case l.waits:
			pause = fasterPause
		}
	}
	waits, hurries := d.relays.waiting()
	switch {
	case hurries:
		pause = max(brokenPause, min(rest*took, settleMost))
	case pause == 0 && (waits || d.keys.turning()):
		pause = fasterPause
	}
	if pause == 0 {
		return nil
	}
	return time.After(pause)
}
