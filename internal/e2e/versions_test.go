package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/weft-net/weft/internal/netlab"
)

var protocolVersion = regexp.MustCompile(`const ProtocolVersion = (\d+)`)

// later builds a weft of the next version of the protocol, or of the one after that
// where FAR is set. It says more than today's in its records, around them and in its
// hellos, and shows what it reads of that behind the version of a peer's software. It
// returns today's version, too.
func later(t *testing.T) (path string, today int) {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	replace := map[string]string{}
	change := func(file string, pairs ...string) {
		t.Helper()
		whole := filepath.Join(root, file)
		b, err := os.ReadFile(whole)
		if err != nil {
			t.Fatal(err)
		}
		text := string(b)
		for i := 0; i < len(pairs); i += 2 {
			if strings.Count(text, pairs[i]) != 1 {
				t.Fatalf("%s has not once %q", file, pairs[i])
			}
			text = strings.Replace(text, pairs[i], pairs[i+1], 1)
		}
		replace[whole] = filepath.Join(dir, strings.ReplaceAll(file, "/", "_"))
		if err := os.WriteFile(replace[whole], []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(filepath.Join(root, "mesh/protocol.go"))
	if err != nil {
		t.Fatal(err)
	}
	m := protocolVersion.FindSubmatch(b)
	if m == nil {
		t.Fatal("mesh/protocol.go has no version")
	}
	today, _ = strconv.Atoi(string(m[1]))
	change("mesh/protocol.go", "package mesh\n", "package mesh\n\nimport \"os\"\n",
		string(m[0]), fmt.Sprintf("var ProtocolVersion = %d + len(os.Getenv(\"FAR\"))", today+1))
	change("mesh/record.go",
		"type Body struct {", "type Body struct {\n\tTomorrow []string `cbor:\"9001,keyasint,omitempty\"`",
		"type payload struct {", "type payload struct {\n\tAround uint64 `cbor:\"9002,keyasint\"`",
		"p := encode(payload{meshID, i.Key.Public().(ed25519.PublicKey), version, body})",
		"said := body\n\tsaid.Tomorrow = []string{\"tomorrow\"}\n\tp := encode(payload{Around: 42, Mesh: meshID, Key: i.Key.Public().(ed25519.PublicKey), Version: version, Body: said})",
		"return newRecord(IDOf(p.Key)", "p.Body.Software += fmt.Sprintf(\"+%v%d\", p.Body.Tomorrow, p.Around)\n\treturn newRecord(IDOf(p.Key)")
	change("mesh/hello.go", "type helloOpen struct {", "type helloOpen struct {\n\tTomorrow string `cbor:\"9001,keyasint\"`",
		"type helloAnswer struct {", "type helloAnswer struct {\n\tTomorrow string `cbor:\"9001,keyasint\"`",
		"type helloEnd struct {", "type helloEnd struct {\n\tTomorrow string `cbor:\"9001,keyasint\"`")
	change("mesh/hello_client.go", "helloOpen{", "helloOpen{Tomorrow: \"more\", ")
	change("mesh/hello_server.go", "helloAnswer{", "helloAnswer{Tomorrow: \"more\", ", "helloEnd{", "helloEnd{Tomorrow: \"more\", ")
	overlay, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "overlay.json"), overlay, 0o600); err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(dir, "weft")
	cmd := exec.Command("go", "build", "-overlay", filepath.Join(dir, "overlay.json"), "-trimpath", "-ldflags", "-s -w", "-o", path, "github.com/weft-net/weft")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build: %v: %s", err, out)
	}
	return path, today
}

func TestNeighbouringVersionsAreOneMeshAndOthersAreRefused(t *testing.T) {
	runTogether(t)
	next, version := later(t)
	lab := netlab.New(t)
	today, next1, next2, distant := lab.Host("today"), lab.Host("next1"), lab.Host("next2"), lab.Host("distant")
	// The two that are newer hear of each other by way of the older one alone.
	lab.Partition([]*netlab.Host{next1}, []*netlab.Host{next2})
	today.Run("weft", "launch")
	join := []string{"launch", "--join", today.Addr.String(), "--token", tokenOf(t, today)}
	for _, h := range []*netlab.Host{next1, next2} {
		h.Run(append([]string{next}, join...)...)
	}
	software := func(h *netlab.Host, of string) string {
		for _, p := range status(t, h).Peers {
			if p.Name == of {
				return p.Software
			}
		}
		return ""
	}
	for h, of := range map[*netlab.Host]string{next1: "next2", next2: "next1"} {
		netlab.Eventually(t, h.Name+" has all that the other newer one said", func() bool { return strings.HasSuffix(software(h, of), "+[tomorrow]42") })
		if got := software(h, "today"); !strings.HasSuffix(got, "+[]0") {
			t.Errorf("today's is shown as %s", got)
		}
	}
	lab.Heal()
	hosts := []*netlab.Host{today, next1, next2}
	for _, h := range hosts {
		netlab.Eventually(t, h.Name+" knows all", func() bool { return len(alive(t, h)) == 3 })
	}
	var from []*netlab.Container
	var to []string
	for i, h := range hosts {
		c, addr := attached(t, h, fmt.Sprintf("c%d", i))
		from, to = append(from, c), append(to, addr)
	}
	for _, c := range from {
		for _, addr := range to {
			netlab.Eventually(t, c.Name+" reaches "+addr, func() bool { return netlab.Pings(c, addr) })
		}
	}

	// One that is two versions ahead.
	refuses(t, distant, 1, fmt.Sprintf("it speaks protocol version %d, this host version %d: upgrade the older", version, version+2), append([]string{"env", "FAR=1", next}, join...)...)
	if s := status(t, today); len(s.Refused) != 1 || s.Refused[0].Code != "version" || !strings.Contains(s.Refused[0].Reason, fmt.Sprint("version ", version+2)) || !warns(t, today, "hosts-refused") {
		t.Errorf("today's host says of it: %+v", s.Refused)
	}

	// A newer one leaves, and the older one is upgraded where it is.
	next1.Run(next, "leave", "--yes")
	netlab.Eventually(t, "it has left", func() bool {
		return stateOf(status(t, today), "next1") == "departed" && stateOf(status(t, next2), "next1") == "departed"
	})
	check := pinging(t, from[2], to[0], "while the older one is upgraded")
	today.Run("weft", "stop")
	today.Run(next, "launch")
	netlab.Eventually(t, "it says more now", func() bool { return strings.HasSuffix(software(next2, "today"), "+[tomorrow]42") })
	check()
	for _, h := range []*netlab.Host{today, next2} {
		if c := status(t, h).Gossip; !c.LastRefused.IsZero() {
			t.Errorf("%s has refused %+v", h.Name, c)
		}
	}
}
