// Package internal's test states the rules of the house: who may import whom,
// and how large a file may grow.
package internal

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/weft-net/weft"

// mayImport lists for each package which others of the module it may use.
// One that is not listed may use none.
var mayImport = map[string][]string{
	"":           {"cli", "plugin/cni"},
	"plugin/cni": {"api", "internal/journal"},

	"plugin/cni/weft-cni": {"plugin/cni"},
	"cli":                 {"api", "daemon", "internal/wgproc"},
	"ipam":                {"ipam/council"},
	"daemon":              {"api", "mesh", "mesh/topology", "ipam", "bridge", "encap", "encap/probe", "engine", "internal/cnifiles", "internal/journal", "internal/nl", "internal/store", "internal/ula", "internal/wgproc"},
	"bridge":              {"internal/nl", "internal/ula"},
	"encap":               {"encap/probe", "internal/nl", "internal/ula", "internal/wgproc"},
	"encap/probe":         {"internal/nl"},
	"internal/wgproc":     {"internal/nl"},
	"internal/netlab":     {"internal/nl"},
	"internal/simnet":     {"mesh"},
	"mesh":                {"internal/simnet"},
	"internal/e2e":        {"api", "mesh", "internal/netlab", "internal/soak", "internal/store"},
	"internal/bench":      {"internal/netlab"},
}

// only lists the packages that alone may import something from outside, with
// blanks between them.
var only = map[string]string{
	"github.com/vishvananda/netlink":         "internal/nl",
	"github.com/vishvananda/netns":           "internal/nl",
	"github.com/google/nftables":             "internal/nl",
	"github.com/mdlayher/netlink":            "internal/nl",
	"github.com/hashicorp/memberlist":        "mesh internal/simnet",
	"go.etcd.io/bbolt":                       "internal/store",
	"github.com/spf13/cobra":                 "cli",
	"go.etcd.io/raft/v3":                     "ipam/council",
	"google.golang.org/protobuf/proto":       "ipam/council",
	"github.com/coreos/go-iptables/iptables": "bridge",
	"golang.zx2c4.com/wireguard/device":      "internal/wgproc internal/bench",

	"github.com/hashicorp/serf/coordinate":        "mesh/topology",
	"github.com/containernetworking/cni/pkg/skel": "plugin/cni",
	"golang.zx2c4.com/wireguard/wgctrl":           "encap",
}

type goPackage struct {
	ImportPath  string
	Dir         string
	Doc         string
	Imports     []string
	TestImports []string
	GoFiles     []string
	TestGoFiles []string
}

func packages(t *testing.T) []goPackage {
	t.Helper()
	out, err := exec.Command("go", "list", "-json=ImportPath,Dir,Doc,Imports,TestImports,GoFiles,TestGoFiles", module+"/...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var list []goPackage
	for d := json.NewDecoder(bytes.NewReader(out)); d.More(); {
		var p goPackage
		if err := d.Decode(&p); err != nil {
			t.Fatal(err)
		}
		list = append(list, p)
	}
	if len(list) < 10 {
		t.Fatalf("go list knows only %d packages", len(list))
	}
	return list
}

func TestPackagesImportOnlyDownwards(t *testing.T) {
	for _, p := range packages(t) {
		name := strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, module), "/")
		for _, i := range append(p.Imports, p.TestImports...) {
			if rest, inside := strings.CutPrefix(i, module+"/"); inside && !slices.Contains(mayImport[name], rest) {
				t.Errorf("%s imports %s", p.ImportPath, rest)
			}
			if owner, ok := only[i]; ok && !slices.Contains(strings.Fields(owner), name) {
				t.Errorf("%s imports %s, which is for %s alone", p.ImportPath, i, owner)
			}
		}
	}
}

func TestEveryPackageSaysWhatItIsFor(t *testing.T) {
	for _, p := range packages(t) {
		if len(p.GoFiles) > 0 && p.Doc == "" {
			t.Errorf("%s has no doc comment", p.ImportPath)
		}
	}
}

func TestFilesStaySmall(t *testing.T) {
	const most = 500
	var sizes []int
	for _, p := range packages(t) {
		for _, f := range append(p.GoFiles, p.TestGoFiles...) {
			b, err := os.ReadFile(filepath.Join(p.Dir, f))
			if err != nil {
				t.Fatal(err)
			}
			n := bytes.Count(b, []byte("\n"))
			sizes = append(sizes, n)
			if n > most {
				t.Errorf("%s/%s has %d lines; split it by subject", p.ImportPath, f, n)
			}
		}
	}
	slices.Sort(sizes)
	if m := sizes[len(sizes)/2]; m > 150 {
		t.Errorf("the median file has %d lines; want at most 150", m)
	}
}

// Two fields of one number are both lost, without an error.
func TestNumbersOfStoredAndSentFieldsAreUnique(t *testing.T) {
	number := regexp.MustCompile(`cbor:"(\d+),keyasint`)
	for _, p := range packages(t) {
		for _, f := range p.GoFiles {
			b, err := os.ReadFile(filepath.Join(p.Dir, f))
			if err != nil {
				t.Fatal(err)
			}
			seen := map[string]bool{}
			for line := range strings.Lines(string(b)) {
				if strings.HasPrefix(line, "type ") {
					clear(seen)
				}
				if m := number.FindStringSubmatch(line); m != nil {
					if seen[m[1]] {
						t.Errorf("%s/%s has two fields %s in a struct: %s", p.ImportPath, f, m[1], strings.TrimSpace(line))
					}
					seen[m[1]] = true
				}
			}
		}
	}
}
