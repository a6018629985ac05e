package daemon

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/weft-net/weft/api"
	"github.com/weft-net/weft/mesh"
)

// targets are the hosts to join, as users gave them.
type targets struct {
	mu   sync.Mutex
	list []string
}

// connectTime is how long Connect waits for the first word of a new target.
const connectTime = 6 * time.Second

// Connect adds hosts to join, for ever, and returns all of them when each new one
// has answered or failed for the first time.
func (d *Daemon) Connect(ctx context.Context, req api.ConnectRequest) ([]api.Target, error) {
	if len(req.Targets) == 0 {
		return nil, &api.Error{Code: api.CodeInvalid, Message: "no host to connect to", Fix: "name one: weft connect 192.168.1.1"}
	}
	if err := checkTargets(req.Targets); err != nil {
		return nil, err
	}
	err := d.changeTargets(func(have []string) []string {
		if req.Replace {
			have = nil
		}
		for _, t := range req.Targets {
			if !slices.ContainsFunc(have, d.sameTarget(t)) {
				have = append(have, t)
			}
		}
		return have
	})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, connectTime)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for ctx.Err() == nil && slices.ContainsFunc(d.mesh.Targets(), func(t mesh.Target) bool { return !t.Connected && t.LastError == "" }) {
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
	return d.listTargets(), nil
}

// Forget takes hosts to join away. It ends no connection: a peer that is known
// stays one, and is looked for if it is lost.
func (d *Daemon) Forget(req api.ConnectRequest) ([]api.Target, error) {
	for _, t := range req.Targets {
		if !slices.ContainsFunc(d.mesh.Targets(), func(o mesh.Target) bool { return d.sameTarget(t)(o.Target) }) {
			return nil, &api.Error{Code: api.CodeNotFound, Message: t + " is none of the hosts to join", Fix: "`weft status targets` lists them"}
		}
	}
	err := d.changeTargets(func(have []string) []string {
		for _, t := range req.Targets {
			have = slices.DeleteFunc(have, d.sameTarget(t))
		}
		return have
	})
	if err != nil {
		return nil, err
	}
	return d.listTargets(), nil
}

// changeTargets makes a change durable, and then effective.
func (d *Daemon) changeTargets(change func(have []string) []string) error {
	d.targets.mu.Lock()
	defer d.targets.mu.Unlock()
	list := change(slices.Clone(d.targets.list))
	if err := d.keep.saveTargets(list); err != nil {
		return err
	}
	d.targets.list = list
	return d.mesh.SetTargets(list)
}

// sameTarget tells whether a target is another way to write this one.
func (d *Daemon) sameTarget(t string) func(string) bool {
	a, ok := literal(t, d.opts.Port)
	return func(o string) bool {
		b, literal := literal(o, d.opts.Port)
		return o == t || ok && literal && a == b
	}
}

func checkTargets(list []string) error {
	for _, t := range list {
		if err := mesh.CheckTarget(t); err != nil {
			return &api.Error{Code: api.CodeInvalid, Message: err.Error()}
		}
	}
	return nil
}

func (d *Daemon) listTargets() []api.Target {
	out, named := []api.Target{}, naming(d.mesh.Peers())
	for _, t := range d.mesh.Targets() {
		out = append(out, api.Target{Target: t.Target, Addresses: append([]string{}, t.Addrs...), Connected: t.Connected, Peers: named(t.Peers), LastError: t.LastError, NextTry: t.NextTry})
	}
	return out
}
