package bridge

import (
	"strings"
	"testing"

	"github.com/weft-net/weft/internal/nl"
)

func TestBridgeWithServicesIsFilteredWhateverTheHostSays(t *testing.T) {
	onHost(t, func(h *host) {
		if err := nl.SetSysctl(seesBridged, "0"); err != nil {
			t.Fatal(err)
		}
		shown := func() string { return h.run("ip -d link show " + config().Name) }
		cfg := config()
		if err := h.Set(cfg); err != nil || !strings.Contains(shown(), "nf_call_iptables 0") {
			t.Errorf("without services: %v, %s", err, shown())
		}
		cfg.Services = true
		if err := h.Set(cfg); err != nil || !strings.Contains(shown(), "nf_call_iptables 1") {
			t.Errorf("with services: %v, %s", err, shown())
		}
		h.run("ip link delete " + cfg.Name)
		if err := h.Set(cfg); err != nil || !strings.Contains(shown(), "nf_call_iptables 1") {
			t.Errorf("on a bridge that was made anew: %v, %s", err, shown())
		}
	})
}
