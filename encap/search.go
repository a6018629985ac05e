package encap

import (
	"net/netip"
	"slices"
	"time"

	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"
)

const (
	// searchTime is how long a peer's end is looked for in one place: WireGuard
	// repeats the beginning of a session every five seconds.
	searchTime = 4500 * time.Millisecond
	// keptAlive is for how long a peer lives that was heard: there is a keepalive
	// more often than that.
	keptAlive = 2*keepalive + 10*time.Second
	// searchRounds is how often all places are tried for a peer that falls silent while
	// its session lasts. Who is not found goes on at the place where it was heard.
	searchRounds = 2
)

// search is how far a peer's end has been looked for.
type search struct {
	list  []netip.AddrPort // where it may be, as it was last told
	at    int              // the one of the places that was set last
	since time.Time
	tried int // places, since the peer was not silent

	received int64          // bytes, from the peer, at the last look
	heard    time.Time      // when that was last seen to have grown, by the clock that nobody sets
	home     netip.AddrPort // where it was then
}

// next says where a peer's end is looked for now, and whether the device has to be
// told. The list is not empty.
//
// WireGuard follows a peer to wherever its packets come from, which behind NAT is
// not what it announces: as long as it is heard of there, that is right, unless it
// announces another first place. One that is not heard of is looked for in one
// place after the other: where it does not answer probes, once nothing has come from it
// for as long as patience, which is 0 where it does or never did, and else once its
// session is over. Where just one way of the two is cut, who hears nothing looks for
// the other, which follows.
func (s search) next(peer wgtypes.Peer, list []netip.AddrPort, patience time.Duration, now time.Time) (_ search, set bool) {
	var at netip.AddrPort
	if peer.Endpoint != nil {
		at = peer.Endpoint.AddrPort()
		at = netip.AddrPortFrom(at.Addr().Unmap(), at.Port())
	}
	fresh := now.Sub(peer.LastHandshakeTime) < sessionTime
	if peer.ReceiveBytes != s.received {
		if s.received = peer.ReceiveBytes; s.list != nil || fresh { // else it may be long ago
			s.heard, s.home = now, at
		}
	}
	if patience == 0 {
		s.tried = 0
	}
	moved := len(s.list) > 0 && s.list[0] != list[0]
	followed := len(s.list) > 0 && at != s.place() && slices.Contains(list, at)
	// Of the time of a session only the wall clock is known, which may be set.
	lives := fresh || now.Sub(s.heard) < keptAlive
	same := slices.Equal(s.list, list)
	s.list = list
	places := s.places()
	if patience > 0 && now.Sub(s.heard) >= patience && s.tried < searchRounds*len(places) {
		lives = false
	}
	switch {
	case !same:
		s.at, s.since = max(0, slices.Index(places, at)), now
		if at == list[0] || lives && (!moved || followed) {
			return s, false
		}
		if moved || !at.IsValid() {
			s.at = 0
		}
	case lives && at.IsValid():
		return s, false
	case now.Sub(s.since) >= searchTime && len(places) > 1:
		if i := slices.Index(places, at); i >= 0 {
			s.at = i
		}
		s.at, s.since = (s.at+1)%len(places), now
		if s.tried++; s.tried == searchRounds*len(places) {
			s.at = max(0, slices.Index(places, s.home))
		}
	}
	return s, at != s.place()
}

// places are where the peer is looked for: where it may be, and where it was heard.
func (s search) places() []netip.AddrPort {
	if s.home.IsValid() && !slices.Contains(s.list, s.home) {
		return append(slices.Clone(s.list), s.home)
	}
	return s.list
}

func (s search) place() netip.AddrPort {
	if places := s.places(); s.at < len(places) {
		return places[s.at]
	}
	return s.list[0]
}
