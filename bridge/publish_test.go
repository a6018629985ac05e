package bridge

import (
	"net/netip"
	"strings"
	"testing"
)

func TestAPortIsPublishedBesideAContainerThatCannotBeSetUp(t *testing.T) {
	onHost(t, func(h *host) {
		cfg := config()
		cfg.Ports = []Port{h.port(0, "10.32.0.2")}
		h.set(cfg)
		broken := h.port(1, "10.32.0.3")
		h.run("ip link add " + broken.HostInterface + " type bridge") // somebody else's
		cfg.Ports = append(cfg.Ports, broken)
		cfg.Published = []Published{{Protocol: "tcp", HostPort: 8080, Address: netip.MustParseAddr("10.32.0.2"), Port: 80}}
		if err := h.Publish(cfg, cfg.Ports[0]); err != nil {
			t.Error(err)
		}
		if rules := h.run("nft list map inet weft published"); !strings.Contains(rules, "tcp . 8080 : 10.32.0.2 . 80") {
			t.Error(rules)
		}
		if port := h.run("ip -d link show " + cfg.Ports[0].HostInterface); !strings.Contains(port, "hairpin on") {
			t.Error(port)
		}
		if on := h.run("cat /proc/sys/net/ipv4/conf/weft/route_localnet"); on != "1\n" {
			t.Errorf("route_localnet is %q", on)
		}
		if err := h.Set(cfg); err == nil {
			t.Error("the container could be set up after all")
		}
	})
}
