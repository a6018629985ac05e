package daemon

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/google/uuid"

	"github.com/weft-net/weft/api"
	"github.com/weft-net/weft/mesh"
)

// RotateToken makes a new token of the mesh. When it returns, the old one lets
// nobody in any more.
func (d *Daemon) RotateToken(ctx context.Context, req api.RotateRequest) (api.RotateReport, error) {
	var without []uuid.UUID
	for _, ref := range req.Without {
		p, err := d.findPeer(ref)
		if err != nil {
			return api.RotateReport{}, err
		}
		if p.Self {
			return api.RotateReport{}, &api.Error{Code: api.CodeInvalid, Message: "this host cannot keep the token from itself", Fix: "`weft leave` takes it out of the mesh"}
		}
		without = append(without, p.ID)
	}
	return d.rotateWithout(ctx, without)
}

func (d *Daemon) rotateWithout(ctx context.Context, without []uuid.UUID) (api.RotateReport, error) {
	away, err := d.mesh.Rotate(ctx, without...)
	var waits *mesh.RotateError
	switch {
	case errors.Is(err, mesh.ErrRotating):
		return api.RotateReport{}, &api.Error{Code: api.CodeConflict, Message: "the token is being changed already", Fix: "it goes on by itself; `weft token rotate --without HOST` goes on without one that does not take the new token, which is out of the mesh by it"}
	case errors.As(err, &waits):
		return api.RotateReport{}, &api.Error{Code: api.CodeTimeout,
			Message: fmt.Sprintf("the new token is made, and the old one holds until these hosts use the new one, too: %s", strings.Join(d.names(waits.Waiting), ", ")),
			Fix:     "it goes on by itself when they can take it; `weft token rotate --without HOST` goes on without one, which is out of the mesh by it, and `weft rmpeer --revoke HOST` removes it, too"}
	case err != nil:
		return api.RotateReport{}, err
	}
	d.log.Info("the token is another", "away", d.names(away), "without", d.names(without))
	return api.RotateReport{Token: d.showToken(), Away: d.names(away), Out: d.names(without)}, nil
}

func (d *Daemon) showToken() api.Token {
	return api.Token{Token: d.mesh.Tokens().Use.String(), Join: d.joinLine()}
}

// renewToken gives this host the token that was given by hand, which may be the one
// of its mesh that it missed while it was away. What it had stays, until peers say
// which is right. An old one, as a unit file may hold it for ever, is only tried where
// peers refuse the one that this host has.
func (d *Daemon) renewToken(p *peerState) error {
	token, err := parseToken(d.opts.Token)
	if err != nil || token == p.token {
		return err
	}
	had := mesh.Tokens{Use: p.token}
	if p.tokens != nil {
		had = *p.tokens
	}
	d.tokenBefore = had.Use
	if had.WasUsed(token) {
		d.tokenGiven = []mesh.Token{token}
		return nil
	}
	renewed := had.Renewed(token)
	p.token, p.tokens = token, &renewed
	return d.keep.saveTokens(*p.tokens)
}

// tokenKept says why a launch has not come to use the token that was given; "" if it
// has, or none was.
func (d *Daemon) tokenKept() string {
	var answer bool
	for _, p := range d.mesh.Peers() {
		answer = answer || !p.Self && p.State == mesh.StateAlive
	}
	switch {
	case d.tokenBefore == (mesh.Token{}) || d.mesh.Tokens().Use != d.tokenBefore:
		return ""
	case answer:
		return "the one that was given is not that of the hosts that answer, which use the one that this host has"
	}
	return "the one that was given is an old one, and no host answers that could say otherwise; if it is the right one, launch with it again when one does"
}
