package e2e

import (
	"testing"
	"time"

	"github.com/weft-net/weft/internal/netlab"
)

// Each host was told of the one before it alone, and the one in the middle has no
// address on the network.
func TestChainWithAnAddresslessMiddleHoldsWithoutIt(t *testing.T) {
	lab := newLab(t)
	first, middle, last := lab.Host("first"), lab.Host("middle"), lab.Host("last")
	first.Run("weft", "launch")
	token := tokenOf(t, first)
	middle.Run("weft", "launch", "--observer", "--join", first.Addr.String(), "--token", token)
	last.Run("weft", "launch", "--join", middle.Addr.String(), "--token", token)
	targets := func(h *netlab.Host) (out []string) {
		for _, x := range status(t, h).Targets {
			out = append(out, x.Target)
		}
		return out
	}
	knowsOf := func(h *netlab.Host, others ...*netlab.Host) {
		t.Helper()
		for _, o := range others {
			netlab.Eventually(t, h.Name+" sees "+o.Name, func() bool { return stateOf(status(t, h), o.Name) == "alive" })
		}
	}
	knowsOf(first, middle, last)
	knowsOf(last, middle, first)
	if s := status(t, middle); len(s.Self.Prefixes) != 0 || s.Bridge.Gateway.Addr().IsValid() {
		t.Errorf("the middle has %v and gateway %v", s.Self.Prefixes, s.Bridge.Gateway)
	}
	a, addrA := attached(t, first, "a")
	_, addrC := attached(t, last, "c")
	netlab.Eventually(t, "the ends of the chain reach each other", func() bool { return netlab.Pings(a, addrC) })

	check := pinging(t, a, addrC, "while the middle stops")
	middle.Run("weft", "stop")
	d, addrD := attached(t, last, "d")
	netlab.Eventually(t, "a container that came after the middle stopped is reached", func() bool { return netlab.Pings(a, addrD) })
	time.Sleep(time.Second)
	check()

	// A crash forgets neither the target nor the peers that it led to.
	kill9(t, last)
	last.Run("weft", "launch")
	if got := targets(last); len(got) != 1 || got[0] != middle.Addr.String() {
		t.Errorf("targets after a crash: %v", got)
	}
	knowsOf(last, first)
	mustPing(t, d, addrA, "after the crash")

	// Its target is replaced, and then it has none: who is known is found all the same.
	last.Run("weft", "connect", "--replace", first.Addr.String())
	if got := targets(last); len(got) != 1 || got[0] != first.Addr.String() {
		t.Errorf("targets after connect --replace: %v", got)
	}
	last.Run("weft", "forget", first.Addr.String())
	lab.Partition([]*netlab.Host{last}, []*netlab.Host{first})
	netlab.Eventually(t, "the ends lose each other", func() bool { return stateOf(status(t, first), "last") == "failed" })
	lab.Heal()
	knowsOf(last, first)
	knowsOf(first, last)
	middle.Run("weft", "launch")
	knowsOf(middle, first, last)
	netlab.Eventually(t, "the chain is as it was", func() bool { return netlab.Pings(a, addrC) && netlab.Pings(a, addrD) })
}
