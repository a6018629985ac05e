package daemon

import (
	"context"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// goneGrace is how long a container's address outlives its namespace, so that
// whoever removed it by mistake or for a restart has a moment to say so.
const goneGrace = 10 * time.Second

// attached is the set of attachments in memory, the same as in the store.
type attached struct {
	mu     sync.Mutex
	byKey  map[string]attachment
	goneAt map[string]time.Time // when a namespace was first seen to be gone
}

func (d *Daemon) setAttached(a attachment) {
	d.attached.mu.Lock()
	defer d.attached.mu.Unlock()
	d.attached.byKey[a.key()] = a
}

func (d *Daemon) clearAttached(a attachment) {
	d.attached.mu.Lock()
	defer d.attached.mu.Unlock()
	delete(d.attached.byKey, a.key())
	delete(d.attached.goneAt, a.key())
}

// findAttached returns the attachment of a namespace by interface, or its
// first where no interface is named.
func (d *Daemon) findAttached(cookie uint64, ifname string) (attachment, bool) {
	for _, a := range d.listAttached() {
		if a.Cookie == cookie && (ifname == "" || a.Interface == ifname) {
			return a, true
		}
	}
	return attachment{}, false
}

func (d *Daemon) listAttached() []attachment {
	d.attached.mu.Lock()
	defer d.attached.mu.Unlock()
	list := slices.Collect(maps.Values(d.attached.byKey))
	slices.SortFunc(list, func(a, b attachment) int {
		if c := strings.Compare(a.Reference, b.Reference); c != 0 {
			return c
		}
		return a.Address.Compare(b.Address)
	})
	return list
}

func (d *Daemon) gone(key string) (time.Time, bool) {
	d.attached.mu.Lock()
	defer d.attached.mu.Unlock()
	t, ok := d.attached.goneAt[key]
	return t, ok
}

// sweep looks which containers have vanished, and frees the addresses of those
// that stayed away for the grace period.
func (d *Daemon) sweep(ctx context.Context) {
	for _, a := range d.listAttached() {
		// A namespace outlives its name where a process or a file still holds
		// it; then the veth pair lives too.
		alive := a.isAlive() || d.hasLink(d.port(a).HostInterface)
		d.attached.mu.Lock()
		since, was := d.attached.goneAt[a.key()]
		switch {
		case alive:
			delete(d.attached.goneAt, a.key())
		case !was:
			d.attached.goneAt[a.key()] = d.now()
		}
		d.attached.mu.Unlock()
		if alive || !was || d.now().Sub(since) < goneGrace {
			continue
		}
		d.log.Info("container is gone", "container", a.Reference, "address", a.Address)
		if err := d.detach(ctx, a); err != nil {
			d.log.Warn("free the address of a container that is gone", "container", a.Reference, "err", err)
		}
	}
}

// keyedLock serialises requests for one container and lets others pass.
type keyedLock struct {
	mu   sync.Mutex
	held map[uint64]chan struct{}
}

// lock waits for its turn or for the context; unlock has to be called once.
func (l *keyedLock) lock(ctx context.Context, key uint64) (unlock func(), err error) {
	for {
		l.mu.Lock()
		busy, ok := l.held[key]
		if !ok {
			mine := make(chan struct{})
			l.held[key] = mine
			l.mu.Unlock()
			return func() {
				l.mu.Lock()
				delete(l.held, key)
				l.mu.Unlock()
				close(mine)
			}, nil
		}
		l.mu.Unlock()
		select {
		case <-busy:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}
