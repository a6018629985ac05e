package mesh

import (
	"net/netip"
	"testing"
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
