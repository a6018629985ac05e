package bridge

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/weft-net/weft/internal/nl"
)

const (
	ipForward = "ipv4/ip_forward"
	// Writing ipForward also writes these.
	eachForwarding  = "ipv4/conf/*/forwarding"
	acceptRedirects = "ipv4/conf/all/accept_redirects"
)

// setSysctls turns forwarding on, with what was before kept first, and sets up
// the bridge's own, which vanish with it.
func (b *Bridge) setSysctls(cfg Config) error {
	b.sysctls = nil
	if err := b.forward(); err != nil {
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
		// Only with it does a published port answer on 127.0.0.1.
		"ipv4/conf/" + cfg.Name + "/route_localnet": "0",
	}
	if cfg.loopbackPublished() {
		own["ipv4/conf/"+cfg.Name+"/route_localnet"] = "1"
	}
	for _, key := range slices.Sorted(maps.Keys(own)) {
		if err := nl.SetSysctl(key, own[key]); err != nil {
			return err
		}
	}
	own[ipForward] = "1"
	b.sysctls = own
	return nil
}

func (b *Bridge) forward() error {
	now, err := nl.Sysctl(ipForward)
	if err != nil || now == "1" {
		return err
	}
	keys, err := nl.Sysctls(eachForwarding)
	if err != nil {
		return err
	}
	for _, key := range append(keys, acceptRedirects, ipForward) {
		value, err := nl.Sysctl(key)
		if err != nil {
			return err
		}
		if err := b.saver.SaveSysctl(key, value); err != nil {
			return fmt.Errorf("keep sysctl net/%s: %w", key, err)
		}
	}
	return nl.SetSysctl(ipForward, "1")
}

// restoreSysctls writes back what was kept: ipForward first, since it
// overwrites the others.
func restoreSysctls(saved map[string]string) (restored []string, err error) {
	keys := slices.Sorted(maps.Keys(saved))
	if i := slices.Index(keys, ipForward); i > 0 {
		keys = append([]string{ipForward}, slices.Delete(keys, i, i+1)...)
	}
	for _, key := range keys {
		e := nl.SetSysctl(key, saved[key])
		switch {
		case errors.Is(e, nl.ErrNotFound): // its device is gone
		case e != nil:
			err = errors.Join(err, e)
		case key == ipForward:
			restored = append(restored, "sysctl net/"+key)
		}
	}
	return restored, err
}
