package mesh

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestOnlyHoldersOfTheTokenAnswerAndAreBelieved(t *testing.T) {
	tok, other := newToken(t), newToken(t)
	at, n := netip.MustParseAddrPort("192.0.2.1:6783"), nonce()
	ask := encode(segmentAsk{n, tok.segmentProof("ask", n)})
	answer := tok.answerSegment(ask, at)
	if got, ok := tok.readSegment(answer, n); !ok || got != at {
		t.Errorf("readSegment = %v, %v", got, ok)
	}
	if other.answerSegment(ask, at) != nil {
		t.Error("a host of another mesh answers")
	}
	if _, ok := tok.readSegment(other.answerSegment(encode(segmentAsk{n, other.segmentProof("ask", n)}), at), n); ok {
		t.Error("a host of another mesh is believed")
	}
	if _, ok := tok.readSegment(answer, nonce()); ok {
		t.Error("an answer to another question is believed")
	}
	if _, ok := tok.readSegment(encode(segmentAnswer{netip.MustParseAddrPort("192.0.2.2:6783"), tok.segmentProof("answer", n, encode(at))}), n); ok {
		t.Error("an answer with another address is believed")
	}
	if tok.answerSegment(encode(segmentAsk{nil, tok.segmentProof("ask")}), at) != nil {
		t.Error("a question without a nonce is answered")
	}
}

func FuzzSegment(f *testing.F) {
	tok, err := NewToken()
	if err != nil {
		f.Fatal(err)
	}
	n := nonce()
	ask := encode(segmentAsk{n, tok.segmentProof("ask", n)})
	f.Add(ask)
	f.Add(tok.answerSegment(ask, netip.MustParseAddrPort("192.0.2.1:6783")))
	f.Fuzz(func(t *testing.T, b []byte) {
		tok.answerSegment(b, netip.AddrPort{})
		tok.readSegment(b, n)
	})
}

func TestAHostIsFoundOnTheSegmentsOfAllItsAddressesAndFollowsThem(t *testing.T) {
	tok, own := newToken(t), func(list ...string) (out []netip.Addr) {
		for _, a := range list {
			out = append(out, netip.MustParseAddr(a))
		}
		return out
	}
	// A router forwards to it: what it announces is on none of its interfaces.
	p := start(t, nil, Config{Token: tok, Name: "p", Bind: netip.MustParseAddrPort("127.0.0.1:0"),
		Advertise: netip.MustParseAddrPort("192.0.2.1:6783"), Own: own("127.0.0.1", "127.0.0.2", "::1")})
	found := func(want ...string) {
		t.Helper()
		eventually(t, time.Minute, "it is found at "+strings.Join(want, " and "), func() bool {
			got, err := Finder{Token: tok, Port: 6783, Own: own("192.0.2.77", "127.0.0.9", "::1")}.Lookup(t.Context(), targetCast)
			return err == nil && slices.Equal(got, want)
		})
	}
	found("127.0.0.1:6783", "127.0.0.2:6783")
	p.Move(p.Advertise(), own("127.0.0.3"))
	found("127.0.0.3:6783")
}

func TestWhoHasNoAddressToAskBySaysSo(t *testing.T) {
	f := Finder{Token: newToken(t), Port: 6783}
	for want, own := range map[string]string{"no IPv4 address": "::1", "192.0.2.77": "192.0.2.77"} {
		f.Own = []netip.Addr{netip.MustParseAddr(own)}
		if got, err := f.Lookup(t.Context(), targetCast); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("from %s: %v, %v", own, got, err)
		}
	}
}

func TestAnAddressThatIsOnAnotherInterfaceIsHeardAnew(t *testing.T) {
	s, err := listenSegment(t.Context(), netip.MustParseAddr("127.0.0.1"))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if !s.isThere() {
		t.Error("it is gone, and nothing has changed")
	}
	s.local = netip.MustParseAddr("192.0.2.77")
	if s.isThere() {
		t.Error("the address is on no interface, and is heard there")
	}
}
