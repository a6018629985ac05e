package e2e

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/weft-net/weft/api"
	"github.com/weft-net/weft/internal/netlab"
)

// attachedDual makes a container that is on the network, and returns its IPv6
// address, too.
func attachedDual(t *testing.T, h *netlab.Host, name string) (c *netlab.Container, four, six string) {
	t.Helper()
	c = h.Container(name)
	var at api.Attachment
	if err := json.Unmarshal([]byte(h.Run("weft", "attach", name, "-o", "json")), &at); err != nil {
		t.Fatal(err)
	}
	if len(at.IPv6) != 1 || !status(t, h).IPAM.IPv6.Contains(at.IPv6[0]) {
		t.Fatalf("%s on %s has IPv6 addresses %v", name, h.Name, at.IPv6)
	}
	return c, at.Address.Addr().String(), at.IPv6[0].String()
}

func TestContainersHaveIPv6BesideIPv4AndEitherAddressNamesThem(t *testing.T) {
	_, hosts := launched(t, 1)
	h := hosts[0]
	a, _, aSix := attachedDual(t, h, "a")
	b, _, bSix := attachedDual(t, h, "b")
	s := status(t, h)
	mustPing(t, a, bSix, "container to container")
	mustPing(t, b, s.Bridge.IPv6.String(), "container to host")
	mustPing(t, h, aSix, "host to container")

	rng := s.IPAM.IPv6.Addr().As16()
	rng[12], rng[13], rng[14], rng[15] = 10, 32, 0, 77
	six := netip.AddrFrom16(rng).String()
	c := h.Container("c")
	if got := h.Run("weft", "attach", "c", six); strings.TrimSpace(got) != "10.32.0.77" {
		t.Errorf("attach of %s prints %q", six, got)
	}
	mustPing(t, c, bSix, "container with an address that was asked for")
	if out := h.Run("weft", "ps"); !strings.Contains(out, six) || !strings.Contains(out, aSix) {
		t.Errorf("ps:\n%s", out)
	}
	h.Run("weft", "expose", strings.Replace(six, "4d", "4e", 1))
	mustPing(t, a, strings.Replace(six, "4d", "4e", 1), "exposed host")
	h.Run("weft", "detach", "c", six)
	if netlab.Pings(a, six) {
		t.Error("a detached container answers")
	}
}

func TestBothFamiliesReachAllContainersAndHostsByEveryTransport(t *testing.T) {
	for _, encap := range []string{"wireguard", "vxlan", "direct"} {
		t.Run(encap, func(t *testing.T) {
			_, hosts := launched(t, 2, "--encap", encap)
			var from []netlab.Pinger
			var four, six []string
			for _, h := range hosts {
				s := status(t, h)
				from, four, six = append(from, h), append(four, s.Bridge.Gateway.Addr().String()), append(six, s.Bridge.IPv6.String())
				for _, name := range []string{"a", "b"} {
					c, c4, c6 := attachedDual(t, h, name)
					from, four, six = append(from, c), append(four, c4), append(six, c6)
				}
			}
			for i, p := range from {
				for j := range from {
					mustPing(t, p, four[j], fmt.Sprintf("%d to %d by IPv4", i, j))
					mustPing(t, p, six[j], fmt.Sprintf("%d to %d by IPv6", i, j))
				}
			}
			if p := from[1].Try("ping", "-c", "1", "-W", "3", "-s", "4000", six[4]); p.Code != 0 {
				t.Errorf("no large ping: %s%s", p.Stdout, p.Stderr)
			}
		})
	}
}

func TestIPv6FollowsAnAddressToAnotherHostAtOnce(t *testing.T) {
	_, hosts := launched(t, 2)
	a, _, _ := attachedDual(t, hosts[0], "a")
	b, _, _ := attachedDual(t, hosts[1], "b")
	_, four, six := attachedDual(t, hosts[0], "moves")
	mustPing(t, a, six, "before, beside it")
	mustPing(t, b, six, "before, from the other host")
	hosts[0].Run("weft", "detach", "moves")
	hosts[1].Container("moved")
	hosts[1].Run("weft", "attach", "moved", four)
	mustPing(t, b, six, "after, beside it")
	mustPing(t, a, six, "after, from the other host")
}

func TestMeshWithoutIPv6AndHostsThatHaveItOff(t *testing.T) {
	_, hosts := launched(t, 1, "--no-ipv6")
	h := hosts[0]
	attached(t, h, "a")
	if out := h.Run("weft", "status"); !strings.Contains(out, "off: the mesh was founded without") {
		t.Errorf("status:\n%s", out)
	}
	if out := h.Run("sysctl", "-n", "net.ipv6.conf.all.forwarding"); strings.TrimSpace(out) != "0" {
		t.Errorf("IPv6 forwarding is %s", out)
	}

	lab := netlab.New(t)
	h = lab.Host("h1")
	h.Run("sysctl", "-q", "-w", "net.ipv6.conf.all.disable_ipv6=1", "net.ipv6.conf.default.disable_ipv6=1")
	was := h.Snapshot()
	h.Run("weft", "launch")
	a, _ := attached(t, h, "a")
	_, b := attached(t, h, "b")
	mustPing(t, a, b, "IPv4 where IPv6 is off")
	if out := h.Run("weft", "status"); !strings.Contains(out, "off: sysctl net/ipv6/conf/weft/disable_ipv6 is 1") {
		t.Errorf("status:\n%s", out)
	}
	h.Run("weft", "reset", "--yes")
	h.Run("ip", "netns", "delete", "a")
	h.Run("ip", "netns", "delete", "b")
	if d := netlab.Diff(was, h.Snapshot()); d != "" {
		t.Errorf("the host differs:\n%s", d)
	}
}
