package mesh

import (
	"net/netip"

	"github.com/google/uuid"
	"github.com/hashicorp/memberlist"
)

// whereabouts is where a peer is reached from here. Memberlist knows one address
// of each peer; where this host has none of its family, one that the peer has
// said beside it may do.
func (m *Mesh) whereabouts(a memberlist.Address) memberlist.Address {
	id, err := uuid.Parse(a.Name)
	at, e := netip.ParseAddrPort(a.Addr)
	if err != nil || e != nil {
		return a
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	own := m.records[m.cfg.Identity.ID].Body.Gossip
	if better, ok := reachable(own, at, m.records[id].Body.Gossip); ok {
		a.Addr = better.String()
	}
	return a
}

// reachable picks the first of a peer's addresses that is of a family of which
// this host has one, if the one that is known is of none; ok is false if that
// stays.
func reachable(own []netip.AddrPort, known netip.AddrPort, said []netip.AddrPort) (better netip.AddrPort, ok bool) {
	have := map[bool]bool{}
	for _, o := range own {
		have[o.Addr().Is4()] = true
	}
	if len(have) == 0 || have[known.Addr().Unmap().Is4()] {
		return better, false
	}
	for _, s := range said {
		if have[s.Addr().Is4()] {
			return s, true
		}
	}
	return better, false
}
