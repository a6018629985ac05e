package daemon

import (
	"errors"
	"log/slog"
	"time"

	"github.com/weft-net/weft/api"
	"github.com/weft-net/weft/bridge"
	"github.com/weft-net/weft/internal/nl"
	"github.com/weft-net/weft/internal/store"
	"github.com/weft-net/weft/internal/ula"
)

// unreadableError says that what is in a sound store makes no sense.
type unreadableError struct{ cause error }

func (e *unreadableError) Error() string { return "the store cannot be read: " + oneLine(e.cause) }

// Unwrap returns the cause.
func (e *unreadableError) Unwrap() error { return e.cause }

// unreadable tells whether an error of the store is one that stays, so that
// only another store helps.
func unreadable(err error) bool {
	var damaged *store.DamagedError
	var senseless *unreadableError
	return errors.As(err, &damaged) || errors.As(err, &senseless)
}

// openKeep opens the store of a state directory and reads all that is in it; ok
// is false where no peer is.
func openKeep(dir string, create bool) (k keep, p peerState, ok bool, err error) {
	s, err := store.Open(dir, create)
	if err != nil {
		return k, p, false, err
	}
	k = keep{s}
	if p, ok, err = k.peer(); err != nil {
		return keep{}, p, ok, errors.Join(err, s.Close())
	}
	return k, p, ok, nil
}

// explainStore says what to do about a store that could not be opened; fix is
// for one that is unreadable.
func explainStore(err error, fix string) error {
	var known *api.Error
	var locked *store.LockedError
	var newer *store.VersionError
	switch {
	case errors.As(err, &known):
		return known
	case errors.As(err, &locked):
		return &api.Error{Code: api.CodeConflict, Message: locked.Error(),
			Fix: "`weft status` shows it; `weft stop` ends it, or give this one another --state-dir"}
	case errors.As(err, &newer):
		return &api.Error{Code: api.CodeConflict, Message: newer.Error(),
			Fix: "run the newer weft again, which wrote it; it was left unchanged"}
	case unreadable(err):
		return &api.Error{Code: api.CodeFailed, Message: oneLine(err), Fix: "it was left as it is; " + fix}
	}
	return err
}

// setAside puts a store that cannot be read out of the way, opens a new one,
// and takes out of the kernel what the old one's peer had there: the new peer
// has no right to those addresses, and others may get them.
func setAside(o Options, log *slog.Logger, why error) (k keep, path string, err error) {
	if path, err = store.SetAside(o.StateDir, time.Now()); err != nil {
		return k, "", errors.Join(why, err)
	}
	log.Warn("the store was set aside", "as", path, "why", oneLine(why))
	s, err := store.Open(o.StateDir, true)
	if err != nil {
		return k, "", errors.Join(err, store.PutBack(o.StateDir, path))
	}
	k = keep{s}
	if o.Bridge == "" {
		o.Bridge = leftBridge()
	}
	removed, err := unplumb(k, o, log)
	if err != nil {
		return keep{}, "", errors.Join(err, s.Destroy(), store.PutBack(o.StateDir, path))
	}
	log.Info("removed from the kernel", "what", removed)
	return k, path, nil
}

// unplumb removes a bridge and its tunnel with all that depends on them.
func unplumb(k keep, o Options, log *slog.Logger) (removed []string, err error) {
	b, err := bridge.New(k, log)
	if err != nil {
		return nil, err
	}
	defer b.Close()
	var unknown ula.Ranges // they were in the store
	return removeFromKernel(k, o, unknown, func() ([]string, error) { return removeTunnels(o, k, unknown, log) }, b)
}

// leftBridge is the name of the bridge that weft left in the kernel, if there
// is just one: a store that is lost cannot tell it.
func leftBridge() string {
	conn, err := nl.Open()
	if err != nil {
		return DefaultBridge // whoever removes it says what is wrong
	}
	defer conn.Close()
	links, err := conn.Links()
	if err != nil {
		return DefaultBridge
	}
	var names []string
	for _, l := range links {
		if l.IsWeft() && l.Kind == nl.KindBridge {
			names = append(names, l.Name)
		}
	}
	if len(names) != 1 {
		return DefaultBridge
	}
	return names[0]
}
