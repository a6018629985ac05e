package e2e

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/weft-net/weft/api"
	"github.com/weft-net/weft/internal/netlab"
	"github.com/weft-net/weft/internal/store"
)

// pattern is what the containers' pings are full of.
const pattern = "5eed5eed"

// talking has a container on each host ping those on all others; the result fails
// the test for each ping that is lost.
func talking(t *testing.T, hosts []*netlab.Host, what string) (check func(), containers []*netlab.Container, addrs []string) {
	t.Helper()
	for _, h := range hosts {
		c, addr := attached(t, h, "c")
		containers, addrs = append(containers, c), append(addrs, addr)
	}
	// What is counted begins when all sessions are there.
	answering(t, hosts...)
	for _, c := range containers {
		for _, addr := range addrs {
			netlab.Eventually(t, "the containers reach each other", func() bool { return netlab.Pings(c, addr) })
		}
	}
	var checks []func()
	for i, c := range containers {
		for j, addr := range addrs {
			if i != j {
				checks = append(checks, pinging(t, c, addr, fmt.Sprintf("%s, from %s to %s", what, hosts[i].Name, hosts[j].Name), "-p", pattern))
			}
		}
	}
	return func() {
		t.Helper()
		for _, check := range checks {
			check()
		}
	}, containers, addrs
}

// publicKeys are those that a host knows of all hosts, by name, with their epochs.
func publicKeys(t *testing.T, h *netlab.Host) map[string][]string {
	t.Helper()
	out := map[string][]string{}
	for _, p := range status(t, h).Peers {
		for _, k := range p.Keys {
			out[p.Name] = append(out[p.Name], fmt.Sprintf("%d %s", k.Epoch, k.Key))
		}
	}
	return out
}

// settledAt waits until all these hosts have one key, of an epoch, and all links
// between them use it.
func settledAt(t *testing.T, hosts []*netlab.Host, epoch uint64) {
	t.Helper()
	for _, h := range hosts {
		netlab.Eventually(t, fmt.Sprintf("%s has a key of epoch %d alone, and so have the others for it", h.Name, epoch), func() bool {
			s := status(t, h)
			for _, p := range s.Peers {
				known := slices.ContainsFunc(hosts, func(o *netlab.Host) bool { return o.Name == p.Name })
				if known && (len(p.Keys) != 1 || p.Keys[0].Epoch != epoch) {
					return false
				}
			}
			for _, l := range s.Links {
				if l.KeyEpoch == nil || *l.KeyEpoch != epoch {
					return false
				}
			}
			return !s.Mesh.Keys.Changing && s.Mesh.Keys.Epoch == epoch
		})
	}
}

// begun begins a change of keys, and does not wait for its end.
func begun(t *testing.T, h *netlab.Host) {
	t.Helper()
	if r := h.Try("weft", "keys", "rotate", "--timeout", "300ms"); r.Code != 5 {
		t.Fatalf("rotate: %+v", r)
	}
}

func TestKeysAreChangedTwiceWhileContainersTalkAndNothingIsLostOrReadable(t *testing.T) {
	_, hosts := launched(t, 3)
	check, _, addrs := talking(t, hosts, "across changes of keys")
	packets := capture(t, hosts[1], 6785)
	seenKeys := publicKeys(t, hosts[0])
	for i, by := range []*netlab.Host{hosts[0], hosts[2]} {
		epoch := uint64(i + 1)
		r := by.Try("weft", "keys", "rotate", "--timeout", fmt.Sprint(3*time.Minute*netlab.Slowness), "-o", "json")
		if r.Code != 0 || !strings.Contains(r.Stdout, fmt.Sprintf(`"epoch": %d`, epoch)) {
			t.Fatalf("rotate: %+v", r)
		}
		settledAt(t, hosts, epoch)
		for name, list := range publicKeys(t, hosts[1]) {
			if slices.Contains(seenKeys[name], list[0]) || len(list) != 1 {
				t.Errorf("in epoch %d %s has %v, and had %v", epoch, name, list, seenKeys[name])
			}
			seenKeys[name] = append(seenKeys[name], list...)
		}
		for _, h := range hosts {
			netlab.Eventually(t, h.Name+" has one device of WireGuard", func() bool {
				return strings.Count(h.Run("ip", "-o", "link", "show"), ": weft-w") == 1
			})
		}
	}
	check()
	seen := packets(200)
	if !strings.Contains(seen, ".6788: ") {
		t.Error("nothing went by the second port")
	}
	for _, plain := range append(slices.Clone(addrs), inHex(addrs[0]), inHex(addrs[1]), inHex(addrs[2]), "5eed 5eed 5eed") {
		if strings.Contains(seen, plain) {
			t.Errorf("%s is on the underlay in the clear", plain)
		}
	}
	if names := slices.Sorted(maps.Keys(seenKeys)); len(names) != 3 {
		t.Errorf("keys of %v were seen", names)
	}
}

func TestChangeOfKeysGoesOnWhereADaemonIsKilledOrStopped(t *testing.T) {
	_, hosts := launched(t, 3)
	check, _, _ := talking(t, hosts, "while daemons die in a change of keys")
	begun(t, hosts[0])
	for _, h := range []*netlab.Host{hosts[1], hosts[0]} {
		kill9(t, h)
		h.Run("weft", "launch")
	}
	settledAt(t, hosts, 1)

	// One that is stopped keeps its traffic by the old key, for which the others
	// keep theirs, and follows when it is back.
	hosts[2].Run("weft", "stop")
	time.Sleep(31 * time.Second) // others are followed every 30 s at most
	begun(t, hosts[0])
	netlab.Eventually(t, "it is missed, and its old key is kept for it", func() bool {
		k := status(t, hosts[0]).Mesh.Keys
		return k.Epoch == 2 && k.Changing && len(k.WaitingFor) == 1 && strings.HasPrefix(k.WaitingFor[0], hosts[2].Name+" (its daemon does not answer")
	})
	if r := hosts[1].Try("weft", "keys", "rotate"); r.Code != 1 || !strings.Contains(r.Stderr, "being changed already") {
		t.Errorf("a second change while one is under way: %+v", r)
	}
	hosts[2].Run("weft", "launch")
	settledAt(t, hosts, 2)
	check()
}

func TestPeerIsRemovedInTheMiddleOfAChangeOfKeys(t *testing.T) {
	_, hosts := launched(t, 3)
	gone := hosts[2]
	check, _, _ := talking(t, hosts[:2], "while a host is removed in a change of keys")
	c, _ := attached(t, gone, "c")
	gateway := status(t, hosts[0]).Bridge.Gateway.Addr().String()
	netlab.Eventually(t, "it is reached", func() bool { return netlab.Pings(c, gateway) })
	begun(t, hosts[0])
	netlab.Eventually(t, "it has both keys", func() bool { return len(publicKeys(t, hosts[0])[gone.Name]) == 2 })
	kill9(t, gone) // its kernel goes on, by both keys
	mustPing(t, c, gateway, "from a host whose daemon is killed")
	hosts[0].Run("weft", "rmpeer", "--yes", gone.Name)
	for _, h := range hosts[:2] {
		netlab.Eventually(t, h.Name+" has no link to it", func() bool {
			return !slices.ContainsFunc(status(t, h).Links, func(l api.Link) bool { return l.Name == gone.Name })
		})
	}
	if netlab.Pings(c, gateway) {
		t.Error("packets of a removed host arrive by one of its keys")
	}
	settledAt(t, hosts[:2], 1)
	check()
}

func TestOldKeyIsKeptWhereTheNewOneDoesNotPass(t *testing.T) {
	_, hosts := launched(t, 2)
	check, _, _ := talking(t, hosts, "while the second port is blocked")
	unblock := blocked(hosts[1], 6788, "input", "output")
	begun(t, hosts[0])
	for i, h := range hosts {
		netlab.Eventually(t, h.Name+" says why it keeps the old key", func() bool {
			s := status(t, h)
			return s.Mesh.Keys.Changing && len(s.Mesh.Keys.WaitingFor) == 1 &&
				s.Mesh.Keys.WaitingFor[0] == hosts[1-i].Name+" (no probe is answered by the new key, at UDP port 6788)" && *s.Links[0].KeyEpoch == 0
		})
		if out := h.Try("weft", "status").Stdout; !strings.Contains(out, "the ones before go when no host needs them: "+hosts[1-i].Name) {
			t.Errorf("status of %s:\n%s", h.Name, out)
		}
	}
	unblock()
	settledAt(t, hosts, 1)
	check()

	begun(t, hosts[0])
	hosts[1].Run("weft", "stop", "--all")
	hosts[1].Run("weft", "reset", "--yes", "--force")
	hosts[0].Run("weft", "reset", "--yes", "--force")
	for _, h := range hosts {
		left := h.Run("bash", "-c", "ip -o link show | grep weft; pgrep weft; find /run /var/lib -name '*we*ft*' -o -name '*wireguard*'; true")
		if left != "" {
			t.Errorf("in the middle of a change of keys %s has left:\n%s", h.Name, left)
		}
	}
}

func TestPortOfTheNewKeyThatIsTakenHoldsNeitherContainersNorRemovals(t *testing.T) {
	_, hosts := launched(t, 3)
	gone, held := hosts[2], hosts[1]
	check, _, _ := talking(t, hosts[:2], "while the port of the new key is taken")
	held.Run("ip", "link", "add", "theirs", "type", "vxlan", "id", "1", "dstport", "6788", "local", held.Addr.String())
	held.Run("ip", "link", "set", "theirs", "up")
	begun(t, hosts[0])
	netlab.Eventually(t, "it says which port is taken", func() bool {
		out := held.Try("weft", "status").Stdout
		return strings.Contains(out, "port-taken") && strings.Contains(out, "UDP port 6788")
	})
	attached(t, held, "more")
	held.Run("weft", "stop")
	held.Run("weft", "launch")
	kill9(t, gone)
	hosts[0].Run("weft", "rmpeer", "--yes", gone.Name)
	netlab.Eventually(t, "the removal is confirmed", func() bool {
		return !strings.Contains(hosts[0].Try("weft", "status").Stdout, "removal-pending")
	})
	if k := status(t, hosts[0]).Mesh.Keys; !k.Changing {
		t.Error("the change of keys does not wait")
	}
	held.Run("ip", "link", "delete", "theirs")
	settledAt(t, hosts[:2], 1)
	check()
}

// aged makes the keys of a host whose daemon is stopped two hours older.
func aged(t *testing.T, h *netlab.Host) {
	t.Helper()
	const bucket, key, made = "peer", "tunnel-slots", uint64(3)
	s, err := store.Open(h.Path("/var/lib/weft"), false)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	b, err := s.Get(bucket, key)
	if err != nil {
		t.Fatal(err)
	}
	var slots []map[uint64]any
	if err := cbor.Unmarshal(b, &slots); err != nil {
		t.Fatal(err)
	}
	for _, slot := range slots {
		at, ok := slot[made].(uint64) // seconds
		if !ok {
			t.Fatalf("a slot is %v", slot)
		}
		slot[made] = at - 2*3600
	}
	mode, err := cbor.CoreDetEncOptions().EncMode()
	if err == nil {
		b, err = mode.Marshal(slots)
	}
	if err := errors.Join(err, s.Commit([]store.Write{{Bucket: bucket, Key: []byte(key), Value: b}})); err != nil {
		t.Fatal(err)
	}
}

func TestKeysAreChangedByTheirAgeAndNothingIsLost(t *testing.T) {
	_, hosts := launched(t, 2)
	check, _, _ := talking(t, hosts, "across a change of keys that nobody asked for")
	was := publicKeys(t, hosts[0])
	hosts[0].Run("weft", "stop")
	aged(t, hosts[0])
	hosts[0].Run("weft", "launch", "--rotate-keys", "1h")
	settledAt(t, hosts, 1)
	for name, keys := range publicKeys(t, hosts[1]) {
		if slices.Contains(keys, was[name][0]) {
			t.Errorf("%s has its old key: %v", name, keys)
		}
	}
	check()
}
