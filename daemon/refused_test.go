package daemon

import (
	"maps"
	"net/netip"
	"testing"

	"github.com/weft-net/weft/internal/nl"
	"github.com/weft-net/weft/mesh"
)

func TestHardwareAddressOfARemovedHostIsKnownForLongerThanTheHost(t *testing.T) {
	at := func(i byte) netip.Addr { return netip.AddrFrom4([4]byte{192, 0, 2, i}) }
	found := map[netip.Addr]nl.MAC{at(1): {1}, at(2): {2}, at(3): {3}, at(4): {}}
	peers := []mesh.Peer{{Record: mesh.Body{Underlay: []netip.Addr{at(1), at(3)}}}, {Record: mesh.Body{Underlay: []netip.Addr{at(5)}}}}
	inUse := map[netip.Addr]bool{at(3): true}
	want := map[netip.Addr]nl.MAC{at(1): {1}, at(2): {2}, at(5): {}}
	if got := behindNothing(found, peers, inUse); !maps.Equal(got, want) {
		t.Errorf("refused: %v; want %v", got, want)
	}
}
