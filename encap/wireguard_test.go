package encap

import (
	"errors"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"

	"github.com/weft-net/weft/internal/nl"
	"github.com/weft-net/weft/internal/wgproc"
)

// TestMain makes this test a program that can be userspace WireGuard, too.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "wg" {
		if wgproc.Main(os.Args[2:]) != nil {
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// ownProcess is a process that ends with the test.
func ownProcess(t *testing.T) wgproc.Process {
	p := wgproc.Own(t.TempDir(), "test")
	t.Cleanup(func() {
		if _, err := p.EndAll(); err != nil {
			t.Error(err)
		}
	})
	return p
}

func newKey(t *testing.T) PrivateKey {
	t.Helper()
	k, err := NewPrivateKey()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// by has a carrier carry a host's packets, whatever this kernel has.
func (h *host) by(carrier Carrier) *WireGuard {
	w := h.drv.(*WireGuard)
	w.carrier = carrier
	return w
}

// byEach runs a test with each carrier that there has to be.
func byEach(t *testing.T, test func(t *testing.T, carrier Carrier)) {
	for _, carrier := range carriers {
		t.Run(string(carrier), func(t *testing.T) { test(t, carrier) })
	}
}

// alone makes a host with peers that nobody is, and its driver.
func alone(t *testing.T, carrier Carrier) (*host, *WireGuard, []Peer) {
	h := segment(t, "wireguard", 1)[0]
	peers := []Peer{
		{ID: uuid.UUID{2}, Underlay: addr("192.0.2.2"), Prefixes: prefixes("10.40.0.0/13"), Key: newKey(t).Public()},
		{ID: uuid.UUID{3}, Underlay: addr("192.0.2.3"), Prefixes: prefixes("10.36.0.0/16", "10.37.0.0/16"), Key: newKey(t).Public()},
	}
	return h, h.by(carrier), peers
}

func (h *host) set(peers []Peer) {
	h.t.Helper()
	h.do(func() error {
		if err := h.drv.Up(h.local); err != nil {
			return err
		}
		return carry(h.drv, peers)
	})
}

// look shows all that the driver is to see to.
func (h *host) look(w *WireGuard) string {
	h.t.Helper()
	dev, err := w.control.device(h.local.Device)
	if err != nil {
		h.t.Fatal(err)
	}
	var ends []string
	for _, p := range dev.Peers {
		end := p.PublicKey.String() + " " + p.Endpoint.String()
		for _, n := range p.AllowedIPs {
			end += " " + n.String()
		}
		ends = append(ends, end)
	}
	slices.Sort(ends)
	return dev.PublicKey.String() + "\n" + strings.Join(ends, "\n") + "\n" + h.run("ip -o route show proto 87 | sort; ip -o link show "+h.local.Device+" | grep -o 'mtu [0-9]*\\|[<,]UP\\|alias .*'; "+
		"ip -o address show dev "+h.local.Device+" | sed 's/^[0-9]*: //'; sysctl net.ipv4.conf."+h.local.Device+".forwarding net.ipv4.conf."+h.local.Device+".send_redirects")
}

func TestWireGuardIsSetRepairedAndRemoved(t *testing.T) {
	byEach(t, setRepairedAndRemoved)
}

func setRepairedAndRemoved(t *testing.T, carrier Carrier) {
	h, w, peers := alone(t, carrier)
	clean := h.run("ip -o link; ip route")
	h.set(peers)
	want := h.look(w)
	for _, part := range []string{"192.0.2.2:6784 10.40.0.0/13", "10.36.0.0/16 dev " + h.local.Device, "src 10.32.1.1", "mtu 1440", "UP", "alias weft:test", "forwarding = 1"} {
		if !strings.Contains(want, part) {
			t.Errorf("%q is not in\n%s", part, want)
		}
	}
	configure := func(c wgtypes.Config) {
		if err := w.control.configure(h.local.Device, c); err != nil {
			t.Error(err)
		}
	}
	stranger, first := wgtypes.Key(newKey(t).Public()), wgtypes.Key(peers[0].Key)
	everything := []net.IPNet{{IP: net.IPv4zero.To4(), Mask: net.CIDRMask(0, 32)}}
	for what, damage := range map[string]func(){
		"nothing":       func() {},
		"the device":    func() { h.run("ip link delete " + h.local.Device) },
		"the process":   func() { _ = w.End() },
		"its socket":    func() { h.run("rm -f /var/run/wireguard/" + h.local.Device + ".sock") },
		"the state":     func() { h.run("ip link set " + h.local.Device + " down") },
		"the MTU":       func() { h.run("ip link set " + h.local.Device + " mtu 1300") },
		"a route":       func() { h.run("ip route delete 10.36.0.0/16") },
		"another route": func() { h.run("ip route add 10.44.0.0/24 dev " + h.local.Device + " proto 87") },
		"all peers":     func() { configure(wgtypes.Config{ReplacePeers: true}) },
		"the key":       func() { k := wgtypes.Key(newKey(t)); configure(wgtypes.Config{PrivateKey: &k}) },
		"the port":      func() { port := 7000; configure(wgtypes.Config{ListenPort: &port}) },
		"another peer": func() {
			configure(wgtypes.Config{Peers: []wgtypes.PeerConfig{{PublicKey: stranger, AllowedIPs: everything}}})
		},
		"a peer's reach": func() {
			configure(wgtypes.Config{Peers: []wgtypes.PeerConfig{{PublicKey: first, AllowedIPs: everything}}})
		},
		"an endpoint": func() {
			configure(wgtypes.Config{Peers: []wgtypes.PeerConfig{{PublicKey: first, Endpoint: &net.UDPAddr{IP: net.IPv4(192, 0, 2, 9), Port: 1}}}})
		},
	} {
		w.started = time.Time{} // the pause between two starts is another test's
		damage()
		if what == "its socket" && carrier == CarrierUserspace { // the process notices by itself, and ends
			for n := 0; n < 100 && h.run("ip -o link show "+h.local.Device+" 2>/dev/null; true") != ""; n++ {
				time.Sleep(20 * time.Millisecond)
			}
		}
		h.do(func() error { return carry(w, peers) })
		if got := h.look(w); got != want {
			t.Errorf("after damage to %s:\n%s\nwant:\n%s", what, got, want)
		}
	}
	if w.Userspace() != (carrier == CarrierUserspace) || !w.Encrypted() {
		t.Errorf("userspace %v, encrypted %v", w.Userspace(), w.Encrypted())
	}
	h.set(nil)
	if got := h.look(w); strings.Contains(got, "192.0.2") || strings.Contains(got, "src") {
		t.Errorf("without peers there is still:\n%s", got)
	}
	h.do(func() error {
		removed, err := w.Remove(h.local.Device)
		if len(removed) != 1 {
			t.Errorf("removed: %v", removed)
		}
		return err
	})
	if got := h.run("ip -o link; ip route"); got != clean {
		t.Errorf("Remove leaves\n%s\nwas\n%s", got, clean)
	}
	if left, err := os.ReadDir(w.process.Dir); err != nil || len(left) > 0 {
		t.Errorf("Remove leaves %v, %v", left, err)
	}
	if _, err := os.Stat("/var/run/wireguard/" + h.local.Device + ".sock"); err == nil {
		t.Error("Remove leaves the socket")
	}
}

func TestWireGuardLeavesForeignDevicesAlone(t *testing.T) {
	h, w, _ := alone(t, CarrierAuto)
	h.run("ip link add " + h.local.Device + " type bridge")
	h.do(func() error {
		if err := w.Up(h.local); err == nil || !strings.Contains(err.Error(), "is not weft's") {
			t.Errorf("Up = %v", err)
		}
		if removed, err := w.Remove(h.local.Device); len(removed) > 0 || err != nil {
			t.Errorf("Remove = %v, %v", removed, err)
		}
		return nil
	})
	h.run("ip link show " + h.local.Device)
}

func TestWireGuardNamesWhoHasItsPortAndTakesItWhenItIsFree(t *testing.T) {
	h, w, peers := alone(t, CarrierUserspace)
	h.do(func() error {
		other, err := net.ListenUDP("udp4", &net.UDPAddr{Port: int(h.local.Port)})
		if err != nil {
			return err
		}
		for range 2 {
			if err := w.Up(h.local); !OnlyPortsTaken(err) || !strings.Contains(err.Error(), "UDP port 6784") || !strings.Contains(err.Error(), "taken by another program") {
				t.Errorf("Up = %v", err)
			}
		}
		if !w.started.IsZero() {
			t.Error("a process was started that could not have its port")
		}
		other.Close()
		if err := w.Up(h.local); err != nil {
			return err
		}
		if _, err := w.process.End(h.local.Device); err != nil {
			return err
		}
		w.started = time.Now() // it may have taken long to end
		if err := w.Up(h.local); err == nil || !strings.Contains(err.Error(), "ended within") {
			t.Errorf("Up at once again = %v", err)
		}
		w.started = time.Time{}
		return w.Up(h.local)
	})
	h.set(peers)
}

func TestProcessIsOnlyForAKernelWithoutWireGuard(t *testing.T) {
	h := segment(t, "wireguard", 1)[0]
	w := h.drv.(*WireGuard)
	h.do(func() error {
		_, err := w.conn.CreateWireGuard("probe")
		lacking := errors.Is(err, nl.ErrUnsupported)
		other, err := net.ListenUDP("udp4", &net.UDPAddr{Port: int(h.local.Port)})
		if err != nil {
			return err
		}
		for range 2 { // again, when the device is there
			if err := w.Up(h.local); err == nil || !strings.Contains(err.Error(), "UDP port 6784") && !lacking {
				t.Errorf("Up with a port that is taken = %v", err)
			}
		}
		other.Close()
		if lacking {
			time.Sleep(startPause)
		}
		if err := w.Up(h.local); err != nil || w.Userspace() != lacking {
			t.Errorf("Up = %v; userspace %v, and the kernel lacks it: %v", err, w.Userspace(), lacking)
		}
		return nil
	})
}

func TestTwoOfOneNameInDifferentNamespacesAreToldApart(t *testing.T) {
	hosts := segment(t, "wireguard", 2)
	hosts[1].local.Device = hosts[0].local.Device
	first := hosts[0].by(CarrierUserspace)
	hosts[1].by(CarrierUserspace)
	hosts[0].do(func() error { return hosts[0].drv.Up(hosts[0].local) })
	hosts[1].do(func() error {
		if err := hosts[1].drv.Up(hosts[1].local); err == nil || !strings.Contains(err.Error(), "same name, in another network namespace") {
			t.Errorf("Up = %v", err)
		}
		return nil
	})
	if _, err := first.control.device(hosts[0].local.Device); err != nil {
		t.Errorf("the first is disturbed: %v", err)
	}
}

func TestWireGuardOverIPv6CostsTwentyBytesMore(t *testing.T) {
	hosts := segment(t, "wireguard", 2)
	for i, h := range hosts {
		a := addr([]string{"2001:db8::1", "2001:db8::2"}[i])
		h.run("ip address add " + a.String() + "/64 dev u0 nodad")
		h.local.Underlay, h.peer.Underlay = a, a
	}
	mesh(hosts)
	wantFull(t, hosts, "over IPv6")
	if got := hosts[0].drv.MTU(); got != 1420 {
		t.Errorf("MTU = %d", got)
	}
}

func TestSilentProcessDoesNotHangItsDriver(t *testing.T) {
	h, w, peers := alone(t, CarrierUserspace)
	h.set(peers)
	sock := "/var/run/wireguard/" + h.local.Device + ".sock"
	pid := strings.TrimSpace(h.run("ss -xlpH src " + sock + " | grep -o 'pid=[0-9]*' | cut -d= -f2"))
	h.run("kill -STOP " + pid + "; until grep -q 'State:.T' /proc/" + pid + "/task/*/status && ! grep -q 'State:.[RSD]' /proc/" + pid + "/task/*/status; do sleep 0.02; done")
	start := time.Now()
	h.do(func() error {
		if err := carry(w, peers); err == nil || !strings.Contains(err.Error(), "does not answer") {
			t.Errorf("Set = %v", err)
		}
		return nil
	})
	if took := time.Since(start); took > 2*controlTime {
		t.Errorf("it took %s", took)
	}
	// For long enough: a stopped process needs more than SIGTERM.
	w.started, w.control.silent = time.Time{}, time.Now().Add(-hungTime)
	want := h.run("ip route show proto 87")
	h.set(peers)
	if now := strings.TrimSpace(h.run("ss -xlpH src " + sock + " | grep -o 'pid=[0-9]*' | cut -d= -f2")); now == "" || now == pid {
		t.Errorf("the process is %q and was %q", now, pid)
	}
	if got := h.run("ip route show proto 87"); got != want {
		t.Errorf("routes are\n%swant\n%s", got, want)
	}
}

func TestSilentProcessIsNotWaitedForInEachPass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newControl(nil)
		ask := func(answers <-chan struct{}) (took time.Duration, err error) {
			start := time.Now()
			_, err = within(c, func() (struct{}, error) { <-answers; return struct{}{}, nil })
			return time.Since(start), err
		}
		at, stopped := make(chan struct{}), make(chan struct{})
		close(at)
		for _, step := range []struct {
			what    string
			answers <-chan struct{}
			took    time.Duration
			silent  bool
			hangs   bool // afterwards
		}{
			{"nobody has ever answered", stopped, controlTime, true, false},
			{"and a launch tries again", stopped, controlTime, true, true},
		} {
			if took, err := ask(step.answers); took != step.took || errors.Is(err, errSilent) != step.silent || c.hangs() != step.hangs {
				t.Errorf("%s: %v after %s, hangs %v", step.what, err, took, c.hangs())
			}
		}
		c.forget()
		if took, err := ask(at); took != 0 || err != nil || c.hangs() {
			t.Errorf("another process answers: %v after %s", err, took)
		}
		if took, err := ask(stopped); took != controlTime || !errors.Is(err, errSilent) {
			t.Errorf("it stops: %v after %s", err, took)
		}
		for pass := range 3 {
			if took, err := ask(at); took != 0 || !errors.Is(err, errSilent) || c.hangs() {
				t.Errorf("it is stopped in pass %d: %v after %s, hangs %v", pass, err, took, c.hangs())
			}
			time.Sleep(hungTime / 3)
		}
		if !c.hangs() {
			t.Error("it does not hang")
		}
		close(stopped)
		synctest.Wait()
		if took, err := ask(at); took != 0 || err != nil || c.hangs() {
			t.Errorf("it goes on: %v after %s, hangs %v", err, took, c.hangs())
		}
	})
}

func TestAllowedIPsAreExactlyAPeersPrefixes(t *testing.T) {
	hosts := segment(t, "wireguard", 2)
	mesh(hosts)
	wantFull(t, hosts, "at first")
	// The second host sends from an address that the plan gives to nobody there.
	hosts[1].run("ip address add 10.32.99.1/32 dev b0")
	hosts[0].run("ip route add 10.32.99.0/24 dev " + hosts[0].local.Device)
	if _, err := try(hosts[1].ns, "ping -c 2 -i 0.1 -W 1 -I 10.32.99.1 10.32.1.1"); err == nil {
		t.Error("a foreign source address passes")
	}
}
