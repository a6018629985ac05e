package mesh

import (
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestHostThatKeepsKnockingIsLoggedOnceAMinute(t *testing.T) {
	var r refusals
	begin := time.Unix(0, 0)
	lines := 0
	for s := range 600 {
		if r.add(fmt.Sprintf("192.0.2.1:%d", s), "x", verdict{CodeBadToken, "no"}, begin.Add(time.Duration(s)*time.Second)) {
			lines++
		}
	}
	if lines != 10 {
		t.Errorf("%d lines in ten minutes", lines)
	}
	if got := r.all(); len(got) != 1 || got[0].Count != 600 || got[0].Addr != "192.0.2.1" {
		t.Errorf("refusals: %+v", got)
	}
	if !r.add("192.0.2.1:1", "x", verdict{CodeForeignMesh, "no"}, begin) {
		t.Error("another reason is no news")
	}
}

func TestMemoryOfRefusalsIsBoundedAndKeepsTheLatest(t *testing.T) {
	var r refusals
	for i := range 3 * refusalsKept {
		r.add("192.0.2.1:1", "always", verdict{CodeBadToken, "no"}, time.Unix(int64(i), 0))
		r.add(fmt.Sprintf("198.51.100.%d:1", i), "once", verdict{CodeBadToken, "no"}, time.Unix(int64(i), 0))
	}
	got := r.all()
	if len(got) != refusalsKept {
		t.Errorf("%d are kept", len(got))
	}
	for _, o := range got {
		if o.Name == "always" && o.Count == 3*refusalsKept {
			return
		}
	}
	t.Error("who knocks all the time was forgotten")
}

func TestMemberlistIsQuietButForWhatTheUserHasToKnow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out strings.Builder
		w := newMemberlog(slog.New(slog.NewTextHandler(&out, nil))).Writer()
		for range 100 {
			io.WriteString(w, "[ERR] memberlist: Failed fallback TCP ping: timeout\n")
			io.WriteString(w, "[WARN] memberlist: Was able to connect to x over TCP but UDP probes failed, network may be misconfigured\n")
		}
		if s := out.String(); strings.Count(s, "level=WARN") != 1 || !strings.Contains(s, "let UDP pass") || strings.Contains(s, "fallback") {
			t.Errorf("log:\n%s", s)
		}
		time.Sleep(memberlogQuiet)
		io.WriteString(w, "[WARN] memberlist: Was able to connect to x over TCP but UDP probes failed, network may be misconfigured\n")
		if n := strings.Count(out.String(), "level=WARN"); n != 2 {
			t.Errorf("%d warnings after the quiet time", n)
		}
	})
}
