package bridge

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/weft-net/weft/internal/nl"
)

func TestContainersOnTheBridgeReachEachOtherAndTheHost(t *testing.T) {
	onHost(t, func(h *host) {
		cfg := config()
		cfg.Ports = []Port{h.port(0, "10.32.0.2"), h.port(1, "10.32.0.3")}
		h.set(cfg)
		if !h.pings(0, "10.32.0.3") || !h.pings(1, "10.32.0.1") {
			t.Error("no ping")
		}
		out, _ := h.inGuest(0, "ip -o link show eth0; ip -o address show eth0; ip route")
		for _, want := range []string{"0a:57:0a:20:00:02", "mtu 1450", "10.32.0.2/12", "default via 10.32.0.1"} {
			if !strings.Contains(out, want) {
				t.Errorf("%q is not in\n%s", want, out)
			}
		}
	})
}

func TestPlumbRefusesWhatIsNotOursAndUndoes(t *testing.T) {
	onHost(t, func(h *host) {
		cfg := config()
		h.set(cfg)
		links := h.run("ip -o link")
		if _, err := h.inGuest(0, "ip link add eth0 type bridge"); err != nil {
			t.Fatal(err)
		}
		if _, err := h.Plumb(cfg, h.port(0, "10.32.0.2")); err == nil || !strings.Contains(err.Error(), "has an interface eth0 already") {
			t.Errorf("Plumb over a foreign interface: %v", err)
		}
		gone := h.port(1, "10.32.0.2")
		gone.Cookie++
		if _, err := h.Plumb(cfg, gone); !errors.Is(err, nl.ErrNotFound) {
			t.Errorf("Plumb of another namespace: %v", err)
		}
		gone.NetNS = "/run/netns/there-is-none"
		if _, err := h.Plumb(cfg, gone); !errors.Is(err, nl.ErrNotFound) {
			t.Errorf("Plumb of no namespace: %v", err)
		}
		if now := h.run("ip -o link"); now != links {
			t.Errorf("left behind:\n%s\nwas:\n%s", now, links)
		}
	})
}

func TestSetFollowsChangedAddressesAndGatewayOfAPortThatIsThere(t *testing.T) {
	onHost(t, func(h *host) {
		cfg := config()
		p := h.port(0, "10.32.0.2")
		p.More = h.port(0, "10.32.0.5").Addresses()
		cfg.Ports = []Port{p}
		h.set(cfg)
		cfg.Gateway = netip.MustParseAddr("10.32.0.9")
		p.More = h.port(0, "10.32.0.6").Addresses()
		cfg.Ports = []Port{p}
		h.set(cfg)
		out, _ := h.inGuest(0, "ip -o address show eth0; ip route")
		for _, want := range []string{"10.32.0.2/12", "10.32.0.6/12", "default via 10.32.0.9"} {
			if !strings.Contains(out, want) {
				t.Errorf("%q is not in\n%s", want, out)
			}
		}
		if strings.Contains(out, "10.32.0.5") {
			t.Errorf("an address that may not be used any more is still there:\n%s", out)
		}
	})
}
