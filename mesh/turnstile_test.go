package mesh

import (
	"net"
	"testing"
)

func TestOneAddressDoesNotTakeAllPlaces(t *testing.T) {
	at := func(ip string) net.Addr { return &net.TCPAddr{IP: net.ParseIP(ip), Port: 1} }
	gate := newTurnstile(3, 2)
	for _, c := range []struct {
		from string
		want bool
	}{
		{"192.0.2.1", true}, {"::ffff:192.0.2.1", true}, {"192.0.2.1", false},
		{"2001:db8::1", true}, {"192.0.2.2", false}, // no place is left
	} {
		if got := gate.enter(at(c.from)); got != c.want {
			t.Errorf("%s enters: %v, want %v", c.from, got, c.want)
		}
	}
	gate.leave(at("192.0.2.1"))
	if !gate.enter(at("192.0.2.2")) {
		t.Error("a place that is free again is not given")
	}
	for _, from := range []string{"192.0.2.1", "192.0.2.2", "2001:db8::1"} {
		gate.leave(at(from))
	}
	if gate.all != 0 || len(gate.of) != 0 {
		t.Errorf("when all have left %d are in, of %v", gate.all, gate.of)
	}
}
