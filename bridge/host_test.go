package bridge

import (
	"log/slog"
	"net"
	"net/netip"
	"os/exec"
	"testing"

	"github.com/weft-net/weft/internal/nl"
)

// saved is a SysctlSaver in memory.
type saved map[string]string

func (s saved) SaveSysctl(key, value string) error {
	if _, ok := s[key]; !ok {
		s[key] = value
	}
	return nil
}

// host is a network namespace that a Bridge works in, and one for a container.
type host struct {
	t *testing.T
	*Bridge
	sysctls saved
	guests  []*nl.Namespace
}

// onHost runs a test in a namespace of its own. Subtests would be outside of
// it: they have goroutines of their own.
func onHost(t *testing.T, fn func(h *host)) {
	t.Helper()
	ns, err := nl.NewNamespace()
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	h := &host{t: t, sysctls: saved{}}
	for range 3 {
		g, err := nl.NewNamespace()
		if err != nil {
			t.Fatal(err)
		}
		defer g.Close()
		h.guests = append(h.guests, g)
	}
	err = ns.Do(func() error {
		if h.Bridge, err = New(h.sysctls, slog.New(slog.DiscardHandler)); err != nil {
			return err
		}
		defer h.Close()
		h.run("ip link set lo up; sysctl -q -w net.ipv6.conf.default.disable_ipv6=1")
		fn(h)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func (h *host) run(cmd string) string {
	h.t.Helper()
	out, err := exec.Command("sh", "-c", cmd).CombinedOutput()
	if err != nil {
		h.t.Errorf("%s: %v: %s", cmd, err, out)
	}
	return string(out)
}

const everything = "ip -o link | grep -v '@if'; ip -o address; ip route show table all; nft -a list ruleset; sysctl net.ipv4.ip_forward net.ipv4.conf.all.accept_redirects net.ipv4.conf.lo.forwarding"

func config() Config {
	return Config{
		Name: "weft", MAC: net.HardwareAddr{0x0e, 1, 2, 3, 4, 5}, Alias: nl.AliasPrefix + "test", MTU: 1450,
		Range: netip.MustParsePrefix("10.32.0.0/12"), Gateway: netip.MustParseAddr("10.32.0.1"),
		Prefixes: []netip.Prefix{netip.MustParsePrefix("10.32.0.0/13")}, Tunnels: []string{"weft-vx"}, Probed: []string{"weft-vx"}, ProbePort: 6786, Masquerade: true,
	}
}

// port of guest n. Its namespace has no name, so it goes by our descriptor.
func (h *host) port(n int, addr string) Port {
	cookie, err := h.guests[n].Cookie()
	if err != nil {
		h.t.Fatal(err)
	}
	return Port{NetNS: h.guests[n].ProcPath(), Cookie: cookie, Interface: "eth0", HostInterface: HostInterfaceName(cookie, "eth0"),
		Address: netip.PrefixFrom(netip.MustParseAddr(addr), 12), DefaultRoute: true}
}

func (h *host) inGuest(n int, cmd string) (out string, err error) {
	_ = h.guests[n].Do(func() error {
		var b []byte
		b, err = exec.Command("sh", "-c", cmd).CombinedOutput()
		out = string(b)
		return nil
	})
	return out, err
}

func (h *host) pings(n int, addr string) bool {
	_, err := h.inGuest(n, "ping -c 1 -i 0.2 -w 3 "+addr)
	return err == nil
}

func (h *host) set(cfg Config) {
	h.t.Helper()
	if err := h.Set(cfg); err != nil {
		h.t.Fatal(err)
	}
}
