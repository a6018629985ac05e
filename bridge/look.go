package bridge

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/weft-net/weft/internal/nl"
)

// Found is what the kernel has of a port.
type Found struct {
	// Missing says what is not there, or not as it has to be; "" for nothing.
	Missing   string
	MAC       net.HardwareAddr
	MTU       int // bytes
	Addresses []netip.Prefix
	Routes    []nl.Route // of the interface, in the container's main table
}

// Look finds what the kernel has of a port, and changes nothing.
func (b *Bridge) Look(cfg Config, p Port) (f Found, err error) {
	ns, err := nl.OpenNamespace(p.NetNS)
	if errors.Is(err, nl.ErrNotFound) {
		f.Missing = "the network namespace " + p.NetNS
		return f, nil
	}
	if err != nil {
		return f, err
	}
	defer ns.Close()
	inside, err := nl.OpenIn(ns)
	if err != nil {
		return f, err
	}
	defer inside.Close()
	l, err := inside.Link(p.Interface)
	if errors.Is(err, nl.ErrNotFound) {
		f.Missing = fmt.Sprintf("interface %s in %s", p.Interface, p.NetNS)
		return f, nil
	}
	if err != nil {
		return f, err
	}
	f.MAC, f.MTU = l.MAC, l.MTU
	if f.Addresses, err = inside.Addrs(l); err != nil {
		return f, err
	}
	all, err := inside.Routes(false)
	if err != nil {
		return f, err
	}
	for _, r := range all {
		if r.Device == l.Index {
			f.Routes = append(f.Routes, r)
		}
	}
	if !l.Up {
		f.Missing = fmt.Sprintf("interface %s in %s is down", p.Interface, p.NetNS)
		return f, nil
	}
	f.Missing, err = b.lookOutside(cfg, p, l)
	return f, err
}

// lookOutside finds what is missing of the host's end.
func (b *Bridge) lookOutside(cfg Config, p Port, inside nl.Link) (missing string, err error) {
	dev, err := b.conn.Link(cfg.Name)
	if errors.Is(err, nl.ErrNotFound) {
		return "bridge " + cfg.Name, nil
	}
	if err != nil {
		return "", err
	}
	host, err := b.conn.Link(p.HostInterface)
	switch {
	case errors.Is(err, nl.ErrNotFound):
		return fmt.Sprintf("interface %s on the host", p.HostInterface), nil
	case err != nil:
		return "", err
	case host.Peer != inside.Index:
		return fmt.Sprintf("interface %s is not the other end of %s", p.HostInterface, p.Interface), nil
	case host.Master != dev.Index:
		return fmt.Sprintf("interface %s is not on bridge %s", p.HostInterface, cfg.Name), nil
	case !host.Up:
		return fmt.Sprintf("interface %s on the host is down", p.HostInterface), nil
	}
	return "", nil
}
