package daemon

import (
	"slices"
	"testing"

	"github.com/weft-net/weft/mesh"
)

func TestATokenGivenByHandLosesNoneThatThisHostHad(t *testing.T) {
	p, dir := newState(t)
	had, given := p.token, p.token
	given.Secret[0]++
	change(t, dir, func(k keep) error {
		d := &Daemon{keep: k, opts: Options{Token: given.String()}}
		return d.renewToken(&p)
	})
	k, again, _, err := openKeep(dir, false)
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	if again.token != given || again.tokens == nil || !slices.Equal(again.tokens.Spare, []mesh.Token{had}) {
		t.Error("the token that was given is not used first, or the one before is lost")
	}
}
