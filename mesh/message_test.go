package mesh

import (
	"crypto/ed25519"
	"net/netip"
	"testing"

	"github.com/google/uuid"
)

func TestDirectMessageHoldsForItsWriterItsReceiverAndItsMesh(t *testing.T) {
	writer, other, self := newIdentity(t), newIdentity(t), newIdentity(t).ID
	answerAt := netip.MustParseAddrPort("192.0.2.1:6783")
	good, err := decodeMessage(directMessage(meshA, writer, self, answerAt, "ipam", []byte("give me a block")))
	if err != nil {
		t.Fatal(err)
	}
	if from, err := verifyDirect(meshA, self, good); err != nil || from != writer.ID {
		t.Fatalf("a good one: from %s, %v", from, err)
	}
	for name, tc := range map[string]struct {
		mesh, self uuid.UUID
		change     func(*message)
	}{
		"another mesh":     {uuid.UUID{2}, self, func(*message) {}},
		"another receiver": {meshA, other.ID, func(*message) {}},
		"redirected":       {meshA, other.ID, func(m *message) { m.To = other.ID }},
		"another writer":   {meshA, self, func(m *message) { m.Key = other.Key.Public().(ed25519.PublicKey) }},
		"other words":      {meshA, self, func(m *message) { m.Channels = []channelData{{Name: "ipam", Data: []byte("take it")}} }},
		"another channel":  {meshA, self, func(m *message) { m.Channels = []channelData{{Name: "dns", Data: []byte("give me a block")}} }},
		"another address":  {meshA, self, func(m *message) { m.From = netip.MustParseAddrPort("198.51.100.1:1") }},
		"no signature":     {meshA, self, func(m *message) { m.Signature = nil }},
		"no key":           {meshA, self, func(m *message) { m.Key = nil }},
		"no channel":       {meshA, self, func(m *message) { m.Channels = nil }},
	} {
		changed := good
		tc.change(&changed)
		if from, err := verifyDirect(tc.mesh, tc.self, changed); err == nil {
			t.Errorf("%s: believed, from %s", name, from)
		}
	}
}
