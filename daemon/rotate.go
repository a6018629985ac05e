package daemon

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/weft-net/weft/api"
	"github.com/weft-net/weft/encap"
)

// epochOn is the epoch of the key of a device; nil if it has none.
func (d *Daemon) epochOn(device string) *uint64 {
	for _, s := range d.keys.list() {
		if d.slotDevice(s.Epoch) == device {
			return &s.Epoch
		}
	}
	return nil
}

// keyStatus is how far this host is.
func (d *Daemon) keyStatus() *api.Keys {
	if !d.hasKeys() {
		return nil
	}
	s := d.keys.now()
	out := &api.Keys{Epoch: s.Newest().Epoch, Since: s.Newest().Made, Changing: s.Turning()}
	if !s.Turning() {
		return out
	}
	for _, p := range d.slotPeers(s) {
		if slices.Contains(s.Waiting, p.ID) {
			out.WaitingFor = append(out.WaitingFor, fmt.Sprintf("%s (%s)", d.nameOf(p.ID), d.whyHeld(s, p)))
		}
	}
	return out
}

// whyHeld says why a peer needs the older key.
func (d *Daemon) whyHeld(s encap.Slots, p encap.SlotPeer) string {
	switch {
	case p.Old:
		return "its weft is too old to change keys"
	case !p.Live:
		return "its daemon does not answer, and traffic to it goes on: for 25 hours at most"
	case !s.List[0].Listed():
		return "it has not let go of its own yet"
	}
	return fmt.Sprintf("no probe is answered by the new key, at UDP port %d", d.settings.slotPort(encap.SlotIndex(s.Newest().Epoch), d.opts.Port))
}

// keysShown is how long a change of keys may take before that is a warning.
const keysShown = time.Minute

func checkKeys(d *Daemon) string {
	if text := d.health.of("keys"); text != "" {
		return text
	}
	k := d.keyStatus()
	if k == nil || !k.Changing || d.now().Sub(k.Since) < keysShown {
		return ""
	}
	who := strings.Join(k.WaitingFor, ", ")
	if who == "" {
		return ""
	}
	return fmt.Sprintf("the keys of WireGuard are being changed since %s, and the old ones are kept for %s", k.Since.Format(time.TimeOnly), who)
}

// keysEvery is how often somebody who waits for a change of keys looks.
const keysEvery = 250 * time.Millisecond

// RotateKeys has the whole mesh make new keys, and returns when the old ones of
// those that answer are gone.
func (d *Daemon) RotateKeys(ctx context.Context) (api.KeysReport, error) {
	epoch, err := d.beginKeys()
	if err != nil {
		return api.KeysReport{}, err
	}
	tick := time.NewTicker(keysEvery)
	defer tick.Stop()
	for {
		behind, away := d.behindKeys(epoch)
		if len(behind) == 0 {
			return api.KeysReport{Epoch: epoch, Away: away}, nil
		}
		select {
		case <-ctx.Done():
			return api.KeysReport{}, &api.Error{Code: api.CodeTimeout,
				Message: "the new keys are made, and the old ones are kept until these hosts do without: " + strings.Join(behind, ", "),
				Fix:     "it goes on by itself; `weft status` shows what it waits for"}
		case <-d.end:
			return api.KeysReport{}, &api.Error{Code: api.CodeUnavailable, Message: "the daemon ends", Fix: "launch it again: the change of keys goes on"}
		case <-tick.C:
		}
	}
}

func (d *Daemon) beginKeys() (epoch uint64, err error) {
	switch {
	case !d.hasKeys():
		return 0, &api.Error{Code: api.CodeConflict, Message: "this host does no WireGuard, so it has no keys to change", Fix: "`weft status links -o wide` shows what it does"}
	case !d.holdsSpace():
		return 0, &api.Error{Code: api.CodeConflict, Message: "this host has no address space, so the others do not follow its keys", Fix: "run it on a host that has: `weft status ipam`"}
	}
	d.keys.mu.Lock()
	defer d.keys.mu.Unlock()
	next, ok := d.keys.slots.Begin(d.slotPeers(d.keys.slots), d.now())
	if !ok {
		return 0, &api.Error{Code: api.CodeConflict, Message: "the keys are being changed already", Fix: "`weft status` on each host shows what it waits for"}
	}
	if err := d.keepSlots(next); err != nil {
		return 0, err
	}
	select {
	case d.keys.begun <- struct{}{}:
	default: // the word is there
	}
	return next.Newest().Epoch, nil
}

// behindKeys are those that are not through with a change, and those that do not
// answer.
func (d *Daemon) behindKeys(epoch uint64) (behind, away []string) {
	own := d.keys.now()
	if own.Turning() || own.Newest().Epoch < epoch {
		behind = append(behind, d.nameOf(d.identity.ID))
	}
	for _, p := range d.slotPeers(own) {
		switch {
		case !p.Live:
			away = append(away, d.nameOf(p.ID))
		case p.Linked && (len(p.Epochs) != 1 || p.Epochs[0] < epoch):
			behind = append(behind, d.nameOf(p.ID))
		}
	}
	return behind, away
}
