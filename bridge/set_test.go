package bridge

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/weft-net/weft/internal/ula"
)

func TestSetTwiceChangesNothingAndRemoveTakesAllBack(t *testing.T) {
	onHost(t, func(h *host) {
		before := h.run(everything)
		h.set(config())
		first := h.run(everything)
		for _, want := range []string{"10.32.0.1/32", "10.32.0.0/13 dev weft", "unreachable 10.32.0.0/12", "masquerade", "net.ipv4.ip_forward = 1"} {
			if !strings.Contains(first, want) {
				t.Errorf("%q is not in\n%s", want, first)
			}
		}
		h.set(config())
		if again := h.run(everything); again != first {
			t.Errorf("the second Set changed something:\n%s\nwas:\n%s", again, first)
		}
		if _, err := h.Remove("weft", []string{"weft-vx"}, h.sysctls, ula.Ranges{}); err != nil {
			t.Fatal(err)
		}
		if after := h.run(everything); after != before {
			t.Errorf("Remove leaves:\n%s\nwas:\n%s", after, before)
		}
	})
}

func TestForeignDeviceOfTheBridgesNameIsLeftAlone(t *testing.T) {
	onHost(t, func(h *host) {
		h.run("ip link add weft type bridge")
		if err := h.Set(config()); err == nil || !strings.Contains(err.Error(), "is not weft's") {
			t.Errorf("Set = %v", err)
		}
		if _, err := h.Remove("weft", nil, nil, ula.Ranges{}); err != nil {
			t.Error(err)
		}
		h.run("ip link show weft")
	})
}

func TestHostsWithoutIptablesGetNoTables(t *testing.T) {
	onHost(t, func(h *host) {
		h.set(config())
		if out := h.run("nft list tables; cat /proc/thread-self/net/ip_tables_names 2>/dev/null || true"); strings.TrimSpace(out) != "table inet weft\ntable bridge weft" {
			t.Errorf("tables: %s", out)
		}
	})
}

func TestAHostThatBecomesAnotherPeerHasItsLinkAddressAlone(t *testing.T) {
	onHost(t, func(h *host) {
		cfg := config()
		cfg.Links = netip.MustParsePrefix("240.0.0.0/5")
		for _, link := range []string{"240.0.0.7", "241.2.3.4"} {
			cfg.Link = netip.MustParseAddr(link)
			h.set(cfg)
			if out := h.run("ip -4 -o address show dev weft to 240.0.0.0/5"); strings.Count(out, "inet") != 1 || !strings.Contains(out, link+"/32") {
				t.Errorf("the addresses of links are %s; want %s alone", out, link)
			}
		}
	})
}
