package mesh

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestPeerThatTakesNothingIsSentNothingMore(t *testing.T) {
	m := &Mesh{sending: map[string]sending{}}
	for _, peer := range []string{"dead", "dead", "live"} {
		if !m.begin(peer) {
			t.Fatalf("the first sends to %s are held back", peer)
		}
	}
	for name, s := range m.sending {
		s.since = s.since.Add(-2 * stuckAfter)
		m.sending[name] = s
	}
	if m.begin("dead") {
		t.Error("a peer that is stuck takes another sender")
	}
	if m.end("live", true); !m.begin("live") {
		t.Error("a peer that answers is held back")
	}
	m.end("dead", false)
	if m.end("dead", false); !m.begin("dead") {
		t.Error("a peer is held back for ever")
	}
	m.begin("live")
	s := m.sending["live"]
	m.sending["live"] = sending{s.n, time.Now().Add(-2 * stuckAfter)}
	if m.end("live", true); !m.begin("live") {
		t.Error("a peer to which messages come through is held back")
	}
}

func TestSlowPeerTakesAFewSendersAtMost(t *testing.T) {
	m := &Mesh{sending: map[string]sending{}}
	for range 10 {
		if !m.begin("near") {
			t.Fatal("many at once are held back")
		}
	}
	m.sending["far"] = sending{slowLetters - 1, time.Now().Add(-2 * slowAfter)}
	if !m.begin("far") || m.begin("far") {
		t.Errorf("%d are under way to a peer that is slow", m.sending["far"].n)
	}
}

func TestMessageGoesByAPacketWhereItFitsOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		peers := meshIn(t, newNetwork(t, 2), 2)
		one, two := peers[0], peers[1]
		for i, length := range []int{4, 2 * maxPacket} {
			text := strings.Repeat("x", length)
			one.SendPacket(two.id(), "board", []byte(text))
			eventually(t, 10*time.Second, "it arrives", func() bool {
				got := two.board.messages()
				return len(got) == i+1 && got[i] == one.id().String()+" "+text
			})
		}
		one.SendPacket(newIdentity(t).ID, "board", []byte("to nobody"))
	})
}
