package daemon

import (
	"context"
	"errors"
	"net/netip"
	"slices"

	"github.com/weft-net/weft/api"
	"github.com/weft-net/weft/encap"
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
	key, err := encap.NewPrivateKey()
	if err != nil {
		return nil, err
	}
	if len(d.opts.Join) == 0 && len(d.opts.Founders) == 0 && d.opts.Token != "" {
		return nil, &api.Error{Code: api.CodeInvalid, Message: "a token was given without a peer to join",
			Fix: "add --join ADDRESS of a host that runs weft, or leave the token out to found a new mesh"}
	}
	p := &peerState{identity: id, targets: d.opts.Join, host: d.given, tunnelKey: key}
	if len(d.opts.Join) == 0 {
		p.settings = foundingSettings(d.opts)
		if err := d.foundingToken(p); err != nil {
			return nil, err
		}
		if err := ipam.Validate(p.settings.Range, p.settings.BlockBits); err != nil {
			return nil, &api.Error{Code: api.CodeInvalid, Message: err.Error(), Fix: "choose another --range"}
		}
		return p, d.checkSettings(p.settings)
	}
	if d.opts.Token == "" {
		return nil, &api.Error{Code: api.CodeInvalid, Message: "joining a mesh takes its token",
			Fix: "run `weft token show` on a host of the mesh and use the line that it prints"}
	}
	if p.token, err = parseToken(d.opts.Token); err != nil {
		return nil, err
	}
	welcome, err := d.greet(ctx, p)
	if err != nil {
		return nil, err
	}
	if p.settings, err = decodeSettings(welcome.Settings); err != nil {
		return nil, err
	}
	if err := p.settings.agrees(d.opts); err != nil {
		return nil, err
	}
	return p, d.checkSettings(p.settings)
}

// foundingToken makes a token; hosts that found a mesh together were given one.
func (d *Daemon) foundingToken(p *peerState) (err error) {
	if len(d.opts.Founders) == 0 {
		p.token, err = mesh.NewToken()
		return err
	}
	self := netip.AddrPortFrom(d.advertise, d.opts.Port)
	if p.settings.Founders, err = foundersOf(d.opts.Founders, self); err != nil {
		return err
	}
	p.targets = slices.DeleteFunc(slices.Clone(p.settings.Founders), func(f string) bool { return f == self.String() })
	p.token, err = parseToken(d.opts.Token)
	return err
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

// greet says hello to the peers to be joined until one lets us in.
func (d *Daemon) greet(ctx context.Context, p *peerState) (mesh.Welcome, error) {
	self := mesh.HelloSelf{ID: p.identity.ID, Name: d.opts.Name, Advertise: netip.AddrPortFrom(d.advertise, d.opts.Port)}
	finder := mesh.Finder{Token: p.token, Self: self.Advertise}
	var errs []error
	for _, target := range d.opts.Join {
		addrs, err := finder.Lookup(ctx, target)
		if err != nil {
			errs = append(errs, &api.Error{Code: api.CodeFailed, Message: oneLine(err), Fix: "see that it leads to a host that runs weft, or give an address to --join"})
		}
		for _, addr := range addrs {
			w, err := mesh.Hello(ctx, addr, p.token, self)
			if err == nil {
				return w, nil
			}
			errs = append(errs, err)
		}
	}
	return mesh.Welcome{}, d.explain(errors.Join(errs...))
}
