package daemon

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/weft-net/weft/mesh"
)

func TestFoundersAreTheSameHoweverTheyAreWritten(t *testing.T) {
	want := []string{"192.0.2.1:6783", "192.0.2.2:7000"}
	for _, list := range [][]string{
		{"192.0.2.1", "192.0.2.2:7000"}, {"192.0.2.2:7000", "192.0.2.1:6783", "192.0.2.1"},
	} {
		if got, err := foundersOf(list, 6783); err != nil || !slices.Equal(got, want) {
			t.Errorf("%q are %q, %v", list, got, err)
		}
	}
	for _, list := range [][]string{{"CHANGE"}, {""}, {"192.0.2.1", "host"}} {
		if got, err := foundersOf(list, 6783); err == nil {
			t.Errorf("%q are %q", list, got)
		}
	}
}

func TestOnlyARefusalEndsTheWaitForFounders(t *testing.T) {
	unreachable := &mesh.UnreachableError{Addr: "192.0.2.1:6783", Err: errors.New("refused")}
	for _, c := range []struct {
		err  error
		want bool
	}{
		{nil, false}, {unreachable, false}, {errors.New("no such host"), false},
		{errors.Join(unreachable, fmt.Errorf("greet: %w", &mesh.RefusedError{Code: mesh.CodeBadToken})), true},
	} {
		if got := isRefused(c.err); got != c.want {
			t.Errorf("%v: %t", c.err, got)
		}
	}
}
