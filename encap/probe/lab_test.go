package probe

import (
	"net/netip"
	"os/exec"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/weft-net/weft/internal/nl"
)

// host is a network namespace with a gateway's address, a device u0 and a
// prober.
type host struct {
	t       testing.TB
	ns      *nl.Namespace
	id      uuid.UUID
	gateway netip.Addr
	prober  *Prober
}

// lab is two hosts, each on a segment of its own, and a router between them.
// Each host's range is unreachable but for the other's gateway by u0.
type lab struct {
	a, b   *host
	router *host
}

func newLab(t testing.TB) *lab {
	t.Helper()
	l := &lab{newHost(t, 1), newHost(t, 2), newHost(t, 3)}
	l.router.run("sysctl -q -w net.ipv4.ip_forward=1")
	for i, h := range []*host{l.a, l.b} {
		end := []string{"a0", "b0"}[i]
		subnet := []string{"192.0.2", "198.51.100"}[i]
		other := []*host{l.b, l.a}[i]
		connect(t, h.ns, "u0", l.router.ns, end)
		h.run("ip address add " + h.gateway.String() + "/32 dev lo; ip address add " + subnet + ".1/24 dev u0; ip link set u0 up; ip route add default via " + subnet + ".254;" +
			"ip route add unreachable 10.32.0.0/12; ip route add " + other.gateway.String() + " via " + subnet + ".254 src " + h.gateway.String())
		l.router.run("ip address add " + subnet + ".254/24 dev " + end + "; ip link set " + end + " up; ip route add " + h.gateway.String() + " via " + subnet + ".1")
		h.start(1)
	}
	return l
}

func newHost(t testing.TB, n byte) *host {
	t.Helper()
	ns, err := nl.NewNamespace()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ns.Close() })
	h := &host{t: t, ns: ns, id: uuid.UUID{n}, gateway: netip.AddrFrom4([4]byte{10, 32, n, 1})}
	// Answers come by the device that is probed, whatever the routes prefer.
	h.run("ip link set lo up; sysctl -q -w net.ipv4.conf.all.rp_filter=2")
	return h
}

// start starts the prober with the secret of some mesh.
func (h *host) start(mesh byte) {
	h.t.Helper()
	p, err := New(h.id, secret(mesh))
	if err != nil {
		h.t.Fatal(err)
	}
	h.prober = p
	h.t.Cleanup(p.Close)
}

func connect(t testing.TB, a *nl.Namespace, nameA string, b *nl.Namespace, nameB string) {
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

// run runs a shell command that has to succeed.
func (h *host) run(cmd string) string {
	h.t.Helper()
	var out []byte
	err := h.ns.Do(func() (err error) {
		out, err = exec.Command("sh", "-ec", cmd).CombinedOutput()
		return err
	})
	if err != nil {
		h.t.Fatalf("%s: %v: %s", cmd, err, out)
	}
	return string(out)
}

// to is the path to another host.
func to(peer *host, device string) Path { return Path{peer.id, device} }

// set has the host probe a peer by some devices, and the other way round.
func (l *lab) set(devices ...string) {
	l.a.t.Helper()
	l.a.set(l.b, devices...)
	l.b.set(l.a, devices...)
}

func (h *host) set(peer *host, devices ...string) {
	h.t.Helper()
	if err := h.trySet(peer, devices...); err != nil {
		h.t.Fatal(err)
	}
}

func (h *host) trySet(peer *host, devices ...string) error {
	var targets []Target
	for _, d := range devices {
		targets = append(targets, Target{Path: Path{peer.id, d}, Addr: peer.gateway, MTU: 1500})
	}
	return h.ns.Do(func() error { return h.prober.Set(targets) })
}

// wait waits until the quality of a path is so, and returns it.
func (h *host) wait(by Path, what string, so func(q Quality) bool) Quality {
	h.t.Helper()
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		q := h.prober.Qualities()[by]
		if so(q) {
			return q
		}
		if time.Now().After(end) {
			h.t.Fatalf("%s by %s: never %s: %+v", h.gateway, by.Device, what, q)
		}
	}
}

func isUp(q Quality) bool   { return q.Works && q.MTU > 0 }
func isDown(q Quality) bool { return !q.Works && q.Sent > 0 }
