package bridge

import (
	"strings"
	"testing"
)

func TestNobodyAnswersForAnAddressOfNoPeer(t *testing.T) {
	onHost(t, func(h *host) {
		cfg := config()
		cfg.Ports = []Port{h.port(0, "10.32.0.2")}
		h.set(cfg)
		if h.pings(0, "10.40.0.7") {
			t.Error("10.40.0.7 answers")
		}
		if out, _ := h.inGuest(0, "ip neigh show 10.40.0.7"); strings.Contains(out, "lladdr") {
			t.Errorf("ARP is answered: %s", out)
		}
	})
}

func TestAddressThatMovedToAnotherContainerIsReachedAtOnce(t *testing.T) {
	onHost(t, func(h *host) {
		cfg := config()
		old, moved, watcher := h.port(0, "10.32.0.2"), h.port(2, "10.32.0.2"), h.port(1, "10.32.0.3")
		cfg.Ports = []Port{old, watcher}
		h.set(cfg)
		if !h.pings(1, "10.32.0.2") {
			t.Fatal("no ping")
		}
		if err := h.Unplumb(cfg, old); err != nil {
			t.Fatal(err)
		}
		if _, err := h.Plumb(cfg, moved); err != nil {
			t.Fatal(err)
		}
		if !h.pings(1, "10.32.0.2") {
			t.Error("the first ping is lost")
		}
	})
}
