package e2e

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weft-net/weft/api"
	"github.com/weft-net/weft/internal/netlab"
)

// hasVoters waits until the council has so many voters.
func hasVoters(t *testing.T, h *netlab.Host, n int) {
	t.Helper()
	netlab.Eventually(t, fmt.Sprintf("%d hosts vote", n), func() bool { return len(status(t, h).IPAM.Voters) == n })
}

// blocksOf is how many blocks each host has, as another sees it.
func blocksOf(t *testing.T, h *netlab.Host) map[string]int {
	t.Helper()
	out := map[string]int{}
	for _, s := range status(t, h).IPAM.Shares {
		out[s.Name] += s.Blocks
	}
	return out
}

// crash ends a host's daemon and takes it off the underlay, as if it had lost
// its power; its containers run on.
func crash(t *testing.T, lab *netlab.Lab, h *netlab.Host, others []*netlab.Host) {
	t.Helper()
	lab.Partition([]*netlab.Host{h}, others)
	kill9(t, h)
}

func TestRemovedHostsSpaceIsInheritedAndItsContainersComeHome(t *testing.T) {
	lab, hosts := launched(t, 3)
	hasVoters(t, hosts[1], 3)
	gone := hosts[0] // founded the mesh, and leads
	a, addrA := attached(t, gone, "a")
	b, addrB := attached(t, hosts[1], "b")
	mustPing(t, b, addrA, "before the crash")
	crash(t, lab, gone, hosts[1:])
	began := time.Now()
	hosts[1].Run("weft", "rmpeer", "h1", "--yes")
	took := time.Since(began)
	t.Logf("rmpeer took %s", took.Round(time.Millisecond))
	shares := blocksOf(t, hosts[2])
	if shares["h1"] != 0 || shares["h2"]+shares["h3"] != status(t, hosts[2]).IPAM.Blocks {
		t.Errorf("after rmpeer the blocks are %v", shares)
	}
	if netlab.Pings(b, addrA) {
		t.Error("a removed host is heard")
	}
	// Whoever inherited its gateway's block may give its addresses now.
	hosts[1].Container("n")
	got := hosts[1].Run("weft", "attach", "n")
	t.Logf("the next container has %s", got)

	lab.Heal()
	gone.Run("weft", "launch")
	netlab.Eventually(t, "the host is a member again", func() bool { s := status(t, gone).IPAM; return s.Member && len(s.CutOff) == 0 })
	if s := gone.Run("weft", "ps"); !strings.Contains(s, addrA) {
		t.Errorf("after its return ps shows\n%s", s)
	}
	netlab.Eventually(t, "its container is reached by its old address", func() bool { return netlab.Pings(b, addrA) })
	mustPing(t, a, addrB, "from the container that came home")
}

func TestSidesOfABrokenNetworkGiveNoAddressTwice(t *testing.T) {
	lab, hosts := launched(t, 5)
	hasVoters(t, hosts[4], 5)
	lab.Partition(hosts[:2], hosts[2:])
	given := map[string]string{}
	for round := range 3 {
		for _, h := range hosts {
			name := fmt.Sprintf("%s-%d", h.Name, round)
			_, addr := attached(t, h, name)
			if other, twice := given[addr]; twice {
				t.Errorf("%s was given to %s and to %s", addr, other, name)
			}
			given[addr] = name
		}
	}
	lab.Heal()
	for _, h := range hosts {
		netlab.Eventually(t, h.Name+" sees all alive", func() bool {
			for _, p := range status(t, h).Peers {
				if p.State != "alive" {
					return false
				}
			}
			return len(status(t, h).IPAM.CutOff) == 0
		})
	}
	for _, h := range hosts {
		if got := blocksOf(t, h); len(got) != 5 {
			t.Errorf("%s sees the blocks of %v", h.Name, got)
		}
	}
}

func TestFoundersAgreeOnOneSplitAndJoinersWait(t *testing.T) {
	lab := newLab(t)
	var hosts []*netlab.Host
	var addrs []string
	for i := range 4 {
		h := lab.Host(fmt.Sprintf("f%d", i+1))
		hosts, addrs = append(hosts, h), append(addrs, h.Addr.String())
	}
	token := hosts[0].Run("weft", "token", "new")
	launch := []string{"weft", "launch", "--founders", strings.Join(addrs, ","), "--token", token}
	refuses(t, hosts[0], 5, "have not answered", append(launch, "--timeout", "2s")...)
	if got := hosts[0].Try("weft", "status").Code; got != 3 {
		t.Errorf("after a founding that failed, status has exit code %d", got)
	}
	var stops []func() string
	for _, h := range hosts {
		stops = append(stops, h.Start(launch...))
	}
	for _, h := range hosts {
		netlab.Eventually(t, h.Name+" has founded, or joined", func() bool {
			r := h.Try("weft", "status", "ipam", "-o", "json")
			return r.Code != 3 && strings.Contains(r.Stdout, `"member": true`)
		})
	}
	for _, stop := range stops {
		stop()
	}
	for _, h := range hosts {
		var s api.IPAM
		t.Cleanup(func() {
			if t.Failed() {
				t.Logf("%s: %+v", h.Name, s)
			}
		})
		netlab.Eventually(t, h.Name+" sees four equal shares", func() bool {
			s = status(t, h).IPAM
			for _, sh := range s.Shares {
				if sh.Blocks != s.Blocks/4 || len(sh.Prefixes) != 1 {
					return false
				}
			}
			return len(s.Shares) == 4
		})
	}
	// One that is not on the list joins those that are.
	other := lab.Host("other")
	other.Run(launch...)
	if s := status(t, other).IPAM; !s.Member || len(s.Shares) != 5 {
		t.Errorf("a host that is none of the founders is %+v", s)
	}
	// A list that grew is no other mesh.
	last := lab.Host("last")
	last.Run("weft", "launch", "--founders", strings.Join(append(addrs, last.Addr.String()), ","), "--token", token)
	if s := status(t, last).IPAM; !s.Member || len(s.Shares) != 6 {
		t.Errorf("a founder that was named later is %+v", s)
	}
	refuses(t, lab.Host("strange"), 5, "none of the founders", "weft", "launch", "--founders", "192.0.2.99", "--token", token, "--timeout", "2s")
}

func TestFounderThatIsLaunchedAnewFoundsNoSecondMesh(t *testing.T) {
	lab := newLab(t)
	a, b := lab.Host("a"), lab.Host("b")
	launch := []string{"weft", "launch", "--founders", a.Addr.String() + "," + b.Addr.String(), "--token", a.Run("weft", "token", "new")}
	stop := a.Start(launch...)
	b.Run(launch...)
	netlab.Eventually(t, "both are members", func() bool {
		return strings.Contains(a.Try("weft", "status", "ipam", "-o", "json").Stdout, `"member": true`) && status(t, b).IPAM.Member
	})
	stop()
	// The new id is the lower one every other time.
	for range 5 {
		b.Run("weft", "reset", "--force", "--yes")
		b.Run(launch...)
		if strings.Contains(b.Run("cat", "/var/lib/weft/weft.log"), "found the address plan") {
			t.Fatal("a founder that was launched anew has founded a second plan")
		}
	}
	netlab.Eventually(t, "both see the same plan", func() bool {
		sa, sb := status(t, a).IPAM, status(t, b).IPAM
		return sb.Member && sa.Decision == sb.Decision
	})
}

func TestObserverOwnsNothingUntilItIsAskedAndNeverVotes(t *testing.T) {
	lab, hosts := launched(t, 1)
	token := strings.Fields(hosts[0].Run("weft", "token", "show"))
	o := lab.Host("o")
	o.Run(append(token, "--observer")...)
	if s := status(t, o).IPAM; s.Member || s.Decision == 0 {
		t.Errorf("an observer that nobody asked for an address: %+v", s)
	}
	c, addr := attached(t, o, "c")
	_, home := attached(t, hosts[0], "h")
	mustPing(t, c, home, "from a container on the observer")
	if s := status(t, o).IPAM; !s.Member || !netip.MustParsePrefix("10.32.0.0/12").Contains(netip.MustParseAddr(addr)) {
		t.Errorf("after an attach the observer is %+v", s)
	}
	for i := range 2 {
		lab.Host(fmt.Sprintf("n%d", i)).Run(token...)
	}
	hasVoters(t, hosts[0], 3)
	for _, v := range status(t, hosts[0]).IPAM.Voters {
		if v == "o" {
			t.Error("an observer votes")
		}
	}
}

func TestAddressOfAnotherHostIsLeasedAndWaitsForAHostThatIsDown(t *testing.T) {
	lab, hosts := launched(t, 2)
	base := status(t, hosts[1]).Self.Prefixes[0].Addr()
	third := netip.MustParseAddr(base.String()).Next().Next().Next().String()
	a, addrA := attached2(t, hosts[0], "a", third)
	if addrA != third {
		t.Fatalf("attach of %s = %s", third, addrA)
	}
	b, addrB := attached(t, hosts[1], "b")
	mustPing(t, b, third, "an address of h2 on h1, from h2")
	mustPing(t, a, addrB, "back")
	hosts[1].Container("x")
	refuses(t, hosts[1], 1, "is taken", "weft", "attach", "x", third)

	fourth := netip.MustParseAddr(third).Next().Next().Next().String()
	lab.Partition(hosts[:1], hosts[1:])
	hosts[0].Container("late")
	refuses(t, hosts[0], 5, "which does not answer", "weft", "attach", "late", fourth, "--timeout", "2s")
	stop := hosts[0].Start("weft", "attach", "late", fourth, "--timeout", "40s")
	time.Sleep(time.Second)
	lab.Heal()
	netlab.Eventually(t, "the claim completes once the owner is back", func() bool {
		return strings.Contains(hosts[0].Run("weft", "ps"), fourth)
	})
	stop()
	hosts[0].Run("weft", "detach", "a")
	netlab.Eventually(t, "the lease is given back", func() bool { return status(t, hosts[1]).IPAM.LeasesOut == 1 })
}

func attached2(t *testing.T, h *netlab.Host, name, addr string) (*netlab.Container, string) {
	t.Helper()
	c := h.Container(name)
	return c, h.Run("weft", "attach", name, addr)
}

func TestRemovedHostIsNoPartOfTheMeshAndAnotherMayHaveItsName(t *testing.T) {
	lab, hosts := launched(t, 3)
	hasVoters(t, hosts[0], 3)
	gone, rest := hosts[2], hosts[:2]
	crash(t, lab, gone, rest)
	netlab.Eventually(t, "it is missed", func() bool { return stateOf(status(t, rest[0]), "h3") == "failed" })
	rest[0].Run("weft", "rmpeer", "--yes", "h3")
	for _, h := range rest {
		netlab.Eventually(t, h.Name+" knows it as removed, and warns of nothing", func() bool {
			s := status(t, h)
			return stateOf(s, "h3") == "removed" && !slices.ContainsFunc(s.Health, func(w api.Warning) bool { return w.Code == "peer-failed" || w.Code == "removal-pending" })
		})
	}
	lab.Heal()
	gone.Run("weft", "reset", "--yes", "--force")
	gone.Run("weft", "launch", "--join", rest[0].Addr.String(), "--token", tokenOf(t, rest[0]))
	netlab.Eventually(t, "the new host of that name is there", func() bool { return len(blocksOf(t, rest[0])) == 3 })
	crash(t, lab, gone, rest)
	if out := rest[0].Run("weft", "rmpeer", "--yes", "h3", "--timeout", "60s"); out != "h3" || len(blocksOf(t, rest[0])) != 2 {
		t.Errorf("by its name is removed: %s", out)
	}
	rest[1].Run("weft", "leave", "--yes", "--timeout", "60s")
	defer func() {
		if t.Failed() {
			t.Logf("peers:\n%s", rest[0].Run("weft", "status", "peers"))
		}
	}()
	netlab.Eventually(t, "nobody else is in the mesh", func() bool {
		return !slices.ContainsFunc(status(t, rest[0]).Peers, func(p api.Peer) bool { return !p.Self && !p.IsOut() })
	})
	if r := rest[0].Try("weft", "leave", "--yes", "--timeout", "60s"); r.Code != 0 {
		t.Errorf("the last host does not leave: %+v", r)
	}
}

func TestSeveralAreRemovedAtOnceByTwoWhoDoNotKnowOfEachOther(t *testing.T) {
	lab, hosts := launched(t, 5)
	hasVoters(t, hosts[4], 5)
	for _, h := range hosts[:2] {
		crash(t, lab, h, hosts[2:])
	}
	stop := hosts[3].Start("weft", "rmpeer", "--yes", "h2", "h1", "--timeout", "60s")
	hosts[4].Run("weft", "rmpeer", "--yes", "h1", "h2", "h1", "--timeout", "60s")
	if got := blocksOf(t, hosts[4]); got["h1"]+got["h2"] != 0 || len(got) != 3 {
		t.Errorf("after the removal the blocks are %v", got)
	}
	netlab.Eventually(t, "the other one has returned, too", func() bool { return len(blocksOf(t, hosts[3])) == 3 })
	if out := stop(); strings.Contains(out, "Error") || strings.Contains(out, "error") {
		t.Errorf("the other rmpeer: %s", out)
	}
	if got := hosts[2].Run("weft", "rmpeer", "--yes", "h1"); got != "h1" {
		t.Errorf("rmpeer again prints %q", got)
	}
}

func TestFounderLeavesAndTheOthersGoOn(t *testing.T) {
	_, hosts := launched(t, 3)
	hosts[0].Run("weft", "leave", "--yes", "--timeout", "60s")
	netlab.Eventually(t, "the others have everything, and decide", func() bool {
		s := status(t, hosts[1]).IPAM
		shares := blocksOf(t, hosts[1])
		return shares["h2"]+shares["h3"] == s.Blocks && len(s.Pending) == 0
	})
	for _, v := range status(t, hosts[1]).IPAM.Voters {
		if v == "h1" {
			t.Error("a host that has left votes")
		}
	}
	_, addr := attached(t, hosts[1], "c")
	d, _ := attached(t, hosts[2], "d")
	mustPing(t, d, addr, "after the founder has left")
}

func TestMeshGoesOnWithoutItsMajorityByForce(t *testing.T) {
	lab, hosts := launched(t, 3)
	hasVoters(t, hosts[2], 3)
	last := hosts[2]
	c, _ := attached(t, last, "c")
	for _, h := range hosts[:2] {
		crash(t, lab, h, []*netlab.Host{last})
	}
	refuses(t, last, 5, "majority of the voters", "weft", "rmpeer", "h1", "--yes", "--timeout", "4s")
	netlab.Eventually(t, "both are seen to fail", func() bool { return strings.Count(last.Try("weft", "status", "peers").Stdout, "failed") == 2 })
	refuses(t, last, 1, "h2", "weft", "rmpeer", "--force", "--yes", "h1")
	last.Run("weft", "rmpeer", "--force", "--yes", "h1", "h2")
	netlab.Eventually(t, "the last host has everything", func() bool {
		s := status(t, last).IPAM
		return blocksOf(t, last)["h3"] == s.Blocks && s.Forced == 1
	})
	if got := last.Run("weft", "attach", "c"); got == "" || !netlab.Pings(c, got) {
		t.Error("the container of the last host lost its address")
	}
	lab.Heal()
	hosts[0].Run("weft", "launch")
	netlab.Eventually(t, "one of those that were left out comes back as a new member", func() bool {
		s := status(t, hosts[0]).IPAM
		return s.Member && s.Forced == 1 && len(s.CutOff) == 0
	})
}

func TestPrimeReturnsWhenAddressesCanBeGiven(t *testing.T) {
	_, hosts := launched(t, 2)
	if r := hosts[1].Try("weft", "prime"); r.Code != 0 || !strings.Contains(r.Stderr, "addresses can be given") {
		t.Errorf("prime: %+v", r)
	}
	if status(t, hosts[1]).IPAM.Free == 0 {
		t.Error("after prime there is no address")
	}
}

func TestSubnetsLimitWhereAddressesComeFrom(t *testing.T) {
	_, hosts := launched(t, 2, "--default-subnet", "10.33.0.0/16")
	_, addr := attached(t, hosts[0], "a")
	if !strings.HasPrefix(addr, "10.33.0.") {
		t.Errorf("with a default subnet the address is %s", addr)
	}
	hosts[1].Container("b")
	if got := hosts[1].Run("weft", "attach", "b", "--subnet", "10.33.7.0/24"); !strings.HasPrefix(got, "10.33.7.") {
		t.Errorf("in a subnet of another host's blocks the address is %s", got)
	}
	hosts[0].Container("c")
	refuses(t, hosts[0], 2, "outside", "weft", "attach", "c", "--subnet", "10.200.0.0/16")
	refuses(t, hosts[0], 2, "not a network", "weft", "attach", "c", "--subnet", "10.33.0.1/16")
}

func TestContainerMayHaveSeveralAddresses(t *testing.T) {
	_, hosts := launched(t, 2)
	p, _ := attached(t, hosts[1], "p")
	far := status(t, hosts[1]).Self.Prefixes[0].Addr().Next().Next().Next().String()
	hosts[0].Container("c")
	if got := hosts[0].Run("weft", "attach", "c", "10.32.0.50", "10.32.0.51"); got != "10.32.0.50\n10.32.0.51" {
		t.Errorf("attach with two addresses prints %q", got)
	}
	hosts[0].Run("weft", "attach", "c", far)
	for _, addr := range []string{"10.32.0.50", "10.32.0.51", far} {
		netlab.Eventually(t, addr+" answers", func() bool { return netlab.Pings(p, addr) })
	}
	hosts[0].Run("weft", "detach", "c", "10.32.0.50")
	if netlab.Pings(p, "10.32.0.50") {
		t.Error("an address that was taken off answers")
	}
	netlab.Eventually(t, "the others answer still", func() bool { return netlab.Pings(p, "10.32.0.51") && netlab.Pings(p, far) })
	kill9(t, hosts[0])
	hosts[0].Run("weft", "launch")
	mustPing(t, p, "10.32.0.51", "after a restart")
	hosts[0].Run("weft", "detach", "c")
	if u := status(t, hosts[0]).IPAM.Used; u != 1 {
		t.Errorf("after detach %d addresses are in use besides the gateway", u-1)
	}
}

func TestRemovedObserverComesBackForItsContainers(t *testing.T) {
	lab, hosts := launched(t, 1)
	o := lab.Host("o")
	token := strings.Fields(hosts[0].Run("weft", "token", "show"))
	if r := o.Try(append(token, "--observer")...); strings.Contains(r.Stderr, "invalid") || !strings.Contains(r.Stderr, "until a container needs it") {
		t.Errorf("launch of an observer says\n%s", r.Stderr)
	}
	_, addr := attached(t, o, "c")
	home, _ := attached(t, hosts[0], "h")
	o.Run("weft", "attach", "c", "10.32.0.99")
	crash(t, lab, o, hosts)
	hosts[0].Run("weft", "rmpeer", "o", "--yes", "--timeout", "40s")
	lab.Heal()
	o.Run("weft", "launch")
	for _, a := range []string{addr, "10.32.0.99"} {
		netlab.Eventually(t, a+" is reached again", func() bool { return netlab.Pings(home, a) })
	}
	kill9(t, o)
	o.Run("weft", "launch")
	netlab.Eventually(t, "it is a member with its containers after a restart", func() bool {
		s := status(t, o)
		return s.IPAM.Member && len(s.IPAM.CutOff) == 0 && s.Bridge.Gateway.IsValid()
	})
}

func TestSubnetHasRoomWhereOneOfItsHostsIsDownAndAnotherPacksLow(t *testing.T) {
	lab, hosts := launched(t, 3, "--range", "10.32.0.0/20", "--block-bits", "22")
	for i := range 70 {
		hosts[0].Container(fmt.Sprintf("c%d", i))
		hosts[0].Run("weft", "attach", fmt.Sprintf("c%d", i))
	}
	hosts[1].Container("x")
	hosts[1].Run("weft", "attach", "x", "--subnet", "10.32.0.0/21")
	crash(t, lab, hosts[2], hosts[:2])
	hosts[1].Container("y")
	hosts[1].Run("weft", "attach", "y", "--subnet", "10.32.0.0/21")
}
