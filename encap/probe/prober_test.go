package probe

import (
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
)

func TestProbersMeasureEachOther(t *testing.T) {
	l := newLab(t)
	l.set("u0")
	for _, h := range []*host{l.a, l.b} {
		peer := map[*host]*host{l.a: l.b, l.b: l.a}[h]
		q := h.wait(to(peer, "u0"), "full size", func(q Quality) bool { return q.Works && q.MTU == 1500 })
		if q.RTT <= 0 || q.RTT > time.Second || q.Sent < 3 || q.Since.IsZero() {
			t.Errorf("%+v", q)
		}
		select {
		case <-h.prober.Changed():
		case <-time.After(5 * time.Second):
			t.Error("nobody is told of the change")
		}
	}
}

func TestLossIsSeenAndNoPathDiesOfIt(t *testing.T) {
	l := newLab(t)
	l.set("u0")
	l.a.wait(to(l.b, "u0"), "up", isUp)
	l.router.run("nft 'add table ip l; add chain ip l f { type filter hook forward priority 0; }; add rule ip l f ip daddr 10.32.2.1 numgen random mod 100 < 30 drop'")
	q := l.a.wait(to(l.b, "u0"), "lossy", func(q Quality) bool { return q.Loss > 0.1 })
	for end := time.Now().Add(6 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if now := l.a.prober.Qualities()[to(l.b, "u0")]; !now.Works || now.Since != q.Since {
			t.Fatalf("dead: %+v", now)
		}
	}
	l.router.run("nft delete table ip l")
	l.a.wait(to(l.b, "u0"), "better", func(q Quality) bool { return q.Loss < 0.2 })
}

func TestPathBlockedInOneDirectionIsDeadForBoth(t *testing.T) {
	l := newLab(t)
	l.set("u0")
	l.a.wait(to(l.b, "u0"), "up", isUp)
	l.b.wait(to(l.a, "u0"), "up", isUp)
	l.router.run("nft 'add table ip l; add chain ip l f { type filter hook forward priority 0; }; add rule ip l f ip daddr 10.32.1.1 drop'")
	blocked := time.Now()
	q := l.a.wait(to(l.b, "u0"), "dead", isDown)
	l.b.wait(to(l.a, "u0"), "dead", isDown)
	t.Logf("dead after %s", q.Since.Sub(blocked))
	l.router.run("nft delete table ip l")
	l.a.wait(to(l.b, "u0"), "up again", isUp)
	l.b.wait(to(l.a, "u0"), "up again", isUp)
}

func TestMTUOfARouterThatSaysNothingIsFound(t *testing.T) {
	l := newLab(t)
	l.set("u0")
	l.a.wait(to(l.b, "u0"), "full size", func(q Quality) bool { return q.MTU == 1500 })
	l.router.run("nft 'add table ip l; add chain ip l o { type filter hook output priority 0; }; add rule ip l o ip protocol icmp drop'; ip link set b0 mtu 1337")
	l.a.wait(to(l.b, "u0"), "1337", func(q Quality) bool { return q.Works && q.MTU == 1337 })
	l.b.wait(to(l.a, "u0"), "1337", func(q Quality) bool { return q.Works && q.MTU == 1337 })
}

func TestKernelsOwnBeliefOfThePathsMTUDoesNotMatter(t *testing.T) {
	l := newLab(t)
	l.a.run("ip route replace 10.32.2.1 via 192.0.2.254 mtu 1300")
	l.set("u0")
	l.a.wait(to(l.b, "u0"), "full size", func(q Quality) bool { return q.MTU == 1500 })
}

func TestTunnelIsProbedWithoutARouteAndFoundAgainWhenItWasMadeAnew(t *testing.T) {
	l := newLab(t)
	tunnel := func(h *host, local, remote string) {
		h.run("ip link add v0 type vxlan id 7 dstport 4789 local " + local + " remote " + remote + "; ip address add " + h.gateway.String() + "/32 dev v0; ip link set v0 mtu 1450 up")
	}
	tunnel(l.a, "192.0.2.1", "198.51.100.1")
	tunnel(l.b, "198.51.100.1", "192.0.2.1")
	l.set("u0", "v0")
	l.a.wait(to(l.b, "u0"), "up", isUp)
	q := l.a.wait(to(l.b, "v0"), "up with the MTU of the tunnel", func(q Quality) bool { return q.Works && q.MTU == 1450 })

	l.a.run("ip link del v0")
	l.a.wait(to(l.b, "v0"), "dead", isDown)
	if err := l.a.trySet(l.b, "u0", "v0"); err == nil || !strings.Contains(err.Error(), "v0") {
		t.Errorf("a device that is not there: %v", err)
	}
	tunnel(l.a, "192.0.2.1", "198.51.100.1")
	l.a.set(l.b, "u0", "v0")
	again := l.a.wait(to(l.b, "v0"), "up again", isUp)
	if !again.Since.After(q.Since) || again.Sent < q.Sent {
		t.Errorf("what was known is lost: %+v, was %+v", again, q)
	}
	if q := l.a.prober.Qualities()[to(l.b, "u0")]; !q.Works {
		t.Error("the other path died with it")
	}
}

func TestStrangerIsNotAnsweredAndNotBelieved(t *testing.T) {
	l := newLab(t)
	l.b.prober.Close()
	l.b.start(2)
	l.set("u0")
	q := l.a.wait(to(l.b, "u0"), "tried", func(q Quality) bool { return q.Sent > 12 })
	if q.Works || q.RTT != 0 || q.MTU != 0 || q.Loss != 1 {
		t.Errorf("%+v", q)
	}
	if q := l.b.prober.Qualities()[to(l.a, "u0")]; q.Works {
		t.Errorf("%+v", q)
	}
}

func TestAnswerIsAsLargeAsTheAskAndGivenToThoseWhoMeanThisHost(t *testing.T) {
	l := newLab(t)
	l.b.set(l.a, "u0")
	c := codecOf(t, 1)
	var conn *net.UDPConn
	if err := l.a.ns.Do(func() (err error) {
		conn, err = net.DialUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(l.a.gateway, 0)), net.UDPAddrFromAddrPort(netip.AddrPortFrom(l.b.gateway, Port)))
		return err
	}); err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	reply := func(packet []byte, patience time.Duration) int {
		if _, err := conn.Write(packet); err != nil {
			t.Fatal(err)
		}
		_ = conn.SetReadDeadline(time.Now().Add(patience))
		buf := make([]byte, mostSize)
		n, err := conn.Read(buf)
		if err != nil {
			return 0
		}
		return n
	}
	ask := func(to uuid.UUID, kind kind) []byte {
		return c.seal(make([]byte, mostSize), message{kind, l.a.id, to, 1, 1000})
	}
	if n := reply(ask(l.b.id, kindAsk), 10*time.Second); n != 1000-headers {
		t.Errorf("an ask of %d bytes is answered by %d", 1000-headers, n)
	}
	for what, packet := range map[string][]byte{
		"to another host": ask(uuid.UUID{9}, kindAsk), "an answer": ask(l.b.id, kindAnswer),
		"nothing": {}, "noise": make([]byte, 500),
	} {
		if n := reply(packet, 200*time.Millisecond); n != 0 {
			t.Errorf("%s is answered by %d bytes", what, n)
		}
	}
}

func TestBadTargetsAreRefusedAndChangeNothing(t *testing.T) {
	l := newLab(t)
	l.set("u0")
	good := Target{Path: to(l.b, "u0"), Addr: l.b.gateway, MTU: 1500}
	for what, bad := range map[string]func(t *Target){
		"no device":       func(t *Target) { t.Device = "" },
		"no address":      func(t *Target) { t.Addr = netip.Addr{} },
		"IPv6":            func(t *Target) { t.Addr = netip.MustParseAddr("fd00::1") },
		"an MTU of 0":     func(t *Target) { t.MTU = 0 },
		"an MTU too much": func(t *Target) { t.MTU = 65536 },
		"twice":           func(*Target) {},
	} {
		second := good
		bad(&second)
		if err := l.a.ns.Do(func() error { return l.a.prober.Set([]Target{good, second}) }); err == nil {
			t.Errorf("%s is taken", what)
		}
	}
	l.a.wait(good.Path, "up", isUp)
}

func TestSetIsIdempotentAndForgetsWhatIsNoTarget(t *testing.T) {
	l := newLab(t)
	l.set("u0")
	before := l.a.wait(to(l.b, "u0"), "up", isUp)
	for range 20 {
		l.set("u0")
	}
	if now := l.a.prober.Qualities()[to(l.b, "u0")]; now.Since != before.Since || now.Sent < before.Sent {
		t.Errorf("%+v, was %+v", now, before)
	}
	l.a.set(l.b)
	if q := l.a.prober.Qualities(); len(q) != 0 {
		t.Errorf("%+v", q)
	}
	l.b.wait(to(l.a, "u0"), "dead, since nobody answers", isDown)
	l.a.set(l.b, "u0")
	l.b.wait(to(l.a, "u0"), "up", isUp)
}

func TestClosedProberLeavesNothingOpen(t *testing.T) {
	l := newLab(t)
	for range 20 {
		l.set("u0")
		l.a.prober.Close()
		l.a.prober.Close()
		if err := l.a.trySet(l.b, "u0"); err == nil {
			t.Fatal("a closed prober takes targets")
		}
		l.a.start(1)
	}
	if out := l.a.run("ss -Hlnu"); strings.Contains(out, "6786") {
		t.Errorf("sockets are left: %s", out)
	}
	l.set("u0")
	l.a.wait(to(l.b, "u0"), "up", isUp)
}
