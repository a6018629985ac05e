package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/weft-net/weft/api"
	"github.com/weft-net/weft/internal/journal"
)

// unsettled is what was asked for while no daemon ran and is not done yet: the
// name of the journal's entry for each endpoint that was to be detached.
type unsettled struct {
	mu      sync.Mutex
	journal *journal.Journal
	entries map[api.Endpoint]string
}

// openJournal reads what was asked for while no daemon ran. From here on
// nobody adds to it, since this daemon can be asked.
func (d *Daemon) openJournal(ctx context.Context) error {
	j, err := journal.Open(ctx, d.opts.StateDir)
	if err != nil {
		return err
	}
	u := &d.overdue
	u.mu.Lock()
	defer u.mu.Unlock()
	u.journal, u.entries = j, map[api.Endpoint]string{}
	list, err := j.Entries()
	d.note("journal", err)
	for _, e := range list {
		var req api.DetachRequest
		if json.Unmarshal(e.Data, &req) != nil || req.Endpoint == nil || checkEndpoint(*req.Endpoint) != nil {
			d.log.Warn("an entry of the journal means nothing", "name", e.Name)
			if err := j.Remove(e.Name); err != nil {
				return err
			}
			continue
		}
		u.entries[*req.Endpoint] = e.Name
	}
	return nil
}

func (u *unsettled) of(e api.Endpoint) (name string, ok bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	name, ok = u.entries[e]
	return name, ok
}

// settle carries out what was asked for an endpoint while no daemon ran. The
// endpoint's lock is held, and no request for it is served before: so nothing
// that was attached later is taken for what was to be detached.
func (d *Daemon) settleEndpoint(ctx context.Context, e api.Endpoint) error {
	name, ok := d.overdue.of(e)
	if !ok {
		return nil
	}
	if _, err := d.freeEndpoint(ctx, e); err != nil {
		return fmt.Errorf("detach interface %s, as was asked while no daemon ran: %w", e, err)
	}
	if err := d.overdue.journal.Remove(name); err != nil {
		return err
	}
	d.log.Info("detached, as was asked while no daemon ran", "container", e.Container, "interface", e.Interface)
	d.overdue.mu.Lock()
	defer d.overdue.mu.Unlock()
	delete(d.overdue.entries, e)
	return nil
}

// settleAll carries out all that was asked for while no daemon ran. What fails
// is tried again by the loop.
func (d *Daemon) settleAll(ctx context.Context) {
	d.overdue.mu.Lock()
	todo := slices.Collect(maps.Keys(d.overdue.entries))
	d.overdue.mu.Unlock()
	if len(todo) == 0 {
		return
	}
	var errs []error
	for _, e := range todo {
		unlock, err := d.lockEndpoint(ctx, e)
		if err == nil {
			unlock()
		}
		errs = append(errs, err)
	}
	d.note("journal", errors.Join(errs...))
}

func (u *unsettled) close() error {
	if u.journal == nil {
		return nil
	}
	return u.journal.Close()
}
