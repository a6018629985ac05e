package encap

import (
	"errors"
	"net/netip"
	"time"

	"github.com/weft-net/weft/internal/nl"
)

// Narrow is the MTU of a way over the underlay that leaves a tunnel less than IPv6
// needs, and of which this host's own device says nothing. The zero value is a way
// that is wide enough. While a way is narrow, this host's kernel cuts what a tunnel
// sends by it: IPv6 can be cut in no other place. That hides how wide it is, so
// it is measured anew now and then.
type Narrow struct {
	MTU    int // bytes, of the underlay; 0 while it is being found out
	device int // MTU of this host's device, in bytes
	since  time.Time
	until  time.Time
}

// narrowTime is for how long a way is taken to be narrow: as long as the kernel
// believes in what it was told by ICMP.
const narrowTime = 10 * time.Minute

// settleTime is for how long a way has to be narrow before that is believed: what
// fits is searched from below.
const settleTime = 2 * time.Second

// Next is what is known of a way after a look at it: found is what fits into the
// tunnel, 0 if that is not known, overhead what the tunnel adds, and device the MTU of
// this host's device: where that changes all is measured anew.
func (n Narrow) Next(found, overhead, device int, now time.Time) Narrow {
	if n.device != device {
		n = Narrow{}
	}
	holds := now.Before(n.until)
	switch {
	case found > 0 && found < ipv6MTU && !holds && n.since.IsZero():
		return Narrow{device: device, since: now}
	case found > 0 && found < ipv6MTU && !holds && now.Sub(n.since) < settleTime:
		return n
	case found > 0 && found < ipv6MTU && (!holds || found+overhead < n.MTU):
		return Narrow{MTU: found + overhead, device: device, since: n.since, until: now.Add(narrowTime)}
	case holds, found == 0 && n.Pending() && now.Sub(n.since) < 2*settleTime:
		return n
	}
	return Narrow{}
}

// AdoptNarrow is a way that an earlier process found to be so narrow, over this host's
// device of that MTU; 0 for one of which it knew nothing.
func AdoptNarrow(mtu, device int, now time.Time) Narrow {
	if mtu == 0 || mtu >= device {
		return Narrow{}
	}
	return Narrow{MTU: mtu, device: device, since: now, until: now.Add(narrowTime)}
}

// Pending tells whether a way may be found narrow because time passes.
func (n Narrow) Pending() bool { return n.MTU == 0 && !n.since.IsZero() }

// narrowMetric is that of the routes over the underlay, by which they are told from
// all others of weft's.
const narrowMetric = 7

// Overhead is what a transport adds to each packet, in bytes.
func Overhead(transport string, underlay netip.Addr) int { return overhead(transport, underlay) }

// around are routes to the ends of peers on the underlay, by the way that the host
// has to them, that say how narrow it is. Where the host has a route of its own to
// just that address there is none.
func around(conn *nl.Conn, peers []Remote) (out []nl.Route, err error) {
	for _, p := range peers {
		for addr, mtu := range p.Narrow {
			r, e := conn.RouteOfHost(addr)
			if errors.Is(e, nl.ErrNotFound) || e == nil && r.Dst.IsSingleIP() {
				continue
			}
			if e != nil {
				err = errors.Join(err, e)
				continue
			}
			if addr.Is6() {
				mtu = max(mtu, ipv6MTU)
			}
			r.Dst, r.MTU, r.Metric = netip.PrefixFrom(addr, addr.BitLen()), mtu, narrowMetric
			out = append(out, r)
		}
	}
	return out, err
}
