package netlab

import (
	"net/netip"
	"testing"
	"time"
)

func TestHostsThatAreDeafHearNothingInThatDirectionAlone(t *testing.T) {
	lab := New(t)
	a, b := lab.Host("a"), lab.Host("b")
	Pings(a, b.Addr.String()) // now they know each other's hardware addresses
	for name, drops := range map[string]func(from, to int) bool{
		"what a says": func(from, to int) bool { return from == 0 && to == 1 },
		"what b says": func(from, to int) bool { return from == 1 && to == 0 },
	} {
		lab.Deafen(drops)
		if Pings(a, b.Addr.String()) {
			t.Errorf("%s is dropped, and pings come back", name)
		}
	}
	lab.Deafen(func(int, int) bool { return false })
	if !Pings(a, b.Addr.String()) {
		t.Error("nothing is dropped, and no ping comes back")
	}
}

func TestEchoKnowsWhichPingWasAnswered(t *testing.T) {
	c := New(t).Host("h").Container("c")
	self, nobody := netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("192.0.2.9")
	e := c.Echo()
	e.Send(self)
	if !e.Answered(self).IsZero() {
		t.Error("an address that is down has answered")
	}
	c.Run("ip", "link", "set", "lo", "up")
	began := time.Now()
	Eventually(t, "an answer comes", func() bool { e.Send(self); e.Send(nobody); return e.Answered(self).After(began) })
	if !e.Answered(nobody).IsZero() {
		t.Error("nobody has answered")
	}
}
