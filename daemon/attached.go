package daemon

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/weft-net/weft/bridge"
	"github.com/weft-net/weft/internal/nl"
)

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

// findAttached returns the attachment of a container by interface, or its
// first where no interface is named.
func (d *Daemon) findAttached(c *container, ifname string) (attachment, bool) {
	found := d.attachedThat(func(a attachment) bool { return d.isOf(a, c) && (ifname == "" || a.Interface == ifname) })
	if len(found) == 0 {
		return attachment{}, false
	}
	return found[0], true
}

// isOf tells whether an attachment is one of a container: by what its engine
// calls it, or by its namespace, however that was named.
func (d *Daemon) isOf(a attachment, c *container) bool {
	if a.Engine != "" && a.Engine == c.Engine && a.ID == c.ID {
		return true
	}
	return a.Cookie == c.cookie && (a.Engine == "" && c.Engine == "" || d.isOfThisBoot(a) && !a.Released)
}

func (d *Daemon) attachedByKey(key string) (attachment, bool) {
	d.attached.mu.Lock()
	defer d.attached.mu.Unlock()
	a, ok := d.attached.byKey[key]
	return a, ok
}

func (d *Daemon) listAttached() []attachment {
	return d.attachedThat(func(attachment) bool { return true })
}

// attachedThat lists some of the attachments. What an attach does for itself alone
// does not copy those of all others.
func (d *Daemon) attachedThat(fits func(attachment) bool) []attachment {
	d.attached.mu.Lock()
	defer d.attached.mu.Unlock()
	var list []attachment
	for _, a := range d.attached.byKey {
		if fits(a) {
			list = append(list, a)
		}
	}
	slices.SortFunc(list, compareAttachments)
	return list
}

// compareAttachments orders by reference and address.
func compareAttachments(a, b attachment) int {
	if c := strings.Compare(a.Reference, b.Reference); c != 0 {
		return c
	}
	return a.Address.Compare(b.Address)
}

func (d *Daemon) gone(key string) (time.Time, bool) {
	d.attached.mu.Lock()
	defer d.attached.mu.Unlock()
	t, ok := d.attached.goneAt[key]
	return t, ok
}

// goneFor is how long an attachment has been without its namespace; the first
// question begins the time.
func (d *Daemon) goneFor(a attachment) time.Duration {
	d.attached.mu.Lock()
	defer d.attached.mu.Unlock()
	since, was := d.attached.goneAt[a.key()]
	if !was {
		since = d.now()
		d.attached.goneAt[a.key()] = since
	}
	return d.now().Sub(since)
}

// grace is how long what ended may come back before it is forgotten. A container
// that its engine still knows may be given longer.
func (d *Daemon) grace() time.Duration {
	if d.opts.ReleaseAfter < 0 {
		return DefaultReleaseAfter
	}
	return d.opts.ReleaseAfter
}

func (d *Daemon) notGone(a attachment) {
	d.attached.mu.Lock()
	defer d.attached.mu.Unlock()
	delete(d.attached.goneAt, a.key())
}

// isAlive tells whether an attachment's namespace is there still. It lives as
// long as the veth pair does, which is looked at first since that is cheap; where
// somebody removed the pair, the path tells.
func (d *Daemon) isAlive(a attachment) bool {
	if !d.isOfThisBoot(a) || a.Released {
		return false
	}
	if d.hasLink(bridge.HostInterfaceName(a.Cookie, a.Interface)) {
		return true
	}
	ns, err := nl.OpenNamespace(a.NetNS)
	if err != nil {
		return false
	}
	defer ns.Close()
	cookie, err := ns.Cookie()
	return err == nil && cookie == a.Cookie
}

// isOfThisBoot tells whether an attachment's cookie and path mean anything.
func (d *Daemon) isOfThisBoot(a attachment) bool { return a.Boot == "" || a.Boot == d.boot }

// sweep looks which namespaces have vanished, and frees the addresses of those
// that stayed away for the grace period. Containers of engines are looked after
// by followEngine.
func (d *Daemon) sweep(ctx context.Context) {
	for _, a := range d.listAttached() {
		if a.Engine != "" {
			continue
		}
		if d.isAlive(a) {
			d.notGone(a)
			continue
		}
		if d.goneFor(a) < d.grace() {
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
	held map[string]chan struct{}
}

// lock waits for its turn or for the context; unlock has to be called once.
func (l *keyedLock) lock(ctx context.Context, key string) (unlock func(), err error) {
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
