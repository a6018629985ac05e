package e2e

import (
	"fmt"
	"strings"
	"testing"

	"github.com/weft-net/weft/internal/netlab"
)

// serveTCP answers every connection with the name of the container and the
// address that the connection comes from.
func serveTCP(t *testing.T, c *netlab.Container, port int) {
	t.Helper()
	c.Start("python3", "-c", fmt.Sprintf(`
import socket
s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind(("0.0.0.0", %d)); s.listen(16)
while True:
    c, a = s.accept(); c.sendall(("%s " + a[0]).encode()); c.close()
`, port, c.Name))
	netlab.Eventually(t, c.Name+" listens", func() bool { return askTCP(c, "127.0.0.1", port) != "" })
}

// serveUDP answers every datagram likewise.
func serveUDP(t *testing.T, c *netlab.Container, port int) {
	t.Helper()
	c.Start("python3", "-c", fmt.Sprintf(`
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(("0.0.0.0", %d))
while True:
    _, a = s.recvfrom(100); s.sendto(("%s " + a[0]).encode(), a)
`, port, c.Name))
	netlab.Eventually(t, c.Name+" listens", func() bool { return askUDP(c, "127.0.0.1", port) != "" })
}

// askTCP is what a server says to whoever connects; "" for no answer.
func askTCP(from netlab.Pinger, addr string, port int) string {
	return strings.TrimSpace(from.Try("python3", "-c", fmt.Sprintf(
		`import socket; s = socket.create_connection(("%s", %d), 1); print(s.recv(100).decode())`, addr, port)).Stdout)
}

// askUDP is what a server says to a datagram; "" for no answer.
func askUDP(from netlab.Pinger, addr string, port int) string {
	return strings.TrimSpace(from.Try("python3", "-c", fmt.Sprintf(
		`import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(1); s.sendto(b"x", ("%s", %d)); print(s.recv(100).decode())`, addr, port)).Stdout)
}

func TestPublishedPortIsReachedFromEverywhere(t *testing.T) {
	lab, hosts := launched(t, 2)
	outside := lab.Host("outside")
	h := hosts[0]
	web, addr := attached(t, h, "web")
	near, nearAddr := attached(t, h, "near")
	far, _ := attached(t, hosts[1], "far")
	gateway := status(t, h).Bridge.Gateway.Addr().String()
	serveTCP(t, web, 80)
	serveUDP(t, web, 53)
	h.Run("weft", "publish", "web", "8080:80", "5300:53/udp")

	check := func(t *testing.T) {
		t.Helper()
		for _, tc := range []struct {
			what, to string
			from     netlab.Pinger
			source   string // that the container sees
		}{
			{"outside", h.Addr.String(), outside, outside.Addr.String()},
			{"another host", h.Addr.String(), hosts[1], hosts[1].Addr.String()},
			{"another host, by the gateway", gateway, hosts[1], status(t, hosts[1]).Bridge.Gateway.Addr().String()},
			{"a container of another host", h.Addr.String(), far, hosts[1].Addr.String()},
			{"the host", h.Addr.String(), h, ""},
			{"the host, by 127.0.0.1", "127.0.0.1", h, gateway},
			{"another container", h.Addr.String(), near, gateway},
			{"another container, by the gateway", gateway, near, gateway},
			{"the container itself", h.Addr.String(), web, gateway},
		} {
			if got := askTCP(tc.from, tc.to, 8080); !strings.HasPrefix(got, "web "+tc.source) {
				t.Errorf("TCP from %s: %q", tc.what, got)
			}
			if got := askUDP(tc.from, tc.to, 5300); !strings.HasPrefix(got, "web "+tc.source) {
				t.Errorf("UDP from %s: %q", tc.what, got)
			}
		}
		if got := askTCP(near, addr, 80); got != "web "+nearAddr {
			t.Errorf("between containers the source is hidden: %q", got)
		}
	}
	check(t)
	t.Run("where others drop what is forwarded", func(t *testing.T) {
		h.Run("bash", "-c", "iptables-nft -P FORWARD DROP; iptables-legacy -P FORWARD DROP; sysctl -q -w net.bridge.bridge-nf-call-iptables=1")
		netlab.Eventually(t, "it is reached", func() bool { return askTCP(outside, h.Addr.String(), 8080) != "" && askTCP(near, addr, 80) != "" })
		check(t)
	})
	t.Run("a container does not get to the host's 127.0.0.1", func(t *testing.T) {
		h.Start("python3", "-m", "http.server", "--bind", "127.0.0.1", "9999")
		netlab.Eventually(t, "the host listens", func() bool {
			return h.Try("python3", "-c", `import socket; socket.create_connection(("127.0.0.1", 9999), 1)`).Code == 0
		})
		near.Run("bash", "-c", "ip route add 127.0.0.0/8 via "+gateway+" dev eth0 table 77; ip rule add pref 0 to 127.0.0.1 table 77; ip rule add pref 1 lookup local; ip rule delete pref 0 lookup local; sysctl -q -w net.ipv4.conf.all.route_localnet=1")
		if r := near.Try("python3", "-c", `import socket; socket.create_connection(("127.0.0.1", 9999), 1)`); r.Code == 0 {
			t.Error("it does")
		}
	})
	t.Run("it lasts", func(t *testing.T) {
		kill9(t, h)
		if got := askTCP(outside, h.Addr.String(), 8080); !strings.HasPrefix(got, "web ") {
			t.Errorf("without the daemon: %q", got)
		}
		h.Run("nft", "flush", "ruleset")
		h.Run("weft", "launch")
		if got := askTCP(outside, h.Addr.String(), 8080); !strings.HasPrefix(got, "web ") {
			t.Errorf("after a new start: %q", got)
		}
	})
	t.Run("it goes", func(t *testing.T) {
		h.Run("weft", "unpublish", "web", "8080")
		if got := askTCP(outside, h.Addr.String(), 8080); got != "" {
			t.Errorf("after unpublish: %q", got)
		}
		if got := askUDP(outside, h.Addr.String(), 5300); got == "" {
			t.Error("the other port went as well")
		}
		h.Run("weft", "detach", "web")
		if rules := h.Run("nft", "list", "table", "inet", "weft"); strings.Contains(rules, "5300") {
			t.Errorf("after detach:\n%s", rules)
		}
		if out := h.Run("weft", "publish", "-o", "json"); out != "[]" {
			t.Errorf("still listed: %s", out)
		}
	})
}

func TestPublishRefusesWhatCannotBe(t *testing.T) {
	_, hosts := launched(t, 1)
	h := hosts[0]
	attached(t, h, "a")
	attached(t, h, "b")
	h.Container("loose")
	h.Run("weft", "publish", "a", "8080:80", "192.0.2.1:8081:81", "7000-7003:7100-7103/udp")
	was := h.Run("nft", "-s", "list", "ruleset")
	h.Run("weft", "publish", "a", "8080:80") // the same again
	for _, tc := range []struct {
		code int
		want string
		args string
	}{
		{1, "leads to container a already", "b 8080:80"},
		{1, "leads to container a already", "a 8080:81"},
		{1, "leads to container a already", "b 9000:9000 192.0.2.1:8080:80"},
		{1, "leads to container a already", "b 8081:80"},
		{1, "leads to container a already", "b 6999-7001:6999-7001/udp"},
		{1, "weft's own", "b 6783:80"},
		{1, "weft's own", "b 6785:80/udp"},
		{1, "is not attached", "loose 9000:80"},
		{1, "is not attached", "none 9000:80"},
		{2, "is no address of this host", "b 10.32.0.77:9000:80"},
		{2, "is no port", "b 0:80"},
		{2, "is no port", "b 80"},
		{2, "is no port", "b 80:80/sctp"},
		{2, "differ in length", "b 80-82:80-81"},
		{2, "more than 1024", "b 1000-9999:1000-9999"},
		{2, "which ports", "b"},
	} {
		refuses(t, h, tc.code, tc.want, append([]string{"weft", "publish"}, strings.Fields(tc.args)...)...)
	}
	if is := h.Run("nft", "-s", "list", "ruleset"); is != was {
		t.Errorf("the rules are\n%s\nwere\n%s", is, was)
	}
	h.Start("python3", "-m", "http.server", "9000")
	netlab.Eventually(t, "the host listens", func() bool { return strings.Contains(h.Run("cat", "/proc/net/tcp"), ":2328") })
	if r := h.Try("weft", "publish", "b", "9000:80"); r.Code != 0 || !strings.Contains(r.Stderr, "a process of the host listens on tcp port 9000") {
		t.Errorf("over a process of the host: exit code %d: %s", r.Code, r.Stderr)
	}
	if out := h.Run("weft", "ps", "-o", "wide"); !strings.Contains(out, "8080:80/tcp,192.0.2.1:8081:81/tcp,7000:7100/udp") {
		t.Errorf("ps shows\n%s", out)
	}
	h.Run("weft", "unpublish", "a")
	h.Run("weft", "publish", "b", "8080:80")
}
