package e2e

import (
	"strings"
	"testing"

	"github.com/weft-net/weft/internal/netlab"
)

// damage spoils a page of a host's store.
func damage(h *netlab.Host) {
	h.Run("dd", "if=/dev/urandom", "of=/var/lib/weft/weft.db", "bs=4096", "seek=2", "count=20", "conv=notrunc", "status=none")
}

func TestDamagedStoreIsRefusedAndSetAsideOnRequest(t *testing.T) {
	lab := newLab(t)
	h1, h2 := lab.Host("h1"), lab.Host("h2")
	h1.Run("weft", "launch")
	join := strings.Fields(h1.Run("weft", "token", "show"))
	h2.Run(append(join, "--bridge", "wb")...)
	_, addr1 := attached(t, h1, "a")
	c, addr2 := attached(t, h2, "c")
	was := status(t, h2).Self.ID
	h2.Run("weft", "stop")
	damage(h2)
	sum := h2.Run("sha256sum", "/var/lib/weft/weft.db")

	for range 2 {
		refuses(t, h2, 1, "the store /var/lib/weft/weft.db is damaged", "weft", "launch")
		refuses(t, h2, 1, "--set-aside-store", join...)
	}
	refuses(t, h2, 1, "weft reset --force", "weft", "reset", "--yes")
	if got := h2.Run("sha256sum", "/var/lib/weft/weft.db"); got != sum {
		t.Error("the damaged store was changed")
	}
	mustPing(t, c, addr1, "containers go on meanwhile")

	h1.Run("weft", "stop")
	refuses(t, h2, 1, "no weft answers", append(join, "--set-aside-store")...)
	refuses(t, h2, 1, "is damaged", "weft", "launch") // what failed has put it back
	if got := h2.Run("bash", "-c", "sha256sum /var/lib/weft/weft.db*"); got != sum {
		t.Errorf("after a launch that failed there are %s", got)
	}
	h1.Run("weft", "launch")

	r := h2.Try(append(join, "--set-aside-store")...)
	if r.Code != 0 || !strings.Contains(r.Stderr, "/var/lib/weft/weft.db.corrupt-2") || !strings.Contains(r.Stderr, "new peer") {
		t.Fatalf("exit code %d: %s", r.Code, r.Stderr)
	}
	if got := h2.Run("bash", "-c", "sha256sum /var/lib/weft/weft.db.corrupt-*"); got[:64] != sum[:64] {
		t.Error("the store that was set aside is another")
	}
	if s := status(t, h2); s.Self.ID == was {
		t.Error("it is still the same peer")
	}
	if h2.Try("ip", "link", "show", "wb").Code == 0 {
		t.Error("the lost peer's bridge is still there")
	}
	h2.Run("weft", "attach", "c")
	netlab.Eventually(t, "the container is back on the network", func() bool { return netlab.Pings(c, addr1) })
	if got := h2.Run("weft", "ps", "c"); strings.Contains(got, addr2+" ") {
		t.Errorf("the address of a peer that is lost was given again: %s", got)
	}

	h2.Run("weft", "stop") // a store that can be read is never set aside
	ready := h2.Run("weft", "launch", "--set-aside-store", "-o", "json")
	if strings.Contains(ready, "setAside") {
		t.Error("a sound store was set aside")
	}
	h2.Run("weft", "stop")
	damage(h2)
	h2.Run("weft", "reset", "--yes", "--force")
	if got := h2.Run("bash", "-c", "ls /var/lib/weft | grep -c corrupt; ip -o link | grep -c weft || true"); got != "2\n0" {
		t.Errorf("after reset --force there are so many damaged stores and devices: %q", got)
	}
	h2.Run(join...)
}
