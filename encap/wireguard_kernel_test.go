//go:build kernelwg

package encap

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"

	"github.com/weft-net/weft/internal/nl"
)

// carriers are those of WireGuard that a kernel has which has WireGuard.
var carriers = []Carrier{CarrierKernel, CarrierUserspace}

// kind of a host's tunnel device, "" if there is none.
func (h *host) kind() (kind string) {
	h.t.Helper()
	h.do(func() error {
		dev, err := h.drv.(*WireGuard).conn.Link(h.local.Device)
		if errors.Is(err, nl.ErrNotFound) {
			return nil
		}
		kind = dev.Kind
		return err
	})
	return kind
}

func TestKernelCarriesWhereItCan(t *testing.T) {
	hosts := segment(t, "wireguard", 2)
	mesh(hosts)
	wantFull(t, hosts, "by the kernel")
	h := hosts[0]
	if h.kind() != nl.KindWireGuard || h.drv.Userspace() {
		t.Errorf("the device is of kind %s, userspace %v", h.kind(), h.drv.Userspace())
	}
	// What wg(8) sees is what was set.
	got := h.run("wg show " + h.local.Device)
	for _, want := range []string{"public key: " + h.peer.Key.String(), "listening port: 6784", "peer: " + hosts[1].peer.Key.String(),
		"endpoint: 192.0.2.2:6784", "allowed ips: 10.32.2.0/24", "latest handshake: "} {
		if !strings.Contains(got, want) {
			t.Errorf("wg does not show %q:\n%s", want, got)
		}
	}
}

func TestKernelAndProcessReachEachOther(t *testing.T) {
	hosts := segment(t, "wireguard", 2)
	hosts[1].by(CarrierUserspace)
	mesh(hosts)
	wantFull(t, hosts, "mixed")
	if a, b := hosts[0].kind(), hosts[1].kind(); a != nl.KindWireGuard || b != nl.KindTUN {
		t.Errorf("they are of kind %s and %s", a, b)
	}
}

func TestCarrierIsChangedWhereAnotherIsAskedFor(t *testing.T) {
	h, w, peers := alone(t, CarrierKernel)
	for _, step := range []struct {
		carrier Carrier
		kind    string
	}{
		{CarrierKernel, nl.KindWireGuard}, {CarrierAuto, nl.KindWireGuard},
		{CarrierUserspace, nl.KindTUN}, {CarrierAuto, nl.KindTUN}, {CarrierKernel, nl.KindWireGuard},
	} {
		w.started = time.Time{}
		h.by(step.carrier)
		h.set(peers)
		if kind := h.kind(); kind != step.kind || w.Userspace() != (kind == nl.KindTUN) {
			t.Errorf("%s: kind %s, userspace %v; want %s", step.carrier, kind, w.Userspace(), step.kind)
		}
		if got := h.look(w); !strings.Contains(got, "192.0.2.2:6784 10.40.0.0/13") {
			t.Errorf("%s: %s", step.carrier, got)
		}
	}
	if ended, err := w.process.EndAll(); ended || err != nil {
		t.Errorf("a process runs beside the kernel: %v, %v", ended, err)
	}
}

// modprobe is where the kernel reads what loads its modules.
const modprobe = "/proc/sys/kernel/modprobe"

func TestKernelThatGetsItsWireGuardLaterIsUsedFromTheNextDeviceOn(t *testing.T) {
	loader, err := os.ReadFile(modprobe)
	if err != nil {
		t.Fatal(err)
	}
	load := func(program string) {
		if err := os.WriteFile(modprobe, []byte(program), 0); err != nil {
			t.Fatal(err)
		}
	}
	h := segment(t, "wireguard", 1)[0]
	load("/bin/false")
	defer load(string(loader))
	// Namespaces of other tests, and the devices in them, end by and by.
	for end := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
		out, err := try(h.ns, "modprobe -r wireguard")
		if err == nil {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("the module stays: %v: %s", err, out)
		}
	}
	h.driver() // it has to do without the kernel
	peers := []Peer{{ID: uuid.UUID{2}, Underlay: addr("192.0.2.2"), Prefixes: prefixes("10.40.0.0/13"), Key: newKey(t).Public()}}
	h.set(peers)
	if h.kind() != nl.KindTUN || !h.drv.Userspace() {
		t.Fatalf("without the module: kind %s, userspace %v", h.kind(), h.drv.Userspace())
	}
	h.by(CarrierKernel)
	h.do(func() error {
		if err := h.drv.Set(peers); !errors.Is(err, nl.ErrUnsupported) {
			t.Errorf("Set with the kernel alone = %v", err)
		}
		return nil
	})
	load(string(loader))
	w := h.by(CarrierAuto)
	h.set(peers)
	if h.kind() != nl.KindWireGuard || w.Userspace() {
		t.Errorf("with the module: kind %s, userspace %v", h.kind(), w.Userspace())
	}
	if got := h.look(w); !strings.Contains(got, "192.0.2.2:6784 10.40.0.0/13") {
		t.Errorf("with the module: %s", got)
	}
}

func TestPortIsTakenFromNobodyWhileTheDeviceIsUp(t *testing.T) {
	h, w, peers := alone(t, CarrierKernel)
	h.set(peers)
	h.do(func() error {
		h.local.Port = 7001
		other, err := net.ListenUDP("udp4", &net.UDPAddr{Port: int(h.local.Port)})
		if err != nil {
			return err
		}
		for range 3 { // it must not be content with a port that it only says it has
			if err := w.Up(h.local); err == nil || !strings.Contains(err.Error(), "UDP port 7001") || !strings.Contains(err.Error(), "taken by another program") {
				t.Errorf("Up = %v", err)
			}
		}
		return other.Close()
	})
	h.set(peers)
	h.do(func() error {
		if other, err := net.ListenUDP("udp4", &net.UDPAddr{Port: 7001}); !errors.Is(err, unix.EADDRINUSE) {
			other.Close()
			t.Error("the device does not listen on its port")
		}
		return nil
	})
	if got := h.look(w); !strings.Contains(got, "192.0.2.2:7001 10.40.0.0/13") {
		t.Errorf("peers: %s", got)
	}
}

func TestThousandPeersAreSetAndReadBackWhole(t *testing.T) {
	h, w, _ := alone(t, CarrierKernel)
	var peers []Peer
	for n := range 1000 {
		p := Peer{ID: uuid.UUID{9, byte(n >> 8), byte(n)}, Underlay: netip.AddrFrom4([4]byte{192, 0, 3 + byte(n>>7), 1 + byte(n&127)}), Prefixes: nil, Key: newKey(t).Public()}
		for i := range 4 {
			p.Prefixes = append(p.Prefixes, netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 64 + byte(n>>8), byte(n), byte(i) << 6}), 26))
		}
		peers = append(peers, p)
	}
	for n := range 2000 { // one of them alone is more than a message holds
		peers[0].Prefixes = append(peers[0].Prefixes, netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 96, byte(n >> 8), byte(n)}), 32))
	}
	check := func(want []Peer) {
		t.Helper()
		h.set(want)
		have, err := w.control.device(h.local.Device)
		if err != nil {
			t.Fatal(err)
		}
		allowed, wanted := 0, 0
		for i := range have.Peers {
			allowed += len(have.Peers[i].AllowedIPs)
		}
		for _, p := range want {
			wanted += len(p.Prefixes)
		}
		if len(have.Peers) != len(want) || allowed != wanted {
			t.Errorf("%d peers with %d prefixes; want %d with %d", len(have.Peers), allowed, len(want), wanted)
		}
		if c := peerChanges(w.local.Key.Public(), w.plan.ends, have, w.searches, time.Now()); c != nil {
			t.Errorf("%d peers differ from the plan still", len(c.Peers))
		}
		got := h.run(fmt.Sprintf("wg show %[1]s peers | wc -l; wg show %[1]s allowed-ips | cut -f 2 | grep -o / | wc -l; ip route show dev %[1]s proto 87 | wc -l", h.local.Device))
		if got != fmt.Sprintf("%d\n%d\n%d\n", len(want), wanted, wanted) {
			t.Errorf("wg and ip count %q", got)
		}
	}
	check(peers)
	stranger := wgtypes.Key(newKey(t).Public())
	if err := w.control.configure(h.local.Device, wgtypes.Config{Peers: []wgtypes.PeerConfig{{PublicKey: stranger}}}); err != nil {
		t.Fatal(err)
	}
	check(peers[:500])
}
