package bridge

import (
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"

	"github.com/weft-net/weft/internal/nl"
)

// forwarding is how a family's is turned on.
type forwarding struct {
	all  string   // the sysctl
	each []string // patterns of what the kernel also writes with it
}

var (
	forwarding4 = forwarding{"ipv4/ip_forward", []string{"ipv4/conf/*/forwarding", "ipv4/conf/all/accept_redirects"}}
	forwarding6 = forwarding{"ipv6/conf/all/forwarding", []string{"ipv6/conf/*/forwarding"}}
)

// routerAdvertisements says for each device whether it heeds them: 1 for as
// long as it does not forward, 2 for always.
const routerAdvertisements = "ipv6/conf/*/accept_ra"

// setSysctls turns forwarding on, with what was before kept first, and sets up
// the bridge's own, which vanish with it.
func (b *Bridge) setSysctls(cfg Config) error {
	b.sysctls = nil
	if err := b.forward(forwarding4, func() error { return nil }); err != nil {
		return err
	}
	own := map[string]string{
		"ipv4/conf/" + cfg.Name + "/forwarding": "1",
		// The bridge answers ARP for what lies behind a tunnel, so that containers
		// can have the whole range on-link; without the delay that is meant to
		// let a real owner answer first.
		"ipv4/conf/" + cfg.Name + "/proxy_arp":    "1",
		"ipv4/neigh/" + cfg.Name + "/proxy_delay": "0",
		// Hosts on the bridge are reached directly or not at all.
		"ipv4/conf/" + cfg.Name + "/send_redirects": "0",
	}
	// Only with it does a published port answer on 127.0.0.1. A runtime's portmap
	// turns it on for its own ports.
	switch localnet := "ipv4/conf/" + cfg.Name + "/route_localnet"; {
	case cfg.loopbackPublished():
		own[localnet] = "1"
	case !cfg.Services:
		own[localnet] = "0"
	}
	if cfg.IPv6.IsValid() {
		if err := b.forward(forwarding6, b.keepRouters); err != nil {
			return err
		}
		own["ipv6/conf/"+cfg.Name+"/forwarding"] = "1"
	}
	for _, key := range slices.Sorted(maps.Keys(own)) {
		if err := nl.SetSysctl(key, own[key]); err != nil {
			return err
		}
	}
	own[forwarding4.all] = "1"
	if cfg.IPv6.IsValid() {
		own[forwarding6.all] = "1"
	}
	b.sysctls = own
	return nil
}

// forward turns forwarding on, if it is not.
func (b *Bridge) forward(f forwarding, prepare func() error) error {
	now, err := nl.Sysctl(f.all)
	if err != nil || now != "0" {
		return err
	}
	keys := []string{f.all}
	for _, pattern := range f.each {
		more, err := nl.Sysctls(pattern)
		if err != nil {
			return err
		}
		keys = append(keys, more...)
	}
	for _, key := range keys {
		if err := b.saveSysctl(key); err != nil {
			return err
		}
	}
	if err := prepare(); err != nil {
		return err
	}
	return nl.SetSysctl(f.all, "1")
}

// keepRouters lets devices that hear of their routers by advertisements go on
// hearing: a host that forwards forgets those routers at once, and its default
// route with them, unless the device says that it heeds them all the same.
func (b *Bridge) keepRouters() error {
	keys, err := nl.Sysctls(routerAdvertisements)
	if err != nil {
		return err
	}
	for _, key := range keys {
		device := path.Base(path.Dir(key))
		if device == "all" || device == "default" {
			continue // of no device that is there
		}
		heeds, err := nl.Sysctl(key)
		forwards, e := nl.Sysctl("ipv6/conf/" + device + "/forwarding")
		if err != nil || e != nil || heeds != "1" || forwards != "0" {
			continue // it is gone, or did not heed them before
		}
		if err := b.saveSysctl(key); err != nil {
			return err
		}
		if err := nl.SetSysctl(key, "2"); err != nil && !errors.Is(err, nl.ErrNotFound) {
			return err
		}
	}
	return nil
}

// saveSysctl keeps a value; that of a device that is gone needs no keeping.
func (b *Bridge) saveSysctl(key string) error {
	value, err := nl.Sysctl(key)
	if errors.Is(err, nl.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := b.saver.SaveSysctl(key, value); err != nil {
		return fmt.Errorf("keep sysctl net/%s: %w", key, err)
	}
	return nil
}

// restoreSysctls writes back what was kept: first those that overwrite others.
func restoreSysctls(saved map[string]string) (restored []string, err error) {
	keys := slices.Sorted(maps.Keys(saved))
	for _, first := range []string{forwarding4.all, forwarding6.all} {
		if i := slices.Index(keys, first); i > 0 {
			keys = append([]string{first}, slices.Delete(keys, i, i+1)...)
		}
	}
	for _, key := range keys {
		e := nl.SetSysctl(key, saved[key])
		switch {
		case errors.Is(e, nl.ErrNotFound): // its device is gone
		case e != nil:
			err = errors.Join(err, e)
		case key == forwarding4.all || key == forwarding6.all:
			restored = append(restored, "sysctl net/"+key)
		}
	}
	return restored, err
}
