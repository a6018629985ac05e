package bridge

import (
	"maps"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/weft-net/weft/internal/ula"
)

func TestSysctlsAreRestoredExactly(t *testing.T) {
	onHost(t, func(h *host) {
		h.run("ip link add d0 type veth peer name d1; sysctl -q -w net.ipv4.conf.d0.forwarding=1 net.ipv4.conf.all.accept_redirects=0")
		look := "sysctl -a -r '^net.ipv4.(conf|ip_forward)' 2>/dev/null"
		before := h.run(look)
		h.set(config())
		if _, err := h.Remove("weft", nil, maps.Clone(h.sysctls), ula.Ranges{}); err != nil {
			t.Fatal(err)
		}
		if after := h.run(look); after != before {
			t.Errorf("sysctls differ after Remove")
		}
	})
}

func TestRoutesOfAnotherWeftOnThisHostAreLeftAlone(t *testing.T) {
	onHost(t, func(h *host) {
		const theirs = "ip route show proto 87 table main | grep 10.64; ip -6 route show proto 87 | grep fd00"
		h.run("ip link add w2 type bridge; ip link set w2 up; ip route add unreachable 10.64.0.0/12 proto 87 metric 4278198272; " +
			"ip route add 10.64.0.0/16 dev w2 proto 87; ip -6 route add unreachable fd00::/64 proto 87 metric 4278198272; ip route add unreachable 10.40.0.0/16 proto 87")
		was := h.run(theirs)
		cfg := config()
		cfg.Own = ula.RangesOf(uuid.UUID{1}, cfg.Range)
		h.set(cfg)
		if got := h.run("ip route show proto 87"); strings.Contains(got, "10.40") || !strings.Contains(got, "unreachable 10.32.0.0/12") {
			t.Errorf("its own routes:\n%s", got)
		}
		if got := h.run(theirs); got != was {
			t.Errorf("after Set the other's routes are\n%s\nwere\n%s", got, was)
		}
		if _, err := h.Remove("weft", nil, maps.Clone(h.sysctls), cfg.Own); err != nil {
			t.Fatal(err)
		}
		if got := h.run(theirs); got != was {
			t.Errorf("after Remove the other's routes are\n%s\nwere\n%s", got, was)
		}
		if got := h.run("ip route show proto 87 | grep -v 10.64; true"); got != "" {
			t.Errorf("is left:\n%s", got)
		}
	})
}
