package encap

import (
	"bufio"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/weft-net/weft/internal/nl"
)

// inNamespace runs a test in a network namespace of its own, with an underlay
// device u0 that has our address.
func inNamespace(t *testing.T, fn func(run func(string) string)) {
	t.Helper()
	ns, err := nl.NewNamespace()
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	err = ns.Do(func() error {
		run := func(cmd string) string {
			out, err := exec.Command("sh", "-c", cmd).CombinedOutput()
			if err != nil {
				t.Errorf("%s: %v: %s", cmd, err, out)
			}
			return string(out)
		}
		// Link-local addresses would come up, and be announced, in their own time.
		run("sysctl -q -w net.ipv6.conf.default.addr_gen_mode=1; ip link add u0 type veth peer name u1; ip link set u0 up; ip link set u1 up; ip address add 192.0.2.1/24 dev u0; " +
			"ip link add bridge0 type bridge; ip link set bridge0 up; ip address add 10.32.0.1/32 dev bridge0")
		fn(run)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

const entries = "{ ip -o route show proto 87; ip -o neigh show dev weft-vx nud permanent; bridge fdb show dev weft-vx; ip -o -d link show weft-vx | grep -o 'vxlan id.*nolearning\\|mtu [0-9]*\\|alias .*'; " +
	"sysctl net.ipv4.conf.weft-vx.forwarding net.ipv4.conf.weft-vx.send_redirects; } | sort"

func local() Local {
	l := self
	l.Alias = nl.AliasPrefix + "test"
	return l
}

func TestSetProgramsRepairsAndRemoves(t *testing.T) {
	inNamespace(t, func(run func(string) string) {
		clean := run("ip -o link; ip route; ip neigh")
		v, err := NewVXLAN(slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		defer v.Close()
		peers := []Peer{
			{ID: uuid.UUID{2}, Underlay: addr("192.0.2.2"), VTEP: addr("10.40.0.0"), Prefixes: prefixes("10.40.0.0/13")},
			{ID: uuid.UUID{3}, Underlay: addr("192.0.2.3"), VTEP: addr("10.36.0.0"), Prefixes: prefixes("10.36.0.0/14")},
		}
		set := func(peers []Peer) string {
			t.Helper()
			if err := v.Up(local()); err != nil {
				t.Fatal(err)
			}
			if err := carry(v, peers); err != nil {
				t.Fatal(err)
			}
			return run(entries)
		}
		want := set(peers)
		for _, part := range []string{"10.40.0.0/13 via 10.40.0.0", "src 10.32.0.1", "onlink", "mtu 1450", "nolearning", "dst 192.0.2.3", "alias weft:test"} {
			if !strings.Contains(want, part) {
				t.Errorf("%q is not in\n%s", part, want)
			}
		}
		for what, damage := range map[string]string{
			"nothing":           "true",
			"the device":        "ip link delete weft-vx",
			"a route":           "ip route delete 10.40.0.0/13",
			"neighbours":        "ip neigh flush dev weft-vx nud permanent",
			"the MTU":           "ip link set weft-vx mtu 1300",
			"the state":         "ip link set weft-vx down",
			"the network's id":  "ip link delete weft-vx; ip link add weft-vx type vxlan id 99 dstport 6784 local 192.0.2.1; ip link set weft-vx alias weft:test",
			"learning":          "ip link delete weft-vx; ip link add weft-vx type vxlan id 7 dstport 6784 local 192.0.2.1; ip link set weft-vx alias weft:test",
			"redirects":         "sysctl -q -w net.ipv4.conf.weft-vx.send_redirects=1",
			"a foreign route":   "ip route add 10.44.0.0/24 dev weft-vx proto 87",
			"a foreign entry":   "bridge fdb add 02:00:00:00:00:09 dev weft-vx dst 192.0.2.9",
			"a neighbour's MAC": "ip neigh replace 10.40.0.0 lladdr 02:00:00:00:00:09 dev weft-vx nud permanent",
		} {
			run(damage)
			if err := carry(v, peers); err != nil {
				t.Errorf("after damage to %s: %v", what, err)
			}
			if got := run(entries); got != want {
				t.Errorf("after damage to %s:\n%s\nwant:\n%s", what, got, want)
			}
		}
		moved := []Peer{peers[0], peers[1]}
		moved[0].Prefixes, moved[1].Prefixes = peers[1].Prefixes, peers[0].Prefixes
		moved[0].VTEP, moved[1].VTEP = peers[1].VTEP, peers[0].VTEP
		if got := set(moved); !strings.Contains(got, "10.40.0.0 lladdr "+VTEPMAC(uuid.UUID{3}).String()) {
			t.Errorf("after the prefixes changed hands:\n%s", got)
		}
		if got := set(nil); strings.Contains(got, "via") || strings.Contains(got, " dst ") || strings.Contains(got, "lladdr") {
			t.Errorf("without peers there is still:\n%s", got)
		}
		if removed, err := v.Remove("weft-vx"); err != nil || len(removed) != 1 {
			t.Errorf("Remove = %v, %v", removed, err)
		}
		if got := run("ip -o link; ip route; ip neigh"); got != clean {
			t.Errorf("Remove leaves\n%s\nwas\n%s", got, clean)
		}
	})
}

func TestNoOpSetDisturbsNothing(t *testing.T) {
	inNamespace(t, func(run func(string) string) {
		v, err := NewVXLAN(slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		defer v.Close()
		peers := []Peer{
			{ID: uuid.UUID{2}, Underlay: addr("192.0.2.2"), VTEP: addr("10.40.0.0"), Prefixes: prefixes("10.40.0.0/13")},
			{ID: uuid.UUID{3}, Underlay: addr("192.0.2.3"), VTEP: addr("10.36.0.0"), Prefixes: prefixes("10.36.0.0/16", "10.37.0.0/16")},
		}
		set := func() {
			t.Helper()
			if err := v.Up(local()); err != nil {
				t.Error(err)
			}
			if err := carry(v, peers); err != nil {
				t.Error(err)
			}
		}
		set()
		// What is heard between two marks of our own is the driver's doing. The
		// first is repeated until the monitor listens; a route that is there already
		// would not be announced again.
		lines := monitor(t)
		mark := func(n int) {
			run(fmt.Sprintf("ip route add unreachable 198.51.100.%[1]d; ip route delete unreachable 198.51.100.%[1]d", n))
		}
		for listens := false; !listens; {
			mark(1)
			select {
			case _, listens = <-lines:
			case <-time.After(50 * time.Millisecond):
			}
		}
		set()
		set()
		// A mark can be lost, as any message to a monitor can: the second is
		// repeated, too, until it is heard.
		for {
			mark(2)
			select {
			case line, ok := <-lines:
				if !ok {
					t.Error("the monitor ended too early")
					return
				}
				if strings.Contains(line, "198.51.100.2") {
					return
				}
				if !strings.Contains(line, "198.51.100.1") {
					t.Errorf("a Set without need changed: %s", line)
				}
			case <-time.After(200 * time.Millisecond):
			}
		}
	})
}

// monitor announces what changes in the caller's namespace until the test ends.
func monitor(t *testing.T) <-chan string {
	t.Helper()
	cmd := exec.Command("ip", "-o", "monitor", "link", "address", "route", "neigh")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := make(chan string)
	go func() {
		defer close(lines)
		for s := bufio.NewScanner(out); s.Scan(); {
			lines <- s.Text()
		}
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		for range lines { // until it has ended
		}
		_ = cmd.Wait() // killed
	})
	return lines
}

func TestForeignDeviceIsLeftAlone(t *testing.T) {
	inNamespace(t, func(run func(string) string) {
		run("ip link add weft-vx type bridge")
		v, err := NewVXLAN(slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		defer v.Close()
		if err := v.Up(local()); err == nil || !strings.Contains(err.Error(), "is not weft's") {
			t.Errorf("Up = %v", err)
		}
		if removed, err := v.Remove("weft-vx"); len(removed) > 0 || err != nil {
			t.Errorf("Remove = %v, %v", removed, err)
		}
		run("ip link show weft-vx")
	})
}

func TestUnderlayThatIsTooSmallIsRefused(t *testing.T) {
	inNamespace(t, func(run func(string) string) {
		run("ip link set u0 mtu 1240")
		v, err := NewVXLAN(slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		defer v.Close()
		if err := v.Up(local()); err == nil || !strings.Contains(err.Error(), "MTU of 1190") {
			t.Errorf("Up = %v", err)
		}
		l := local()
		l.Underlay = addr("192.0.2.9")
		if err := v.Up(l); err == nil || !strings.Contains(err.Error(), "on no interface") {
			t.Errorf("Up without the address = %v", err)
		}
	})
}

func TestIPv6UnderlayCostsTwentyBytesMore(t *testing.T) {
	inNamespace(t, func(run func(string) string) {
		run("ip address add 2001:db8::1/64 dev u0 nodad")
		v, err := NewVXLAN(slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		defer v.Close()
		l := local()
		l.Underlay = addr("2001:db8::1")
		if err := v.Up(l); err != nil || v.MTU() != 1430 {
			t.Errorf("Up = %v, MTU %d", err, v.MTU())
		}
		peer := Peer{ID: uuid.UUID{2}, Underlay: addr("2001:db8::2"), VTEP: addr("10.40.0.0"), Prefixes: prefixes("10.40.0.0/13")}
		for range 2 {
			if err := v.Set([]Peer{peer}); err != nil {
				t.Error(err)
			}
		}
		if got := run(entries); !strings.Contains(got, "dst 2001:db8::2") || !strings.Contains(got, "mtu 1430") {
			t.Errorf("entries:\n%s", got)
		}
	})
}

func TestMTUAskedForBoundsTheDevicesAndWarnsOnceWhereItIsTooLarge(t *testing.T) {
	inNamespace(t, func(run func(string) string) {
		var logged strings.Builder
		v, err := NewVXLAN(slog.New(slog.NewTextHandler(&logged, nil)))
		if err != nil {
			t.Fatal(err)
		}
		defer v.Close()
		l := local()
		for asked, mtu := range map[int]int{1400: 1400, 1500: 1450} {
			l.MTU = asked
			for range 2 {
				if err := v.Up(l); err != nil || v.MTU() != mtu {
					t.Errorf("Up = %v, MTU %d; want %d", err, v.MTU(), mtu)
				}
			}
			if got := run(entries); !strings.Contains(got, fmt.Sprintf("mtu %d", mtu)) {
				t.Errorf("with MTU %d:\n%s", mtu, got)
			}
		}
		if got := strings.Count(logged.String(), "which counts"); got != 1 {
			t.Errorf("warned %d times:\n%s", got, logged.String())
		}
	})
}

func TestPortOfAnotherProgramIsNamedAndTakenWhenItIsFree(t *testing.T) {
	inNamespace(t, func(run func(string) string) {
		other, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.IPv4Unspecified(), self.Port)))
		if err != nil {
			t.Fatal(err)
		}
		v, err := NewVXLAN(slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		defer v.Close()
		if err := v.Up(local()); err == nil || !strings.Contains(err.Error(), "UDP port 6784") || !strings.Contains(err.Error(), "taken by another program") {
			t.Errorf("Up = %v", err)
		}
		other.Close()
		if err := v.Up(local()); err != nil {
			t.Errorf("Up when the port is free = %v", err)
		}
	})
}
