package bridge

import (
	"errors"

	"github.com/weft-net/weft/internal/nl"
	"github.com/weft-net/weft/internal/ula"
)

// Remove takes every trace of a bridge out of the kernel: rules, ports,
// routes, the device; and writes the sysctls back that were saved. It goes on
// past errors, and says what it removed. Own is as in Config.
func (b *Bridge) Remove(name string, tunnels []string, sysctls map[string]string, own ula.Ranges) (removed []string, err error) {
	did := func(what ...string) { removed = append(removed, what...) }

	rules, e := syncAccepts(mark(name), nil)
	did(rules...)
	err = errors.Join(err, e)
	tables, e := removeTables(name)
	did(tables...)
	err = errors.Join(err, e)

	dev, e := b.conn.Link(name)
	switch {
	case errors.Is(e, nl.ErrNotFound):
	case e != nil:
		err = errors.Join(err, e)
	case dev.IsWeft():
		ports, e := b.removePorts(dev)
		did(ports...)
		err = errors.Join(err, e)
		if e := b.conn.DeleteLink(name); e != nil {
			err = errors.Join(err, e)
		} else {
			did("bridge " + name)
		}
	}
	// The bridge's routes went with it.
	err = errors.Join(err, b.conn.SyncRoutes(nil, func(r nl.Route) bool { return r.Unreachable && own.Hold(r.Dst) }))
	restored, e := restoreSysctls(sysctls)
	did(restored...)
	err = errors.Join(err, e, b.firewall.close())
	b.firewall, b.sysctls = firewall{}, nil
	return removed, err
}

func (b *Bridge) removePorts(dev nl.Link) (removed []string, err error) {
	links, err := b.conn.Links()
	for _, l := range links {
		if l.Kind != nl.KindVeth || l.Alias != dev.Alias {
			continue
		}
		if e := b.conn.DeleteLink(l.Name); e != nil {
			err = errors.Join(err, e)
			continue
		}
		removed = append(removed, "port "+l.Name)
	}
	return removed, err
}
