package cli

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/weft-net/weft/api"
)

// fourHosts is a mesh as its first host sees it: two others have one name, one
// does not answer, one is reached by way of another, one has left.
func fourHosts() api.Status {
	peer := func(digit, name, state string) api.Peer {
		return api.Peer{ID: uuid.MustParse(strings.ReplaceAll("xxxxxxxx-xxxx-8xxx-8xxx-xxxxxxxxxxxx", "x", digit)), Name: name, State: state}
	}
	six := peer("6", "six", "alive")
	s := api.Status{Mesh: api.Mesh{ID: uuid.MustParse("99999999-9999-9999-9999-999999999999")},
		Peers: []api.Peer{peer("1", `na"m\e`, "alive"), peer("2", "web", "alive"), peer("3", "web", "failed"), peer("4", "<b>", "alive"), peer("5", "gone", "departed"), six}}
	s.Peers[0].Self = true
	s.Self = s.Peers[0]
	broken := func(i int) []api.PeerName { return []api.PeerName{{ID: s.Peers[i].ID}} }
	s.Peers[0].Broken, s.Peers[1].Broken, s.Peers[3].Broken, s.Peers[2].Broken = broken(1), broken(3), broken(1), broken(4)
	s.Links = []api.Link{
		{Peer: s.Peers[1].ID, Name: "web", Transport: "wireguard", Answers: true, Proven: true, RTT: 1234567 * time.Nanosecond},
		{Peer: s.Peers[2].ID, Name: "web", Transport: "vxlan", Proven: true, Probes: 100},
		{Peer: s.Peers[3].ID, Name: "<b>", Reason: `it has "no" address`},
		{Peer: six.ID, Name: "six", Transport: "wireguard", Via: []api.PeerName{{ID: s.Peers[1].ID, Name: "web (22222222)"}}, ViaRTT: 2 * time.Millisecond},
		{Peer: s.Peers[4].ID, Name: "gone", Transport: "vxlan"},
	}
	return s
}

func TestGraphIsAsItWas(t *testing.T) {
	f := newFake(t, map[string]any{api.PathStatus: fourHosts()})
	turned := fourHosts()
	slices.Reverse(turned.Peers)
	slices.Reverse(turned.Links)
	again := newFake(t, map[string]any{api.PathStatus: turned})
	for flag, file := range map[string]string{"--graph": "mesh.dot", "--graph=dot": "mesh.dot", "--graph=mermaid": "mesh.mmd"} {
		out, errs, code := run(nil, "status", flag, "--socket", f.socket)
		if errs != "" || code != exitOK {
			t.Fatalf("%s: exit code %d, %s", flag, code, errs)
		}
		path := filepath.Join("testdata", file)
		if *update {
			if err := os.WriteFile(path, []byte(out), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil || out != string(want) {
			t.Errorf("%s: %v; got\n%s\nwant\n%s", flag, err, out, want)
		}
		if other, _, _ := run(nil, "status", flag, "--socket", again.socket); other != out {
			t.Errorf("%s: in another order it is\n%s", flag, other)
		}
	}
	for _, args := range [][]string{{"--graph=svg"}, {"--graph", "peers"}, {"--graph", "--ready"}, {"--graph", "-o", "json"}} {
		if out, errs, code := run(nil, slices.Concat([]string{"status", "--socket", f.socket}, args)...); code != exitUsage || out != "" || strings.Count(errs, "\n") != 1 {
			t.Errorf("%v: exit code %d, %q, %q", args, code, out, errs)
		}
	}
}

// The part of graphviz's grammar that is used: names and labels are quoted, and a
// quoted text has no bare quote or line break in it.
var dotLine = regexp.MustCompile(`^  ("([^"\\\n]|\\.)*"( -- "([^"\\\n]|\\.)*")?|node|label="([^"\\\n]|\\.)*")( \[\w+=("([^"\\\n]|\\.)*"|\w+)(, \w+=\w+)*\])?$`)

func TestDotIsGraphviz(t *testing.T) {
	lines := strings.Split(dot(fourHosts()), "\n")
	if lines[0] != "graph weft {" || lines[len(lines)-2] != "}" || lines[len(lines)-1] != "" {
		t.Fatalf("it is no graph: %q", lines)
	}
	nodes, edges := 0, 0
	for _, l := range lines[1 : len(lines)-2] {
		if !dotLine.MatchString(l) {
			t.Errorf("no statement: %s", l)
		}
		switch {
		case strings.Contains(l, " -- "):
			edges++
		case strings.HasPrefix(l, `  "`):
			nodes++
		}
	}
	if nodes != 5 || edges != 5 {
		t.Errorf("%d nodes and %d edges", nodes, edges)
	}
}

func TestReportHasEverything(t *testing.T) {
	f := newFake(t, map[string]any{api.PathStatus: fourHosts(), api.PathAttachments: []api.Attachment{{Container: "c"}}})
	out, errs, code := run(nil, "report", "--socket", f.socket)
	var r api.Report
	if err := json.Unmarshal([]byte(out), &r); err != nil || code != exitOK || errs != "" {
		t.Fatalf("exit code %d, %v, %s", code, err, errs)
	}
	if len(r.Status.Peers) != 6 || len(r.Attachments) != 1 || r.Graph != dot(fourHosts()) || r.Taken.IsZero() {
		t.Errorf("report: %+v", r)
	}
}

func TestQuotingLeavesItsLinesAsTheyAre(t *testing.T) {
	lines := []string{`a"b`, "c"}
	if got := quoting(strings.NewReplacer(`"`, `'`), "|")(lines...); got != `"a'b|c"` || lines[0] != `a"b` {
		t.Errorf("%s of %q", got, lines)
	}
}
