package cli

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/weft-net/weft/api"
)

func TestRelayedLinkSaysByWhomAndWhy(t *testing.T) {
	relays := []api.PeerName{{ID: uuid.UUID{2}, Name: "h2"}, {ID: uuid.UUID{3}, Name: "h3"}}
	s := api.Status{Links: []api.Link{
		{Name: "h4", Transport: "vxlan", Proven: true, Loss: 1, MTU: 1450, Via: relays, ViaRTT: 12 * time.Millisecond, Broken: "no probe is answered"},
		{Name: "h5", Transport: "vxlan", Why: "it is the fastest", Broken: "h5 says so"},
	}}
	row := linkRows(s, false)[1]
	if want := []string{"h4", "00000000", "relay via h2, h3", "no", "~12ms", "-", "1450"}; !slices.Equal(row[:7], want) || row[len(row)-1] != "relayed" {
		t.Errorf("%q; want %q", row, want)
	}
	notes := strings.Join(linkNotes(s), "\n")
	for _, want := range []string{"h4 by relay via h2, h3: no probe is answered", "h5 by vxlan: it is the fastest; no host is known that could relay, and h5 says so"} {
		if !strings.Contains(notes, want) {
			t.Errorf("%q is not in:\n%s", want, notes)
		}
	}
	peer := api.Status{Peers: []api.Peer{{Name: "h1", Broken: relays[:1], Mute: relays[1:]}, {Name: "h2"}}}
	rows := peerRows(peer, true)
	last := len(rows[0]) - 1
	if rows[1][last] != "h2, h3" || rows[2][last] != "-" {
		t.Errorf("%q", rows)
	}
}
