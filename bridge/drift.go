package bridge

import (
	"github.com/weft-net/weft/internal/nl"
)

// Drifted tells whether somebody has changed what the last Set left, of those
// things whose change the kernel does not announce: sysctls, and the rules of
// the older iptables. It takes some tens of microseconds.
func (b *Bridge) Drifted() bool {
	if b.sysctls == nil || b.firewall.accepts == nil {
		return false // it failed, or there was none; that is tried again anyway
	}
	for key, value := range b.sysctls {
		if now, err := nl.Sysctl(key); err == nil && now != value {
			return true
		}
	}
	if b.firewall.seen == nil {
		return true
	}
	now, err := nl.LegacyFilter()
	return err == nil && now != b.firewall.seen.Legacy
}
