package e2e

import (
	"strings"
	"testing"

	"github.com/weft-net/weft/internal/netlab"
)

func TestHostsWithOneNameAreToldApartAndARenamedOneIsFollowed(t *testing.T) {
	lab, hosts := launched(t, 2)
	a, b := hosts[0], hosts[1]
	twin := lab.Host("twin")
	twin.Run("hostname", b.Name)
	twin.Run("weft", "launch", "--join", a.Addr.String(), "--token", tokenOf(t, a))
	netlab.Eventually(t, "all know all", func() bool { return len(alive(t, a)) == 3 && len(alive(t, twin)) == 3 })
	idB, idTwin := status(t, b).Self.ID.String(), status(t, twin).Self.ID.String()

	for _, view := range []string{"peers", "links", "ipam", "targets"} {
		on, ids := a, []string{idB[:8], idTwin[:8]}
		if view == "targets" {
			on, ids = twin, []string{status(t, a).Self.ID.String()[:8]}
		}
		netlab.Eventually(t, view+" has the ids", func() bool {
			out := on.Run("weft", "status", view)
			for _, id := range ids {
				if !strings.Contains(out, id) {
					return false
				}
			}
			return true
		})
	}
	for _, lang := range []string{"dot", "mermaid"} {
		out := a.Run("weft", "status", "--graph="+lang)
		if !strings.Contains(out, idB[:8]) || !strings.Contains(out, idTwin[:8]) || !strings.Contains(out, "this host") {
			t.Errorf("%s: %s", lang, out)
		}
	}
	if out := a.Run("weft", "report"); !strings.Contains(out, idTwin) || strings.Contains(out, tokenOf(t, a)) {
		t.Errorf("report: %s", out)
	}
	r := a.Try("weft", "rmpeer", "--yes", b.Name)
	if r.Code != 1 || !strings.Contains(r.Stderr, idB) || !strings.Contains(r.Stderr, idTwin) || strings.Count(strings.TrimSpace(r.Stderr), "\n") > 0 {
		t.Errorf("rmpeer of a name that two have: %+v", r)
	}
	crash(t, lab, twin, hosts)
	netlab.Eventually(t, "what is wrong says which of the two it is", func() bool {
		return strings.Contains(a.Try("weft", "status").Stdout, "no answer from "+b.Name+" ("+idTwin[:8]+")")
	})
	if out := a.Run("weft", "rmpeer", "--yes", idTwin[:8]); !strings.Contains(out, b.Name+" ("+idTwin[:8]+")") {
		t.Errorf("rmpeer by the beginning of the id: %s", out)
	}

	// A host that was renamed has its new name from the next launch on.
	b.Run("hostname", "renamed")
	b.Run("weft", "stop")
	b.Run("weft", "launch")
	netlab.Eventually(t, "the new name is known", func() bool {
		for id, name := range alive(t, a) {
			if id.String() == idB {
				return name == "renamed"
			}
		}
		return false
	})
}
