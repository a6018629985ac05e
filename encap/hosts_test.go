package encap

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/weft-net/weft/internal/nl"
)

// host is a network namespace with an underlay device u0, a bridge b0 that has
// the host's gateway address, and a driver.
type host struct {
	t     *testing.T
	ns    *nl.Namespace
	make  func() (Driver, error)
	drv   Driver
	local Local
	peer  Peer // as the others know it
}

// overEach runs a test over each transport.
func overEach(t *testing.T, test func(t *testing.T, transport string)) {
	for _, name := range []string{"vxlan", "wireguard"} {
		t.Run(name, func(t *testing.T) { test(t, name) })
	}
}

// maker of a transport's drivers; what they leave behind ends with the test.
func maker(t *testing.T, transport string) func() (Driver, error) {
	log := slog.New(slog.DiscardHandler)
	if transport == "vxlan" {
		return func() (Driver, error) { return NewVXLAN(log) }
	}
	process := ownProcess(t)
	return func() (Driver, error) { return NewWireGuard(log, process) }
}

// segment makes n hosts on one underlay. The first has 10.32.1.0/24 behind it,
// with the gateway 10.32.1.1, and so on.
func segment(t *testing.T, transport string, n int) []*host {
	t.Helper()
	wire := namespace(t)
	sh(t, wire, "ip link add br0 type bridge; ip link set br0 up")
	var hosts []*host
	for i := 1; i <= n; i++ {
		id, gateway := uuid.UUID{byte(i)}, netip.AddrFrom4([4]byte{10, 32, byte(i), 1})
		h := &host{t: t, ns: namespace(t), make: maker(t, transport)}
		key := newKey(t)
		// The sockets of processes are in one directory, whatever namespace they are in.
		h.local = Local{ID: id, Device: fmt.Sprintf("t%d-%d", os.Getpid(), i), Key: key, Alias: nl.AliasPrefix + "test", Port: 6784, VNI: 7,
			Underlay: netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}), Source: gateway}
		h.peer = Peer{ID: id, Underlay: h.local.Underlay, VTEP: gateway, Prefixes: []netip.Prefix{netip.PrefixFrom(gateway, 24).Masked()}, Key: key.Public()}
		connect(t, h.ns, "u0", wire, fmt.Sprintf("p%d", i))
		sh(t, wire, fmt.Sprintf("ip link set p%d master br0 up", i))
		h.run(fmt.Sprintf("ip link set lo up; ip address add %s/24 dev u0; ip link set u0 up; "+
			"ip link add b0 type bridge; ip address add %s/24 dev b0; ip link set b0 up; sysctl -q -w net.ipv4.ip_forward=1", h.local.Underlay, gateway))
		h.driver()
		hosts = append(hosts, h)
	}
	return hosts
}

func namespace(t *testing.T) *nl.Namespace {
	t.Helper()
	ns, err := nl.NewNamespace()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ns.Close() })
	return ns
}

// connect makes a veth pair between two namespaces.
func connect(t *testing.T, a *nl.Namespace, nameA string, b *nl.Namespace, nameB string) {
	t.Helper()
	conn, err := nl.OpenIn(a)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.CreateVeth(nl.Veth{Host: nameA, Peer: nameB, MTU: 1500, PeerNS: b}); err != nil {
		t.Fatal(err)
	}
}

// try runs a shell command in a namespace.
func try(ns *nl.Namespace, cmd string) (out string, err error) {
	err = ns.Do(func() error {
		b, err := exec.Command("sh", "-c", cmd).CombinedOutput()
		out = string(b)
		return err
	})
	return out, err
}

// sh runs a shell command that has to succeed.
func sh(t *testing.T, ns *nl.Namespace, cmd string) string {
	t.Helper()
	out, err := try(ns, cmd)
	if err != nil {
		t.Fatalf("%s: %v: %s", cmd, err, out)
	}
	return out
}

func (h *host) run(cmd string) string {
	h.t.Helper()
	return sh(h.t, h.ns, cmd)
}

// driver starts a driver in place of the one before, as a new process does.
func (h *host) driver() {
	h.t.Helper()
	h.do(func() (err error) {
		if h.drv != nil {
			err = h.drv.Close()
		} else {
			h.t.Cleanup(func() { h.drv.Close() })
		}
		if err == nil {
			h.drv, err = h.make()
		}
		return err
	})
}

func (h *host) do(fn func() error) {
	h.t.Helper()
	if err := h.ns.Do(fn); err != nil {
		h.t.Fatal(err)
	}
}

// mesh has every host carry traffic to all others.
func mesh(hosts []*host) {
	for _, h := range hosts {
		h.t.Helper()
		var peers []Peer
		for _, other := range hosts {
			peers = append(peers, other.peer)
		}
		h.do(func() error {
			if err := h.drv.Up(h.local); err != nil {
				return err
			}
			return carry(h.drv, peers)
		})
	}
}

// carry has a driver be ready for these peers, and leads the routes over it.
func carry(drv Driver, peers []Peer) error {
	conn, err := nl.Open()
	if err != nil {
		return err
	}
	defer conn.Close()
	err = drv.Set(peers)
	return errors.Join(err, conn.SyncRoutes(drv.Routes(), func(r nl.Route) bool { return !r.Unreachable }))
}

func (h *host) reaches(to string) bool {
	_, err := try(h.ns, "ping -c 3 -i 0.05 -W 1 "+to)
	return err == nil
}

// wantFull fails the test unless each host reaches each other's gateway.
func wantFull(t *testing.T, hosts []*host, when string) {
	t.Helper()
	for _, a := range hosts {
		for _, b := range hosts {
			if !a.reaches(b.local.Source.String()) {
				t.Errorf("%s %s does not reach %s", when, a.local.Source, b.local.Source)
			}
		}
	}
}

func TestThreeHostsReachWhatIsBehindEachOther(t *testing.T) {
	overEach(t, func(t *testing.T, transport string) {
		hosts := segment(t, transport, 3)
		mesh(hosts)
		wantFull(t, hosts, "at first")
		hosts[2].drv.Close()
		wantFull(t, hosts, "after a driver let go")
	})
}

func TestPacketsPassUpToTheMTUAndLargerOnesAreRefusedWithAReason(t *testing.T) {
	overEach(t, func(t *testing.T, transport string) {
		hosts := segment(t, transport, 2)
		mesh(hosts)
		mtu := map[string]int{"vxlan": 1450, "wireguard": 1440}[transport]
		if got := hosts[0].drv.MTU(); got != mtu {
			t.Errorf("MTU = %d over an underlay of 1500; want %d", got, mtu)
		}
		// A container whose own MTU is as large as the underlay's.
		c := namespace(t)
		connect(t, c, "eth0", hosts[0].ns, "v0")
		hosts[0].run("ip link set v0 master b0 up")
		sh(t, c, "ip address add 10.32.1.9/24 dev eth0; ip link set eth0 up; ip route add default via 10.32.1.1")
		for from, ns := range map[string]*nl.Namespace{"the host": hosts[0].ns, "a container": c} {
			ping := func(bytes int) (string, error) {
				return try(ns, fmt.Sprintf("ping -c 1 -W 2 -M do -s %d 10.32.2.1", bytes-28)) // less the headers of ICMP and IP
			}
			if out, err := ping(mtu); err != nil {
				t.Errorf("%d bytes from %s do not pass: %s", mtu, from, out)
			}
			out, err := ping(mtu + 1)
			if err == nil || !strings.Contains(strings.ReplaceAll(out, "mtu = ", "mtu="), fmt.Sprint("mtu=", mtu)) {
				t.Errorf("%d bytes from %s get no answer that names the MTU: %s", mtu+1, from, out)
			}
		}
	})
}

func TestTrafficFollowsAPeerToItsNewUnderlayAddress(t *testing.T) {
	overEach(t, func(t *testing.T, transport string) {
		hosts := segment(t, transport, 2)
		mesh(hosts)
		wantFull(t, hosts, "at first")
		hosts[1].run("ip address flush dev u0; ip address add 192.0.2.77/24 dev u0")
		if hosts[0].reaches("10.32.2.1") {
			t.Fatal("the peer answers at an address that it no longer has")
		}
		hosts[1].local.Underlay, hosts[1].peer.Underlay = addr("192.0.2.77"), addr("192.0.2.77")
		mesh(hosts)
		wantFull(t, hosts, "after the move")
	})
}

func TestTrafficFollowsAPrefixToItsNewHost(t *testing.T) {
	overEach(t, func(t *testing.T, transport string) {
		hosts := segment(t, transport, 3)
		mesh(hosts)
		from, to := hosts[1], hosts[2]
		const moving = "10.32.2.128/25"
		from.peer.Prefixes, to.peer.Prefixes = prefixes("10.32.2.0/25"), prefixes("10.32.3.0/24", moving)
		to.run("ip address add 10.32.2.200/32 dev b0")
		from.run("ip address delete 10.32.2.1/24 dev b0; ip address add 10.32.2.1/25 dev b0")
		mesh(hosts)
		wantFull(t, hosts, "after the move")
		for _, h := range hosts {
			if !h.reaches("10.32.2.200") {
				t.Errorf("%s does not reach the address that moved", h.local.Source)
			}
		}
		if got := hosts[0].run("ip route show " + moving); transport == "vxlan" && !strings.Contains(got, "via 10.32.3.1") {
			t.Errorf("the route to what moved is %s", got)
		}
	})
}

func TestNewProcessAdoptsTheDeviceAndLosesNoPacket(t *testing.T) {
	overEach(t, func(t *testing.T, transport string) {
		hosts := segment(t, transport, 2)
		mesh(hosts)
		index := hosts[0].run("ip -o link show " + hosts[0].local.Device + " | cut -d: -f1")
		summary := make(chan string, 1)
		go func() {
			out, _ := try(hosts[0].ns, "ping -c 100 -i 0.01 -W 1 10.32.2.1") // what it lost is in what it prints
			summary <- out
		}()
		for range 5 {
			hosts[0].driver()
			hosts[1].driver()
			mesh(hosts)
		}
		if out := <-summary; !strings.Contains(out, "100 packets transmitted, 100 received") {
			t.Errorf("packets were lost: %s", out)
		}
		if got := hosts[0].run("ip -o link show " + hosts[0].local.Device + " | cut -d: -f1"); got != index {
			t.Errorf("the device was made anew: %s, was %s", got, index)
		}
	})
}
