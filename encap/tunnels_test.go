package encap

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/weft-net/weft/internal/nl"
	"github.com/weft-net/weft/internal/ula"
)

// keptSysctls keeps what sysctls were for as long as a test.
type keptSysctls map[string]string

func (k keptSysctls) SaveSysctl(key, value string) error {
	if _, ok := k[key]; !ok {
		k[key] = value
	}
	return nil
}

func (k keptSysctls) RestoreSysctls(keys []string) error {
	for _, key := range keys {
		if value, ok := k[key]; ok {
			if err := nl.SetSysctl(key, value); err != nil {
				return err
			}
			delete(k, key)
		}
	}
	return nil
}

func (k keptSysctls) RenameDevice(old, now string) error {
	for key, value := range maps.Clone(k) {
		if strings.Contains(key, "/"+old+"/") {
			delete(k, key)
			k[strings.Replace(key, "/"+old+"/", "/"+now+"/", 1)] = value
		}
	}
	return nil
}

// node is a host with all transports.
type node struct {
	*host
	tunnels   *Tunnels
	instances []Instance
}

// nodes are two hosts on a segment, each with every transport, and two ends of
// WireGuard.
func nodes(t *testing.T) []*node {
	t.Helper()
	var out []*node
	for i, h := range segment(t, "vxlan", 2) {
		n := &node{host: h}
		process := ownProcess(t)
		log := slog.New(slog.DiscardHandler)
		h.do(func() (err error) {
			n.tunnels, err = NewTunnels(log, func(transport string) (Driver, error) {
				switch transport {
				case TransportDirect:
					return NewDirect(log, keptSysctls{}, ula.Ranges{})
				case TransportVXLAN:
					return NewVXLAN(log)
				}
				return NewWireGuard(log, process, CarrierAuto)
			})
			return err
		})
		t.Cleanup(func() { n.tunnels.Close() })
		n.instances = []Instance{
			{Transport: TransportDirect, Device: "u0"},
			{Transport: TransportVXLAN, Device: "vx0", Port: 6784},
			{Transport: TransportWireGuard, Device: fmt.Sprintf("%s-%d", h.local.Device, i), Port: 6785, Key: h.local.Key},
		}
		out = append(out, n)
	}
	return out
}

// carries has a node lead the traffic to the other by one of its instances.
func (n *node) carries(other *node, chosen int, allowed ...int) {
	n.t.Helper()
	remote := Remote{Peer: other.peer, Ways: map[string]Way{}, Chosen: n.instances[chosen].Device, ChosenIPv6: n.instances[chosen].Device}
	remote.Key = PublicKey{}
	for _, i := range allowed {
		remote.Ways[n.instances[i].Device] = Way{Key: other.local.Key.Public()}
	}
	var idle []Instance
	n.do(func() error { return n.tunnels.Set(n.local, n.instances, idle, []Remote{remote}) })
}

func TestMoveBetweenTransportsLosesNoPacket(t *testing.T) {
	n := nodes(t)
	a, b := n[0], n[1]
	both := func(chosen int) {
		a.carries(b, chosen, 0, 1, 2)
		b.carries(a, chosen, 0, 1, 2)
	}
	both(2)
	wantFull(t, []*host{a.host, b.host}, "at first")
	summary := make(chan string, 1)
	go func() {
		out, _ := try(a.ns, "ping -q -c 3000 -i 0.001 -W 1 10.32.2.1") // what it lost is in what it prints
		summary <- out
	}()
	moves := 0
	for {
		for _, chosen := range []int{0, 2, 1, 0, 1, 2} {
			// The ends choose differently for a moment.
			a.carries(b, chosen, 0, 1, 2)
			time.Sleep(5 * time.Millisecond)
			b.carries(a, chosen, 0, 1, 2)
			moves++
		}
		select {
		case out := <-summary:
			if !strings.Contains(out, "3000 packets transmitted, 3000 received") {
				t.Errorf("packets were lost in %d moves: %s", moves, out)
			}
			t.Logf("%d moves: %s", moves, strings.TrimSpace(out))
			return
		default:
		}
	}
}

func TestTransportThatIsForbiddenIsLeftWithoutLossAndLetGo(t *testing.T) {
	n := nodes(t)
	a, b := n[0], n[1]
	a.carries(b, 1, 1, 2)
	b.carries(a, 1, 1, 2)
	wantFull(t, []*host{a.host, b.host}, "by VXLAN")
	summary := make(chan string, 1)
	go func() {
		out, _ := try(a.ns, "ping -q -c 500 -i 0.002 -W 1 10.32.2.1")
		summary <- out
	}()
	time.Sleep(200 * time.Millisecond)
	a.carries(b, 2, 2)
	b.carries(a, 2, 2)
	if out := <-summary; !strings.Contains(out, "500 packets transmitted, 500 received") {
		t.Errorf("packets were lost: %s", out)
	}
	if got := a.run("bridge fdb show dev vx0; ip route show dev vx0; ip neigh show dev vx0"); strings.TrimSpace(got) != "" {
		t.Errorf("VXLAN still has\n%s", got)
	}
}

func TestDirectRoutesAreTakenAwayAloneAndSysctlsRestored(t *testing.T) {
	n := nodes(t)
	a, b := n[0], n[1]
	a.run("sysctl -q -w net.ipv4.conf.all.rp_filter=1 net.ipv4.conf.u0.rp_filter=1; ip route add 203.0.113.0/24 via 192.0.2.9; ip route add 203.0.114.0/24 via 192.0.2.9 proto 86")
	was := a.run("ip route; sysctl net.ipv4.conf.u0.rp_filter net.ipv4.conf.u0.send_redirects")
	a.carries(b, 0, 0, 1)
	b.carries(a, 1, 0, 1) // answers come by another way
	wantFull(t, []*host{a.host, b.host}, "with strict filters")
	if got := a.run("ip route show proto 87"); !strings.Contains(got, "10.32.2.0/24 via 192.0.2.2 dev u0 src 10.32.1.1 onlink") {
		t.Errorf("routes:\n%s", got)
	}
	a.instances = a.instances[1:]
	a.carries(b, 0, 0)
	if !a.reaches("10.32.2.1") {
		t.Error("VXLAN does not carry what was direct")
	}
	direct := Instance{Transport: TransportDirect, Device: "u0"}
	vxlan := a.instances[0]
	a.do(func() error { return a.tunnels.Set(a.local, nil, []Instance{direct, vxlan}, nil) })
	if got := a.run("ip route; sysctl net.ipv4.conf.u0.rp_filter net.ipv4.conf.u0.send_redirects"); got != was {
		t.Errorf("is left:\n%s\nwas:\n%s", got, was)
	}
	if _, err := try(a.ns, "ip link show vx0"); err == nil {
		t.Error("the VXLAN device is there still")
	}
}

func TestSysctlsOfADeviceThatWasRenamedAreRestored(t *testing.T) {
	n := nodes(t)
	a, b := n[0], n[1]
	// One store for all drivers, as a daemon has it.
	kept, first := keptSysctls{}, a.tunnels.make
	a.tunnels.make = func(transport string) (Driver, error) {
		if transport == TransportDirect {
			return NewDirect(slog.New(slog.DiscardHandler), kept, ula.Ranges{})
		}
		return first(transport)
	}
	a.run("sysctl -q -w net.ipv4.conf.all.rp_filter=1 net.ipv4.conf.u0.rp_filter=1 net.ipv4.conf.u0.send_redirects=1")
	look := func(device string) string {
		return a.run("cat /proc/sys/net/ipv4/conf/" + device + "/rp_filter /proc/sys/net/ipv4/conf/" + device + "/send_redirects")
	}
	was := look("u0")
	a.carries(b, 0, 0)
	if look("u0") == was {
		t.Fatal("nothing was changed")
	}
	a.run("ip link set u0 down; ip link set u0 name ens3; ip link set ens3 up")
	a.instances[0].Device = "ens3"
	a.carries(b, 0, 0)
	b.carries(a, 0, 0)
	if !a.reaches("10.32.2.1") {
		t.Error("by the new name nothing is reached")
	}
	direct := a.instances[0]
	a.do(func() error { return a.tunnels.Set(a.local, nil, []Instance{direct}, nil) })
	if got := look("ens3"); got != was || len(kept) > 0 {
		t.Errorf("they are %q, were %q; still kept: %v", got, was, kept)
	}
}

func TestSecondEndOfATransportTakesOver(t *testing.T) {
	n := nodes(t)
	a, b := n[0], n[1]
	second := func(n *node) PrivateKey {
		key := newKey(t)
		process := ownProcess(t) // each end has its own
		first := n.tunnels.make
		n.tunnels.make = func(transport string) (Driver, error) {
			if len(n.tunnels.held) < 3 {
				return first(transport)
			}
			return NewWireGuard(slog.New(slog.DiscardHandler), process, CarrierAuto)
		}
		n.instances = append(n.instances, Instance{Transport: TransportWireGuard, Device: n.instances[2].Device + "b", Port: 6799, Key: key})
		return key
	}
	keys := []PrivateKey{second(a), second(b)}
	set := func(n, other *node, key PrivateKey, chosen int) {
		t.Helper()
		remote := Remote{Peer: other.peer, Chosen: n.instances[chosen].Device, ChosenIPv6: n.instances[chosen].Device, Ways: map[string]Way{
			n.instances[2].Device: {Key: other.local.Key.Public()}, n.instances[3].Device: {Key: key.Public(), Port: 6799}}}
		n.do(func() error { return n.tunnels.Set(n.local, n.instances, nil, []Remote{remote}) })
	}
	for _, chosen := range []int{2, 3} {
		set(a, b, keys[1], chosen)
		set(b, a, keys[0], chosen)
		wantFull(t, []*host{a.host, b.host}, fmt.Sprintf("by end %d", chosen))
	}
	for _, n := range n {
		if got := n.run("ip route show proto 87 metric 0; ip route show proto 87"); !strings.Contains(got, "metric 300") {
			t.Errorf("the other end has no route of its own:\n%s", got)
		}
	}
}

func TestPortOfASpareEndThatIsTakenKeepsNothingFromBeingSet(t *testing.T) {
	n := nodes(t)
	a, b := n[0], n[1]
	device := a.instances[2].Device
	a.instances = append(a.instances, Instance{Transport: TransportWireGuard, Device: device + "b", Port: 6788, Key: newKey(t)})
	gone := Peer{ID: uuid.UUID{9}, Underlay: addr("192.0.2.9"), Prefixes: prefixes("10.32.9.0/24")}
	goneKey := newKey(t).Public()
	set := func(chosen int, others ...Peer) error {
		var peers []Remote
		for _, p := range append([]Peer{b.peer}, others...) {
			key := b.local.Key.Public()
			if p.ID == gone.ID {
				key = goneKey
			}
			p.Key = PublicKey{}
			peers = append(peers, Remote{Peer: p, Chosen: a.instances[chosen].Device, Ways: map[string]Way{device: {Key: key}, device + "b": {Key: key}}})
		}
		return a.tunnels.Set(a.local, a.instances, nil, peers)
	}
	peersOf := func(device string) string {
		var keys []string
		a.do(func() error {
			have, err := a.tunnels.held[device].Driver.(*WireGuard).control.device(device)
			if err != nil {
				return nil // a process that did not get its port has ended, with its device
			}
			for _, p := range have.Peers {
				keys = append(keys, PublicKey(p.PublicKey).String())
			}
			return nil
		})
		return strings.Join(keys, " ")
	}
	a.do(func() error {
		other, err := net.ListenUDP("udp4", &net.UDPAddr{Port: 6788})
		if err != nil {
			return err
		}
		defer other.Close()
		if err := set(2, gone); err != nil {
			t.Errorf("with a peer that goes: %v", err)
		}
		if got := peersOf(device); !strings.Contains(got, goneKey.String()) {
			t.Fatalf("the first end has the peers %s", got)
		}
		if err := set(2); err != nil {
			t.Errorf("without it: %v", err)
		}
		if taken := a.tunnels.Taken(); !OnlyPortsTaken(taken) || !strings.Contains(taken.Error(), "UDP port 6788") {
			t.Errorf("what is taken: %v", taken)
		}
		for _, d := range []string{device, device + "b"} {
			if got := peersOf(d); strings.Contains(got, goneKey.String()) {
				t.Errorf("the peer that is gone is on %s", d)
			}
		}
		if err := set(3); !OnlyPortsTaken(err) {
			t.Errorf("while a link is to go by it: %v", err)
		}
		if err := errors.Join(set(3), errors.New("more")); OnlyPortsTaken(err) {
			t.Errorf("%v is taken for ports alone", err)
		}
		other.Close()
		if err := set(2); err != nil || a.tunnels.Taken() != nil {
			t.Errorf("once it is free: %v, taken %v", err, a.tunnels.Taken())
		}
		return nil
	})
}

func TestRoutesOfAnotherWeftOnThisHostAreLeftAlone(t *testing.T) {
	n := nodes(t)
	a, b := n[0], n[1]
	a.local.Own = ula.RangesOf(uuid.UUID{1}, netip.MustParsePrefix("10.32.0.0/12"))
	a.carries(b, 0, 0, 1)
	const theirs = "ip route show proto 87 | grep -e 10.64 -e 240.9 -e 203.0"
	a.run("ip route add 10.64.1.0/24 via 192.0.2.2 dev u0 onlink proto 87; ip route add 240.9.9.9 via 192.0.2.2 dev u0 onlink proto 87; " +
		"ip route add 203.0.113.9 via 192.0.2.2 dev u0 proto 87 metric 7; ip route add 10.40.1.0/24 via 192.0.2.2 dev u0 onlink proto 87")
	was := a.run(theirs)
	a.carries(b, 1, 0, 1)
	if got := a.run(theirs); got != was {
		t.Errorf("after Set the other's routes are\n%s\nwere\n%s", got, was)
	}
	if got := a.run("ip route show proto 87"); strings.Contains(got, "10.40.1.0/24") {
		t.Errorf("a stray route of this mesh's is left:\n%s", got)
	}
	a.do(func() error {
		d, err := NewDirect(slog.New(slog.DiscardHandler), keptSysctls{}, a.local.Own)
		if err != nil {
			return err
		}
		_, err = d.Remove("")
		return errors.Join(err, d.Close())
	})
	if got := a.run("ip route show proto 87"); !strings.Contains(got, "10.64.1.0/24") || strings.Contains(got, "dev u0 src 10.32.1.1") {
		t.Errorf("after Remove there are\n%s", got)
	}
}

func TestWhatAnEarlierProcessChoseIsSeen(t *testing.T) {
	n := nodes(t)
	n[0].carries(n[1], 1, 0, 1)
	var got Adopted
	adopt := func() {
		t.Helper()
		n[0].do(func() (err error) { got, err = n[0].tunnels.Adopt(); return err })
	}
	adopt()
	if got.Carriers[n[1].peer.Prefixes[0]] != "vx0" || len(got.Narrow) != 0 {
		t.Errorf("%v", got)
	}
	n[0].run(fmt.Sprintf("ip route replace %s dev u0 proto 87 metric 300 mtu 1234; ip route add 192.0.2.77 dev u0 proto 87 metric %d mtu 1276", n[1].peer.Prefixes[0], narrowMetric))
	adopt()
	if mtu := got.MTUs[Hop{n[1].peer.Prefixes[0], "u0"}]; mtu != 1234 {
		t.Errorf("the other end takes %d", mtu)
	}
	if mtu := got.Narrow[netip.MustParseAddr("192.0.2.77")]; mtu != 1276 || len(got.Narrow) != 1 {
		t.Errorf("narrow are %v", got.Narrow)
	}
}

// linked is a driver with these links.
type linked struct {
	Driver
	links []Link
}

func (l linked) Links() []Link { return l.links }

func TestAPeerIsHeardWhereItsOwnSessionIs(t *testing.T) {
	now := time.Now()
	at := func(i byte) netip.AddrPort { return netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, i}), 6785) }
	var links []Link
	for i := byte(1); i <= 5; i++ {
		heard := now
		if i == 4 {
			heard = now.Add(-sessionTime)
		}
		links = append(links, Link{Peer: uuid.UUID{i}, Traffic: &Traffic{Heard: heard, From: at(i)}})
	}
	links[1].Traffic = nil
	tunnels := &Tunnels{held: map[string]*end{"weft-wg": {Driver: linked{links: links}}}}
	for i, want := range map[byte]netip.AddrPort{1: at(1), 2: {}, 3: at(3), 4: {}, 5: at(5), 6: {}} {
		if got := tunnels.Heard("weft-wg", uuid.UUID{i}, now); got != want {
			t.Errorf("peer %d is heard at %v; want %v", i, got, want)
		}
	}
	if got := tunnels.Heard("weft-w1", uuid.UUID{1}, now); got.IsValid() {
		t.Errorf("heard by no device: %v", got)
	}
}
