package daemon

import (
	"slices"
	"testing"
)

func TestPortsThatWeftUsesCannotBePublished(t *testing.T) {
	s := settings{WireGuardPort: 6785, VXLANPort: 6784}
	if got := s.used("tcp", 6783); !slices.Equal(got, []uint16{6783}) {
		t.Errorf("TCP: %v", got)
	}
	got := s.used("udp", 6783)
	slices.Sort(got)
	if want := []uint16{6783, 6784, 6785, 6786, 6787, 6788}; !slices.Equal(got, want) {
		t.Errorf("UDP: %v; want %v", got, want)
	}
}
