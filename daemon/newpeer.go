package daemon

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/weft-net/weft/api"
	"github.com/weft-net/weft/ipam"
	"github.com/weft-net/weft/mesh"
)

// newPeer makes this host's identity, and either a mesh of its own or, after
// both sides have proved that they hold the same token, its place in another.
func (d *Daemon) newPeer(ctx context.Context) (*peerState, error) {
	id, err := mesh.NewIdentity()
	if err != nil {
		return nil, err
	}
	slots, err := firstSlots(d.now())
	if err != nil {
		return nil, err
	}
	p := &peerState{identity: id, targets: d.opts.Join, host: d.given, slots: slots}
	switch {
	case len(d.opts.Founders) > 0:
		err = d.foundOrJoin(ctx, p)
	case len(d.opts.Join) > 0:
		err = d.joinOnly(ctx, p)
	default:
		err = d.foundAlone(p)
	}
	if err != nil {
		return nil, err
	}
	return p, d.checkSettings(p.settings)
}

// foundAlone makes a mesh and its token.
func (d *Daemon) foundAlone(p *peerState) (err error) {
	if d.opts.Token != "" {
		return &api.Error{Code: api.CodeInvalid, Message: "a token was given without a peer to join",
			Fix: "add --join ADDRESS of a host that runs weft, or leave the token out to found a new mesh"}
	}
	if p.token, err = mesh.NewToken(); err != nil {
		return err
	}
	return d.decideSettings(p, nil)
}

// decideSettings makes the settings of a mesh that is being founded.
func (d *Daemon) decideSettings(p *peerState, founders []string) error {
	p.settings = foundingSettings(d.opts)
	p.settings.Founders = founders
	if clash := portsClash(d.opts.Port, p.settings.VXLANPort, p.settings.WireGuardPort); clash != "" {
		return &api.Error{Code: api.CodeInvalid, Message: clash, Fix: "give another --port, --vxlan-port or --wireguard-port"}
	}
	if err := ipam.Validate(p.settings.Range, p.settings.BlockBits); err != nil {
		return &api.Error{Code: api.CodeInvalid, Message: err.Error(), Fix: "choose another --range"}
	}
	return nil
}

// joinOnly takes its place in a mesh that is there.
func (d *Daemon) joinOnly(ctx context.Context, p *peerState) (err error) {
	if d.opts.Token == "" {
		return &api.Error{Code: api.CodeInvalid, Message: "joining a mesh takes its token",
			Fix: "run `weft token show` on a host of the mesh and use the line that it prints"}
	}
	if p.token, err = parseToken(d.opts.Token); err != nil {
		return err
	}
	welcome, err := d.greet(ctx, p, d.opts.Join)
	if err != nil {
		return d.explain(err)
	}
	return d.takeSettings(p, welcome)
}

// takeSettings makes the mesh's settings this host's, unless it was told others.
func (d *Daemon) takeSettings(p *peerState, welcome mesh.Welcome) (err error) {
	if p.settings, err = decodeSettings(welcome.Settings); err != nil {
		return err
	}
	return p.settings.agrees(d.opts)
}

// NewToken makes the token of a mesh that several hosts are to found together.
func NewToken() (string, error) {
	t, err := mesh.NewToken()
	if err != nil {
		return "", err
	}
	return t.String(), nil
}

// parseToken reads a token that the user gave.
func parseToken(text string) (mesh.Token, error) {
	t, err := mesh.ParseToken(text)
	if err != nil {
		return t, &api.Error{Code: api.CodeInvalid, Message: err.Error(), Fix: "copy the whole token that `weft token show` prints"}
	}
	return t, nil
}

// helloSelf is what a host says of itself before it is in the mesh.
func (d *Daemon) helloSelf(p *peerState) mesh.HelloSelf {
	return mesh.HelloSelf{ID: p.identity.ID, Name: d.opts.Name, Advertise: d.gossipAt()}
}

// greet says hello to targets until one lets us in. Without a target there is neither
// a welcome nor an error.
func (d *Daemon) greet(ctx context.Context, p *peerState, targets []string) (mesh.Welcome, error) {
	self := d.helloSelf(p)
	finder := mesh.Finder{Token: p.token, Port: d.opts.Port, Own: d.underlays()}
	var wg sync.WaitGroup
	errs, found := make([]error, len(targets)), make([][]string, len(targets))
	for i, target := range targets {
		wg.Go(func() {
			var err error
			if found[i], err = finder.Lookup(ctx, target); err != nil {
				errs[i] = &api.Error{Code: api.CodeFailed, Message: oneLine(err), Fix: "see that it leads to a host that runs weft, or give an address to --join"}
			}
		})
	}
	wg.Wait()
	addrs := slices.Concat(found...)
	if len(addrs) == 0 {
		return mesh.Welcome{}, errors.Join(errs...)
	}
	w, err := mesh.HelloFirst(ctx, addrs, p.token, self)
	if err != nil {
		return w, errors.Join(append(errs, err)...)
	}
	return w, nil
}
