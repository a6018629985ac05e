package encap

import (
	"net/netip"
	"slices"
	"time"

	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"
)

// searchTime is how long a peer's end is looked for in one place: WireGuard
// repeats the beginning of a session every five seconds.
const searchTime = 4500 * time.Millisecond

// search is how far a peer's end has been looked for.
type search struct {
	list  []netip.AddrPort // where it may be, as it was last told
	at    int              // the one of these that was set last
	since time.Time
}

// next says where a peer's end is looked for now, and whether the device has to be
// told. The list is not empty.
//
// WireGuard follows a peer to wherever its packets come from, which behind NAT is
// not what it announces: as long as it is heard of there, that is right, unless it
// announces another first place. One that is not heard of is looked for in one
// place after the other.
func (s search) next(peer wgtypes.Peer, list []netip.AddrPort, now time.Time) (_ search, set bool) {
	var at netip.AddrPort
	if peer.Endpoint != nil {
		at = peer.Endpoint.AddrPort()
		at = netip.AddrPortFrom(at.Addr().Unmap(), at.Port())
	}
	lives := now.Sub(peer.LastHandshakeTime) < sessionTime
	moved := len(s.list) > 0 && s.list[0] != list[0]
	followed := len(s.list) > 0 && at != s.list[s.at] && slices.Contains(list, at)
	switch {
	case !slices.Equal(s.list, list):
		s = search{list: list, at: max(0, slices.Index(list, at)), since: now}
		if at == list[0] || lives && (!moved || followed) {
			return s, false
		}
		if moved || !at.IsValid() {
			s.at = 0
		}
	case lives && at.IsValid():
		return s, false
	case now.Sub(s.since) >= searchTime && len(list) > 1:
		s.at, s.since = (s.at+1)%len(list), now
	}
	return s, at != list[s.at]
}
