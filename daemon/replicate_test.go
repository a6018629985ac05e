package daemon

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"
)

func TestRefusedMessagesAmongOthersDoNotFillTheLog(t *testing.T) {
	var out bytes.Buffer
	now := time.Unix(1000, 0)
	d := &Daemon{log: slog.New(slog.NewTextHandler(&out, nil)), now: func() time.Time { return now }}
	d.health.failing = map[string]error{}
	r := &replicate{d: d}
	say := func(err error) { r.noteMessage("plan-receive", &r.badMessage, err) }
	for i := range 50 {
		say(errors.New("from h" + string(rune('a'+i%3)) + ": not understood"))
		say(nil)
		now = now.Add(time.Second)
	}
	if n := strings.Count(out.String(), "\n"); n != 1 || d.health.of("plan-receive") == "" {
		t.Errorf("%d lines, health %q:\n%s", n, d.health.of("plan-receive"), out.String())
	}
	now = now.Add(refusedShown)
	if say(nil); d.health.of("plan-receive") != "" {
		t.Error("what is over is shown still")
	}
}
