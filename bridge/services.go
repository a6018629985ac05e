package bridge

import (
	"errors"

	"github.com/weft-net/weft/internal/nl"
)

// Somebody like kube-proxy leads what a container sends to a service to another
// container, and turns the answers back. Of a neighbour on the same bridge the
// answer comes directly. So the rules for what is routed have to see what is
// bridged, which a bridge can be told for itself; the sysctl
// bridge-nf-call-iptables would say it for every bridge of the host. Where the
// kernel has no module for that (br_netfilter), the answer is made to come by the
// host instead: the container that answers sees the gateway for who asked.

// seesBridged says for every bridge what SetBridgeFilter says for one.
const seesBridged = "bridge/bridge-nf-call-iptables"

// filterBridged tells whether what passes the bridge passes the rules for what is
// routed, and sees to it if there are services.
func (b *Bridge) filterBridged(cfg Config, dev nl.Link) (bool, error) {
	everywhere, err := nl.Sysctl(seesBridged)
	if errors.Is(err, nl.ErrNotFound) {
		return false, nil
	}
	if err != nil || everywhere == "1" {
		return err == nil, err
	}
	if b.filters == nil || *b.filters != cfg.Services || b.filtered != dev.Index {
		if err := nl.SetBridgeFilter(dev, cfg.Services); err != nil {
			return false, err
		}
		b.filters, b.filtered = &cfg.Services, dev.Index
	}
	return cfg.Services, nil
}
