package bridge

import (
	"maps"
	"testing"
)

func TestSysctlsAreRestoredExactly(t *testing.T) {
	onHost(t, func(h *host) {
		h.run("ip link add d0 type veth peer name d1; sysctl -q -w net.ipv4.conf.d0.forwarding=1 net.ipv4.conf.all.accept_redirects=0")
		look := "sysctl -a -r '^net.ipv4.(conf|ip_forward)' 2>/dev/null"
		before := h.run(look)
		h.set(config())
		if _, err := h.Remove("weft", nil, maps.Clone(h.sysctls)); err != nil {
			t.Fatal(err)
		}
		if after := h.run(look); after != before {
			t.Errorf("sysctls differ after Remove")
		}
	})
}
