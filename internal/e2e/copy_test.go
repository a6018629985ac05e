package e2e

import (
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/weft-net/weft/api"
	"github.com/weft-net/weft/internal/netlab"
)

// copyStore gives a host the state of another one, as it is on its disk now.
func copyStore(t *testing.T, from, to *netlab.Host) {
	t.Helper()
	if out, err := exec.Command("cp", "-a", from.Path("/var/lib/weft"), to.Path("/var/lib/")).CombinedOutput(); err != nil {
		t.Fatalf("copy the store: %v: %s", err, out)
	}
}

// copyMachineID makes a host look like another to whoever goes by machine-id(5).
func copyMachineID(t *testing.T, from, to *netlab.Host) {
	t.Helper()
	id, err := os.ReadFile(from.Path("/run/machine-id"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to.Path("/run/machine-id"), id, 0o600); err != nil {
		t.Fatal(err)
	}
}

// alive are the ids of the peers that answer, as a host sees them.
func alive(t *testing.T, h *netlab.Host) map[uuid.UUID]string {
	t.Helper()
	out := map[uuid.UUID]string{}
	for _, p := range status(t, h).Peers {
		if p.State == "alive" {
			out[p.ID] = p.Name
		}
	}
	return out
}

func TestCopiedMachineBecomesAnotherPeerAndTheOriginalGoesOn(t *testing.T) {
	lab, hosts := launched(t, 2)
	original, other := hosts[0], hosts[1]
	_, addr := attached(t, original, "a")
	b, _ := attached(t, other, "b")
	id := status(t, original).Self.ID
	original.Run("weft", "stop")
	template := lab.Host("template") // is never launched
	copyStore(t, original, template)
	original.Run("weft", "launch")
	netlab.Eventually(t, "the original is back", func() bool { return len(alive(t, other)) == 2 })
	check := pinging(t, b, addr, "to the original while its copies start")

	sameMachine, otherMachine := lab.Host("copy1"), lab.Host("copy2")
	copyMachineID(t, original, sameMachine)
	for i, c := range []*netlab.Host{sameMachine, otherMachine} {
		copyStore(t, template, c)
		if r := c.Try("weft", "launch"); r.Code != 0 || !strings.Contains(r.Stderr, "become another peer") || !strings.Contains(r.Stderr, id.String()+" runs at "+original.Addr.String()) {
			t.Fatalf("%s: %+v", c.Name, r)
		}
		netlab.Eventually(t, c.Name+" is a member by itself", func() bool { s := status(t, c); return s.Self.ID != id && s.IPAM.Member && len(s.Self.Prefixes) > 0 })
		if !warns(t, c, "was-a-copy") {
			t.Errorf("%s does not say that it was a copy: %+v", c.Name, status(t, c).Health)
		}
		for _, h := range []*netlab.Host{original, other, c} {
			netlab.Eventually(t, h.Name+" knows all", func() bool { return len(alive(t, h)) == 3+i })
		}
		n, addrN := attached(t, c, "n")
		netlab.Eventually(t, "a new container there is reached", func() bool { return netlab.Pings(b, addrN) })
		mustPing(t, n, addr, "from a copy to the original")
	}
	check()
	if s := status(t, original); s.Self.ID != id || len(s.IPAM.CutOff) > 0 {
		t.Errorf("the original is %s and has cut off %+v", s.Self.ID, s.IPAM.CutOff)
	}
	// It is decided once: the next start asks nobody.
	is := status(t, sameMachine).Self.ID
	kill9(t, sameMachine)
	sameMachine.Run("weft", "launch")
	if got := status(t, sameMachine).Self.ID; got != is {
		t.Errorf("after a restart the copy is %s; was %s", got, is)
	}
}

func TestCopyThatStartsApartGivesWayWhenItMeetsTheMesh(t *testing.T) {
	lab, hosts := launched(t, 2)
	original, other := hosts[0], hosts[1]
	id := status(t, original).Self.ID
	original.Run("weft", "stop")
	apart := lab.Host("apart")
	copyStore(t, original, apart)
	copyMachineID(t, original, apart)
	original.Run("weft", "launch")
	_, addr := attached(t, original, "a")
	b, _ := attached(t, other, "b")
	netlab.Eventually(t, "the original is back", func() bool { return len(alive(t, other)) == 2 && netlab.Pings(b, addr) })
	lab.Partition([]*netlab.Host{apart}, hosts)
	apart.Run("weft", "launch")
	if got := status(t, apart).Self.ID; got != id {
		t.Fatalf("alone it is %s already; want %s", got, id)
	}
	lab.Heal()
	netlab.Eventually(t, "it is another peer, and a member", func() bool {
		var s api.Status
		if json.Unmarshal([]byte(apart.Try("weft", "status", "-o", "json").Stdout), &s) != nil {
			return false // between two lives
		}
		return s.Self.ID != id && s.IPAM.Member
	})
	for _, h := range []*netlab.Host{original, other, apart} {
		netlab.Eventually(t, h.Name+" knows all", func() bool { return len(alive(t, h)) == 3 })
	}
	// Packets of both came by one key for a moment, and WireGuard follows the latest.
	netlab.Eventually(t, "the original is reached", func() bool { return netlab.Pings(b, addr) })
	check := pinging(t, b, addr, "to the original when the copy is another peer")
	time.Sleep(time.Second)
	check()
	if got := status(t, original).Self.ID; got != id {
		t.Errorf("the original is %s; was %s", got, id)
	}
}

// What a host was told to advertise is in its copy's store, too, and looks there like
// the address of a router that forwards.
func TestCopyInAnotherNetworkOfAHostThatAdvertisesIsFoundBeforeItStarts(t *testing.T) {
	lab := newLab(t)
	original, other, copied := lab.Host("original"), lab.Host("other"), lab.Host("copy")
	second := lab.Segment(other, copied)
	copied.Run("ip", "link", "delete", "eth0") // it is on the second segment alone
	original.Run("weft", "launch", "--advertise", original.Addr.String())
	id := status(t, original).Self.ID
	other.Run("weft", "launch", "--advertise", other.Addr.String()+","+second[0].String(), "--join", original.Addr.String(), "--token", tokenOf(t, original))
	netlab.Eventually(t, "they know each other", func() bool { return len(alive(t, original)) == 2 && len(alive(t, other)) == 2 })
	original.Run("weft", "stop")
	copyStore(t, original, copied)
	copyMachineID(t, original, copied)
	original.Run("weft", "launch")
	netlab.Eventually(t, "the original is back", func() bool { return len(alive(t, other)) == 2 })
	if r := copied.Try("weft", "launch"); r.Code != 0 || !strings.Contains(r.Stderr, "become another peer") || !strings.Contains(r.Stderr, id.String()+" runs at "+original.Addr.String()) {
		t.Fatalf("the copy: %+v", r)
	}
	if got := status(t, original).Self.ID; got != id {
		t.Errorf("the original is %s; was %s", got, id)
	}
}

func TestHostThatMovedOrGotAnotherMachineIDKeepsItsAddresses(t *testing.T) {
	lab, hosts := launched(t, 2)
	h, other := hosts[0], hosts[1]
	_, addr := attached(t, h, "a")
	b, _ := attached(t, other, "b")
	id := status(t, h).Self.ID

	// Another machine-id, and nothing else.
	h.Run("weft", "stop")
	h.Run("bash", "-c", "echo 0123456789abcdef0123456789abcdef > /run/machine-id")
	if r := h.Try("weft", "launch"); r.Code != 0 || !strings.Contains(r.Stderr, "keep the identity") {
		t.Fatalf("with another machine-id: %+v", r)
	}
	if s := status(t, h); s.Self.ID != id || len(s.IPAM.CutOff) > 0 {
		t.Errorf("it is %s, was %s, and has cut off %+v", s.Self.ID, id, s.IPAM.CutOff)
	}
	mustPing(t, b, addr, "after the machine-id changed")

	// The disk goes to another machine, with containers on it; the first one is
	// off. It is the same peer there.
	h.Run("weft", "stop")
	moved := lab.Host("moved")
	copyStore(t, h, moved)
	moved.Container("a")
	if r := moved.Try("weft", "launch"); r.Code != 0 || !strings.Contains(r.Stderr, "keep the identity") {
		t.Fatalf("on another machine: %+v", r)
	}
	netlab.Eventually(t, "it is a peer at another place", func() bool { return alive(t, other)[id] == "moved" })
	moved.Run("weft", "stop")

	// An image that never had a container makes new hosts.
	other.Run("ip", "netns", "delete", "b")
	other.Run("weft", "detach", "b")
	wasOther := status(t, other).Self.ID
	h.Run("weft", "launch")
	netlab.Eventually(t, "they see each other", func() bool { return len(alive(t, h)) == 2 })
	other.Run("weft", "stop")
	image := lab.Host("image")
	copyStore(t, other, image)
	if r := image.Try("weft", "launch"); r.Code != 0 || !strings.Contains(r.Stderr, "become another peer") || status(t, image).Self.ID == wasOther {
		t.Fatalf("an image: %+v", r)
	}
}
