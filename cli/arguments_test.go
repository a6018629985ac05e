package cli

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"

	"github.com/weft-net/weft/api"
)

// nowhere is a socket at which no daemon answers: a command line that is
// refused with exit code 2 there was refused without asking one.
const nowhere = "/nonexistent/weft.sock"

func TestWrongCommandLinesAreRefusedInOneLineBeforeTheDaemonIsAsked(t *testing.T) {
	for line, want := range map[string]string{
		"atach c1":          `weft: unknown command "atach" for "weft" Did you mean this? attach`,
		"help atach":        "unknown command",
		"completion tcsh":   "unknown command",
		"completion":        "for which shell",
		"token":             "weft token show",
		"token bogus":       "unknown command",
		"ps --nope":         "unknown flag: --nope: see weft ps --help",
		"ps --timeout -1s":  "--timeout",
		"ps --timeout soon": "not a duration",
		"ps --timeout 0":    "not positive",
		"ps -o yaml":        "none of table, wide, name, json",
		"attach":            "see weft attach --help",
		"attach c1 10.32.0.7 --subnet 10.33.0.0/16": "not in subnet",
		"rmpeer h1 --force":                         "cannot be undone",
		"attach c1 10.32.0.7 more":                  "is not an address",
		"attach c1 10.32.0":                         "is not an address",
		"attach c1 10.32.0.7/99":                    "is not an address",
		"attach c1 fd00::1%eth0":                    "is not an address",
		"attach c1 ::ffff:10.32.0.7":                "is not an address",
		"attach c1 --ifname a234567890123456":       "1 to 15 bytes",
		"attach c1 --ifname a/b":                    "1 to 15 bytes",
		"attach c1 -o name":                         "none of table, json",
		"detach c1 nonsense":                        "is not an address",
		"expose nonsense":                           "is not an address",
		"hide 10.32.0.7 10.32.0.8":                  "see weft hide --help",
		"status everything":                         "see weft status --help",
		"status --graph mermaid":                    "--graph=mermaid",
		"stop now":                                  "see weft stop --help",
		"reset":                                     "say --yes",
		"launch --range lots":                       "is not a prefix",
		"launch --advertise here":                   "is not an address",
		"launch --join a/b":                         "is not a host or host:port",
		"launch --join file:peers":                  "absolute path",
		"launch --join provider=aws":                "exec:",
		"launch --token a --token-file -":           "given twice",
		"launch --token-file /nonexistent/token":    "token file",
		"launch --port 70000":                       "--port",
		"launch --log-file /nonexistent/log":        "no directory",
		"cni install --plugin-only --chain tuning":  "plugin-only",
	} {
		out, errs, code := run(map[string]string{"WEFT_SOCKET": nowhere}, strings.Fields(line)...)
		if code != exitUsage || out != "" || strings.Count(errs, "\n") != 1 || !strings.HasPrefix(errs, "weft") || !strings.Contains(errs, want) {
			t.Errorf("%s: exit code %d, stdout %q, stderr %q; want %q", line, code, out, errs, want)
		}
	}
	if _, errs, code := run(nil, "attach", "", "--socket", nowhere); code != exitUsage {
		t.Errorf("no container: exit code %d, %q", code, errs)
	}
}

func TestBadValuesInTheEnvironmentAreUsageErrorsThatNameTheVariable(t *testing.T) {
	for variable, value := range map[string]string{"WEFT_TIMEOUT": "-1s", "WEFT_OUTPUT": "name", "WEFT_NO_DEFAULT_ROUTE": "perhaps"} {
		_, errs, code := run(map[string]string{variable: value, "WEFT_SOCKET": nowhere}, "attach", "c1")
		if code != exitUsage || !strings.Contains(errs, variable) || strings.Count(errs, "\n") != 1 {
			t.Errorf("%s=%s: exit code %d, %q", variable, value, code, errs)
		}
	}
}

func TestEveryVerbThatNeedsTheDaemonSaysThatNoneAnswers(t *testing.T) {
	for _, line := range []string{"attach c1", "detach c1", "expose", "hide", "ps", "status", "token show", "stop"} {
		_, errs, code := run(nil, append(strings.Fields(line), "--socket", nowhere)...)
		if code != exitUnreachable || !strings.HasSuffix(errs, ": no weft daemon answers at "+nowhere+": start one with `weft launch`\n") {
			t.Errorf("%s: exit code %d, %q", line, code, errs)
		}
	}
}

func TestAPrefixLengthIsTheRangesOrThatOfASubnet(t *testing.T) {
	s := api.Status{IPAM: api.IPAM{Range: netip.MustParsePrefix("10.32.0.0/12")}}
	f := newFake(t, map[string]any{api.PathStatus: s, api.PathAttach: c1, api.PathDetach: []api.Attachment{c1},
		api.PathExpose: api.Exposure{}, api.PathHide: api.Exposure{}})
	for verb, path := range map[string]string{"attach c1": api.PathAttach, "detach c1": api.PathDetach, "expose": api.PathExpose, "hide": api.PathHide} {
		args := append(strings.Fields(verb), "--socket", f.socket)
		_, errs, code := run(nil, append(args, "10.32.0.2/8")...)
		if _, asked := f.asked[path]; code != exitUsage || asked || !strings.Contains(errs, "the range 10.32.0.0/12 has /12") {
			t.Errorf("%s with /8: exit code %d, asked %t, %q", verb, code, asked, errs)
		}
		_, errs, code = run(nil, append(args, "10.32.0.2/24")...)
		if code != exitOK || strings.Contains(f.asked[path], `"subnet":"10.32.0.0/24"`) != (path != api.PathDetach) {
			t.Errorf("%s with /24: exit code %d, asked %s, %q", verb, code, f.asked[path], errs)
		}
		_, errs, code = run(nil, append(args, "10.32.0.2/12")...)
		if code != exitOK || !strings.Contains(f.asked[path], `"address":"10.32.0.2"`) {
			t.Errorf("%s with /12: exit code %d, asked %s, %q", verb, code, f.asked[path], errs)
		}
	}
}

func TestAPathIsMadeAbsoluteAndANameIsLeft(t *testing.T) {
	t.Chdir("/proc/self")
	f := newFake(t, map[string]any{api.PathAttach: c1})
	for given, want := range map[string]string{"ns/net": "/net", "c1": `"c1"`, "4711": `"4711"`} {
		if _, errs, code := run(nil, "attach", given, "--socket", f.socket); code != exitOK || !strings.Contains(f.asked[api.PathAttach], want) {
			t.Errorf("%s: exit code %d, asked %s, %q", given, code, f.asked[api.PathAttach], errs)
		}
	}
	if got, err := containerArg("ns/net"); err != nil || !strings.HasPrefix(got, "/proc/") {
		t.Errorf("ns/net is %q (%v)", got, err)
	}
}

func TestVersionWarnsOfSkewAndGoesWithoutADaemon(t *testing.T) {
	out, errs, code := run(nil, "version", "-o", "json", "--socket", nowhere)
	var v versions
	if err := json.Unmarshal([]byte(out), &v); err != nil || v.Client.Software == "" || v.Daemon != nil || errs != "" || code != exitOK {
		t.Errorf("without a daemon: %v, exit code %d, %q, %s", err, code, errs, out)
	}
	for name, other := range map[string]api.Version{
		"software": {Software: "0.0.1", Protocol: v.Client.Protocol}, "protocol": {Software: v.Client.Software, Protocol: v.Client.Protocol + 1},
	} {
		f := newFake(t, map[string]any{api.PathVersion: other})
		if out, errs, code := run(nil, "version", "--socket", f.socket); code != exitOK || !strings.Contains(errs, "another version") || !strings.Contains(out, "daemon") {
			t.Errorf("%s differs: exit code %d, %q, %q", name, code, out, errs)
		}
	}
	f := newFake(t, map[string]any{api.PathVersion: &api.Error{Code: api.CodeTimeout, Message: "late"}})
	if out, errs, code := run(nil, "version", "--socket", f.socket); code != exitTimeout || !strings.Contains(out, "client") || errs != "weft version: late\n" {
		t.Errorf("daemon hangs: exit code %d, %q, %q", code, out, errs)
	}
}

func TestCompletionOffersLiveContainersAndIsSilentWithoutADaemon(t *testing.T) {
	f := newFake(t, map[string]any{api.PathAttachments: []api.Attachment{c1}})
	if out, _, code := run(map[string]string{"WEFT_SOCKET": f.socket}, "__complete", "detach", ""); code != exitOK || !strings.HasPrefix(out, "c1\n") {
		t.Errorf("exit code %d: %q", code, out)
	}
	if out, _, code := run(map[string]string{"WEFT_SOCKET": nowhere}, "__complete", "detach", ""); code != exitOK || !strings.HasPrefix(out, ":") {
		t.Errorf("without a daemon: exit code %d: %q", code, out)
	}
}
