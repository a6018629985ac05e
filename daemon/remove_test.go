package daemon

import (
	"strings"
	"testing"

	"github.com/weft-net/weft/api"
)

func TestAnErrorAfterHalfOfARevocationSaysWhatWasDone(t *testing.T) {
	err := &api.Error{Code: api.CodeTimeout, Message: "no majority", Fix: "wait"}
	got := api.CodeOf((&Daemon{}).having(t.Context(), "the token is another", err))
	text := (&Daemon{}).having(t.Context(), "the token is another", err).Error()
	if got != api.CodeTimeout || !strings.HasPrefix(text, "the token is another; no majority") || err.Message != "no majority" {
		t.Errorf("%s: %s", got, text)
	}
}
