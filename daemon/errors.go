package daemon

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/google/uuid"

	"github.com/weft-net/weft/api"
	"github.com/weft-net/weft/internal/nl"
	"github.com/weft-net/weft/ipam"
	"github.com/weft-net/weft/mesh"
)

// explain turns what the packages below say into what the user should hear:
// names instead of ids, and what to do.
func (d *Daemon) explain(err error) error {
	if err == nil {
		return nil
	}
	say := func(code api.Code, fix string) error {
		return &api.Error{Code: code, Message: oneLine(err), Fix: fix}
	}
	var known *api.Error
	var elsewhere *ipam.ElsewhereError
	var pending *ipam.PendingError
	var space *ipam.SpaceError
	var refused *mesh.RefusedError
	var unreachable *mesh.UnreachableError
	switch {
	case errors.As(err, &known):
		return err
	case errors.As(err, &elsewhere) && elsewhere.Reason == "":
		return &api.Error{Code: api.CodeTimeout,
			Message: fmt.Sprintf("address %s belongs to host %s, which does not answer", elsewhere.Addr, d.nameOf(elsewhere.Peer)),
			Fix:     fmt.Sprintf("wait longer by --timeout until that host is back, or `weft rmpeer` it if it is gone for good; or choose an address in %v", d.plan.Prefixes(d.identity.ID))}
	case errors.As(err, &elsewhere):
		return &api.Error{Code: api.CodeConflict,
			Message: fmt.Sprintf("address %s belongs to host %s, which does not give it: %s", elsewhere.Addr, d.nameOf(elsewhere.Peer), elsewhere.Reason),
			Fix:     fmt.Sprintf("choose another; free ones are in %v", d.plan.Prefixes(d.identity.ID))}
	case errors.As(err, &pending):
		return d.explainPending(pending)
	case errors.Is(err, ipam.ErrOutside), errors.Is(err, ipam.ErrReserved):
		return say(api.CodeInvalid, fmt.Sprintf("choose another in %v", d.plan.Prefixes(d.identity.ID)))
	case errors.Is(err, ipam.ErrTaken):
		return say(api.CodeConflict, "`weft ps` shows by whom; choose another address or none")
	case errors.Is(err, ipam.ErrUnowned):
		return say(api.CodeConflict, fmt.Sprintf("choose an address in %v", d.plan.Prefixes(d.identity.ID)))
	case errors.As(err, &space) && !errors.Is(err, ipam.ErrExhausted):
		return &api.Error{Code: api.CodeTimeout, Message: space.Describe(d.nameOf), Fix: "`weft status peers` shows who is there"}
	case errors.As(err, &space):
		return &api.Error{Code: api.CodeExhausted, Message: space.Describe(d.nameOf), Fix: "detach containers that are not needed, here or on other hosts; the range is fixed when a mesh is founded"}
	case errors.Is(err, context.DeadlineExceeded):
		return say(api.CodeTimeout, "`weft status` shows who does not answer")
	case errors.As(err, &refused), errors.As(err, &unreachable):
		return say(api.CodeFailed, "")
	}
	return err
}

// explainPending says whom a removal waits for.
func (d *Daemon) explainPending(e *ipam.PendingError) error {
	names := func(ids []uuid.UUID) string {
		var out []string
		for _, id := range ids {
			out = append(out, d.nameOf(id))
		}
		return strings.Join(out, ", ")
	}
	if e.Sealed {
		return &api.Error{Code: api.CodeTimeout,
			Message: fmt.Sprintf("host %s is shut out, and its addresses are given to others as soon as every other host has confirmed that", d.nameOf(e.Peer)),
			Fix:     "`weft status ipam` on the leading voter names who has not; `weft rmpeer` those too if they are gone for good"}
	}
	return &api.Error{Code: api.CodeTimeout,
		Message: fmt.Sprintf("host %s is not removed: that takes a majority of the voters, which are %s", d.nameOf(e.Peer), names(e.Voters)),
		Fix:     "start them again; if most of them are gone for good, `weft rmpeer --force` goes on without them"}
}

// asAPIError is what crosses the socket: always one line.
func asAPIError(ctx context.Context, err error) *api.Error {
	var known *api.Error
	if errors.As(err, &known) {
		return known
	}
	code := api.CodeFailed
	switch {
	case errors.Is(err, nl.ErrNotFound):
		code = api.CodeNotFound
	case errors.Is(err, context.DeadlineExceeded), ctx.Err() != nil:
		code = api.CodeTimeout
	}
	return &api.Error{Code: code, Message: oneLine(err)}
}

// oneLine joins the lines of a joined error.
func oneLine(err error) string {
	return strings.ReplaceAll(strings.TrimSpace(err.Error()), "\n", "; ")
}
