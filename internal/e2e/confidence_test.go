package e2e

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/weft-net/weft/internal/netlab"
)

// What a question and an answer of DNS are about, which nobody else is to read.
const (
	askedFor = "asked-in-confidence"
	answered = "told-in-confidence"
)

// resolve has one container ask another for a name, which answers as a name server
// does.
func resolve(t *testing.T, from, at *netlab.Container, addr string) {
	t.Helper()
	server, client := at.Listen("udp4", ":53"), from.Listen("udp4", ":0")
	failed := make(chan error, 1)
	go func() { // ends with the socket
		buf := make([]byte, 512)
		for {
			n, who, err := server.ReadFrom(buf)
			if err != nil {
				return
			}
			b, err := reply(buf[:n])
			if err == nil {
				_, err = server.WriteTo(b, who)
			}
			if err != nil {
				failed <- err
				return
			}
		}
	}()
	question := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: 7, RecursionDesired: true},
		Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName(askedFor + ".example."), Type: dnsmessage.TypeTXT, Class: dnsmessage.ClassINET}},
	}
	b, err := question.Pack()
	if err != nil {
		t.Fatal(err)
	}
	to := net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(addr), 53))
	buf := make([]byte, 512)
	netlab.Eventually(t, "a name is resolved", func() bool {
		if _, err := client.WriteTo(b, to); err != nil {
			return false
		}
		_ = client.SetReadDeadline(time.Now().Add(time.Second))
		n, _, err := client.ReadFrom(buf)
		if err != nil {
			return false
		}
		var got dnsmessage.Message
		if err := got.Unpack(buf[:n]); err != nil || len(got.Answers) != 1 || got.Answers[0].Body.(*dnsmessage.TXTResource).TXT[0] != answered {
			t.Fatalf("the answer is %+v, %v", got, err)
		}
		return true
	})
	select {
	case err := <-failed:
		t.Fatal(err)
	default:
	}
}

// reply is that to a question for text.
func reply(question []byte) ([]byte, error) {
	var m dnsmessage.Message
	if err := m.Unpack(question); err != nil {
		return nil, err
	}
	m.Response = true
	for _, q := range m.Questions {
		m.Answers = append(m.Answers, dnsmessage.Resource{
			Header: dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, TTL: 5},
			Body:   &dnsmessage.TXTResource{TXT: []string{answered}},
		})
	}
	return m.Pack()
}
