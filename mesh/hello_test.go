package mesh

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// These tests use TCP and UDP of the loopback interface.

func TestPeersJoinOverRealSockets(t *testing.T) {
	tok := newToken(t)
	a := start(t, nil, Config{Token: tok, Name: "pa"})
	b := start(t, nil, Config{Token: tok, Name: "pb", Targets: []string{a.Advertise().String()}})
	if n, err := b.Join(t.Context()); n != 1 || err != nil {
		t.Fatalf("Join = %d, %v", n, err)
	}
	peers := []*testPeer{a, b}
	all(t, 30*time.Second, "knows the other", peers, knowsAlive(peers))
	a.say("small")
	b.say(strings.Repeat("large", 1000))
	all(t, 30*time.Second, "hears", peers, func(p *testPeer) bool {
		return p.board.has("small") && p.board.has(strings.Repeat("large", 1000))
	})
}

func TestHelloTellsBothSidesWhy(t *testing.T) {
	tok := newToken(t)
	p := start(t, nil, Config{Token: tok, Name: "p", Settings: []byte("settings")})
	addr := p.Advertise().String()
	foreign, badSecret := newToken(t), tok
	badSecret.Secret[0]++
	stranger := HelloSelf{ID: newIdentity(t).ID, Name: "stranger"}
	differs := stranger
	differs.Settings = []byte("other settings")
	for _, tc := range []struct {
		name, code string
		token      Token
		self       HelloSelf
		server     bool     // refused by the server, which then counts it
		says       []string // to the user
	}{
		{"foreign mesh", CodeForeignMesh, foreign, stranger, true, []string{addr, tok.MeshID.String(), foreign.MeshID.String(), "weft token show"}},
		{"wrong secret", CodeBadToken, badSecret, stranger, true, []string{addr, "secret", "weft token show"}},
		{"other settings", CodeSettings, tok, differs, true, []string{addr, "settings", "weft reset"}},
		{"itself", CodeSelf, tok, HelloSelf{ID: p.id()}, false, []string{addr, "own"}},
	} {
		_, err := Hello(t.Context(), addr, tc.token, tc.self)
		var refused *RefusedError
		if !errors.As(err, &refused) || refused.Code != tc.code {
			t.Errorf("%s: %v; want code %s", tc.name, err, tc.code)
			continue
		}
		for _, s := range tc.says {
			if !strings.Contains(err.Error(), s) {
				t.Errorf("%s: %q does not say %q", tc.name, err, s)
			}
		}
		if tc.server {
			eventually(t, 10*time.Second, "the server knows, too: "+tc.name, func() bool {
				for _, r := range p.Refusals() {
					if r.Code == tc.code && r.Name == "stranger" && r.Addr == "127.0.0.1" && r.Reason != "" {
						return true
					}
				}
				return false
			})
		}
	}
	w, err := Hello(t.Context(), addr, tok, stranger)
	if err != nil || string(w.Settings) != "settings" || w.ID != p.id() || w.Name != "p" {
		t.Errorf("a good hello: %+v, %v", w, err)
	}
}

// serve answers each connection to a free port in one way.
func serve(t *testing.T, answer func(net.Conn)) (addr string, stop func()) {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			answer(c)
			c.Close()
		}
	}()
	stop = func() { l.Close(); <-done }
	t.Cleanup(stop)
	return l.Addr().String(), stop
}

func TestHelloToWhatIsNotWeftSaysSo(t *testing.T) {
	addr, stop := serve(t, func(c net.Conn) { io.WriteString(c, "HTTP/1.1 400 Bad Request\r\n\r\n") })
	var unreachable *UnreachableError
	_, err := Hello(t.Context(), addr, newToken(t), HelloSelf{})
	if !errors.As(err, &unreachable) || !errors.Is(err, errNotWeft) {
		t.Errorf("hello to another server: %v", err)
	}
	stop()
	_, err = Hello(t.Context(), addr, newToken(t), HelloSelf{})
	_, port, _ := net.SplitHostPort(addr)
	if !errors.As(err, &unreachable) || errors.Is(err, errNotWeft) || !strings.Contains(err.Error(), "TCP and UDP pass to port "+port) {
		t.Errorf("hello to nobody: %v", err)
	}
}

func TestHelloDoesNotWaitForEachOfManyThatAreSilent(t *testing.T) {
	tok := newToken(t)
	p := start(t, nil, Config{Token: tok, Name: "p"})
	var addrs []string
	for range 12 { // a minute, if each had its time
		silent, _ := serve(t, func(c net.Conn) { _, _ = io.Copy(io.Discard, c) })
		addrs = append(addrs, silent)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	self := HelloSelf{ID: newIdentity(t).ID, Name: "stranger"}
	if _, err := HelloFirst(ctx, append(addrs, p.Advertise().String()), tok, self); err != nil {
		t.Error(err)
	}
	ctx, cancel = context.WithCancel(t.Context())
	cancel()
	if _, err := HelloFirst(ctx, addrs[:2], tok, self); err == nil || !strings.Contains(err.Error(), addrs[0]) || !strings.Contains(err.Error(), addrs[1]) {
		t.Errorf("nobody answers: %v", err)
	}
}

func TestRefusalsWithoutAProofAreBelievedOnlyWhereNoneIsPossible(t *testing.T) {
	for _, code := range []string{CodeDeparted, CodeSettings, CodeBadToken, "\x1b[31mred"} {
		addr, stop := serve(t, func(c net.Conn) {
			var open helloOpen
			if _, err := io.CopyN(io.Discard, c, int64(len(magic))); err != nil {
				return
			}
			_, _ = readFrame(c, &open)
			_, _ = writeFrame(c, helloAnswer{Verdict: verdict{Code: code, Reason: "run rm -rf /"}})
		})
		_, err := Hello(t.Context(), addr, newToken(t), HelloSelf{})
		if !errors.Is(err, errNotWeft) || strings.Contains(err.Error(), "rm -rf") || strings.Contains(err.Error(), "\x1b") {
			t.Errorf("%q: %v", code, err)
		}
		stop()
	}
}

func TestEndOfAHelloThatIsChangedOnTheWayIsNotBelieved(t *testing.T) {
	tok := newToken(t)
	p := start(t, nil, Config{Token: tok, Name: "p", Settings: []byte("settings")})
	for name, change := range map[string]func(*helloEnd){
		"settings": func(e *helloEnd) { e.Settings = []byte("other") },
		"a refusal": func(e *helloEnd) {
			e.Verdict, e.Settings = verdict{CodeDeparted, "go away"}, nil
		},
	} {
		// A host in the middle passes on all frames but for the last.
		addr, stop := serve(t, func(client net.Conn) {
			server, err := net.Dial("tcp", p.Advertise().String())
			if err != nil {
				return
			}
			defer server.Close()
			var open helloOpen
			var answer helloAnswer
			var proof helloProof
			var end helloEnd
			_, _ = io.CopyN(server, client, int64(len(magic)))
			_, _ = readFrame(client, &open)
			_, _ = writeFrame(server, open)
			_, _ = readFrame(server, &answer)
			_, _ = writeFrame(client, answer)
			_, _ = readFrame(client, &proof)
			_, _ = writeFrame(server, proof)
			_, _ = readFrame(server, &end)
			change(&end)
			_, _ = writeFrame(client, end)
		})
		w, err := Hello(t.Context(), addr, tok, HelloSelf{ID: newIdentity(t).ID})
		var refused *RefusedError
		if err == nil || errors.As(err, &refused) {
			t.Errorf("%s: believed: %+v, %v", name, w, err)
		}
		stop()
	}
}

func TestVersionRefusalNamesBothVersions(t *testing.T) {
	v := judge(Token{}, helloOpen{Protocol: 99})
	if v.Code != CodeVersion || !strings.Contains(v.Reason, "99") || !strings.Contains(v.Reason, fmt.Sprint(ProtocolVersion)) {
		t.Errorf("%+v", v)
	}
	addr, _ := serve(t, func(c net.Conn) {
		var open helloOpen
		if _, err := io.CopyN(io.Discard, c, int64(len(magic))); err != nil {
			return
		}
		_, _ = readFrame(c, &open)
		_, _ = writeFrame(c, helloAnswer{Verdict: verdict{Code: CodeVersion}, Protocol: 99})
	})
	_, err := Hello(t.Context(), addr, newToken(t), HelloSelf{})
	var refused *RefusedError
	if !errors.As(err, &refused) || refused.Code != CodeVersion || !strings.Contains(refused.Reason, "99") {
		t.Errorf("the client hears %v", err)
	}
}

func TestGarbageOnThePortDoesNotDisturbTheMesh(t *testing.T) {
	tok := newToken(t)
	a := start(t, nil, Config{Token: tok, Name: "pa"})
	b := start(t, nil, Config{Token: tok, Name: "pb", Targets: []string{a.Advertise().String()}})
	if _, err := b.Join(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, junk := range []string{"WEFT", "WEFT\xff\xff", "WEFT\x00\x05hello", "GET / HTTP/1.1\r\n\r\n", strings.Repeat("\xf4", 3000), "x"} {
		c, err := net.Dial("tcp", a.Advertise().String())
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(c, junk)
		c.Close()
	}
	a.say("still here")
	eventually(t, 30*time.Second, "gossip goes on", func() bool { return b.board.has("still here") })
}

func TestPortThatIsTakenIsAnErrorThatNamesIt(t *testing.T) {
	tok := newToken(t)
	a := start(t, nil, Config{Token: tok, Name: "p"})
	_, err := New(Config{Identity: newIdentity(t), Token: tok, Bind: a.Advertise(), Logger: quiet()})
	if err == nil || !strings.Contains(err.Error(), a.Advertise().String()) {
		t.Errorf("New: %v", err)
	}
}

func TestOnePortServesHelloAndMembershipOfManyHosts(t *testing.T) {
	tok := newToken(t)
	p := start(t, nil, Config{Token: tok, Name: "p"})
	for i := range 20 {
		self := HelloSelf{ID: newIdentity(t).ID, Name: fmt.Sprint(i), Advertise: netip.MustParseAddrPort("192.0.2.1:1")}
		if _, err := Hello(t.Context(), p.Advertise().String(), tok, self); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(p.Peers()); n != 1 {
		t.Errorf("a hello alone made %d peers known", n-1)
	}
}
