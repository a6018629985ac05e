package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/weft-net/weft/api"
	"github.com/weft-net/weft/internal/netlab"
)

// Where the CNI plugins of a lab's host are: its own files, as /run is.
const (
	cniBin  = "/run/cni/bin"
	cniConf = "/run/cni/net.d"
)

// installed puts Debian's plugins beside weft's own on a host.
func installed(t *testing.T, h *netlab.Host, chain ...string) {
	t.Helper()
	h.Run("bash", "-c", "mkdir -p "+cniBin+" && ln -sf /usr/lib/cni/* "+cniBin)
	args := []string{"weft", "cni", "install", "--bin-dir", cniBin, "--conf-dir", cniConf}
	if len(chain) > 0 {
		args = append(args, "--chain", strings.Join(chain, ","))
	}
	h.Run(args...)
}

// network is what a runtime says of a network, beside its name and version.
type network map[string]any

// answer is what a plugin printed: a result or an error.
type answer struct {
	Code    uint   `json:"code"` // of an error; 0 for none
	Message string `json:"msg"`

	IPs []struct {
		Address netip.Prefix `json:"address"`
		Gateway netip.Addr   `json:"gateway"`
	} `json:"ips"`
	Interfaces []struct{ Name, Mac, Sandbox string } `json:"interfaces"`
	Routes     []struct {
		Dst netip.Prefix `json:"dst"`
	} `json:"routes"`

	text string
}

// address is the one that an ADD gave.
func (a answer) address() string {
	if len(a.IPs) == 0 {
		return ""
	}
	return a.IPs[0].Address.Addr().String()
}

// cni calls a plugin as a runtime does. The id is that of the container, and
// its namespace's name.
func cni(t *testing.T, h *netlab.Host, plugin, verb, id string, n network, env ...string) answer {
	t.Helper()
	conf := network{"cniVersion": "1.1.0", "name": "weft", "type": plugin}
	maps.Copy(conf, n)
	in, err := json.Marshal(conf)
	if err != nil {
		t.Fatal(err)
	}
	args := append([]string{"env", "CNI_COMMAND=" + verb, "CNI_CONTAINERID=" + id, "CNI_NETNS=/run/netns/" + id, "CNI_IFNAME=eth0", "CNI_PATH=" + cniBin}, env...)
	r := h.Feed(string(in), append(args, path.Join(cniBin, plugin))...)
	a := answer{text: r.Stdout}
	if r.Stdout != "" {
		if err := json.Unmarshal([]byte(r.Stdout), &a); err != nil {
			t.Fatalf("%s of %s printed %q, %q: %v", verb, id, r.Stdout, r.Stderr, err)
		}
	}
	if (r.Code != 0) != (a.Code != 0) {
		t.Errorf("%s of %s: exit code %d and %s %s", verb, id, r.Code, r.Stdout, r.Stderr)
	}
	return a
}

// added is an ADD that has to succeed.
func added(t *testing.T, h *netlab.Host, plugin, id string, n network, env ...string) answer {
	t.Helper()
	a := cni(t, h, plugin, "ADD", id, n, env...)
	if a.Code != 0 || len(a.IPs) == 0 {
		t.Fatalf("ADD of %s: %s", id, a.text)
	}
	return a
}

// with is a network with the result of an ADD.
func with(n network, a answer) network {
	out := maps.Clone(n)
	if out == nil {
		out = network{}
	}
	if a.text != "" && a.Code == 0 {
		out["prevResult"] = json.RawMessage(a.text)
	}
	return out
}

func listed(t *testing.T, h *netlab.Host) []api.Attachment {
	t.Helper()
	var list []api.Attachment
	if err := json.Unmarshal([]byte(h.Run("weft", "ps", "-o", "json")), &list); err != nil {
		t.Fatal(err)
	}
	return list
}

// outcome is how a verb ended, as the table in docs/cni.md says it.
func outcome(a answer) string {
	if a.Code == 0 {
		return "ok"
	}
	return fmt.Sprint(a.Code)
}

var verbs = []string{"ADD", "CHECK", "DEL", "GC", "STATUS", "VERSION"}

// TestCNIVerbsInEveryCondition asserts the table in docs/cni.md.
func TestCNIVerbsInEveryCondition(t *testing.T) {
	_, hosts := launched(t, 1)
	h := hosts[0]
	installed(t, h)
	n := 0
	// each tries the verbs in a condition: every verb has a container of its own,
	// which is made and attached before, if it is to be.
	each := func(attach bool, before, after func(id string)) map[string]string {
		out := map[string]string{}
		for _, verb := range verbs {
			n++
			id := fmt.Sprintf("c%d", n)
			h.Container(id)
			var prev answer
			if attach {
				prev = added(t, h, "weft-cni", id, nil)
			}
			before(id)
			var n network
			if verb == "CHECK" || verb == "DEL" {
				n = with(nil, prev)
			}
			out[verb] = outcome(cni(t, h, "weft-cni", verb, id, n))
			after(id)
		}
		return out
	}
	nothing := func(string) {}
	launch := func(string) { h.Run("weft", "launch") }
	got := []struct {
		condition string
		verbs     map[string]string
	}{
		{"nothing was attached", each(false, nothing, nothing)},
		{"attached", each(true, nothing, nothing)},
		{"the same verb again", func() map[string]string {
			out := map[string]string{}
			h.Container("again")
			prev := added(t, h, "weft-cni", "again", nil)
			for _, verb := range verbs {
				var n network
				if verb == "CHECK" || verb == "DEL" {
					n = with(nil, prev)
				}
				first := cni(t, h, "weft-cni", verb, "again", n)
				second := cni(t, h, "weft-cni", verb, "again", n)
				if verb == "ADD" && (first.text != prev.text || second.text != prev.text) {
					t.Errorf("ADD again answers %s; first %s", second.text, prev.text)
				}
				out[verb] = outcome(second)
			}
			return out
		}()},
		{"the daemon is down", each(true, func(string) { h.Run("weft", "stop") }, launch)},
		{"the namespace is gone", each(true, func(id string) { h.Run("ip", "netns", "delete", id) }, nothing)},
		{"the bridge is deleted", each(true, func(string) {
			h.Run("ip", "link", "delete", "weft")
			netlab.Eventually(t, "the bridge is back", func() bool {
				return h.Try("weft", "status").Code != 4 && h.Try("bash", "-c", "ip -o addr show weft | grep -q 'inet '").Code == 0
			})
		}, nothing)},
		{"the store is lost", each(true, func(string) {
			h.Run("weft", "stop")
			h.Run("bash", "-c", "echo broken > /var/lib/weft/weft.db")
			h.Run("weft", "launch", "--set-aside-store")
		}, nothing)},
	}
	doc, err := os.ReadFile("../../docs/cni.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range got {
		row := "| " + g.condition
		for _, v := range verbs {
			row += " | " + g.verbs[v]
		}
		row += " |"
		t.Log(row)
		if !strings.Contains(string(doc), row+"\n") {
			t.Errorf("docs/cni.md does not say: %s", row)
		}
	}
}

func TestCNIDeleteWhileTheDaemonIsDownIsDoneAtItsStart(t *testing.T) {
	_, hosts := launched(t, 1)
	h := hosts[0]
	installed(t, h)
	h.Container("c1")
	h.Container("c2")
	first := added(t, h, "weft-cni", "c1", nil).address()
	kept := added(t, h, "weft-cni", "c2", nil).address()
	added(t, h, "weft-ipam", "c1", nil)
	killed(t, h)
	for _, plugin := range []string{"weft-cni", "weft-ipam"} {
		for range 2 { // a runtime may say it again
			if a := cni(t, h, plugin, "DEL", "c1", nil); a.Code != 0 {
				t.Errorf("DEL: %s", a.text)
			}
		}
	}
	h.Run("weft", "launch")
	if list := listed(t, h); len(list) != 1 || list[0].Address.Addr().String() != kept {
		t.Errorf("after the start there are: %+v", list)
	}
	// What the container gets now is not taken for what was to be deleted.
	again := added(t, h, "weft-cni", "c1", network{"args": network{"cni": network{"ips": []string{first}}}})
	if again.address() != first {
		t.Errorf("ADD after the start gives %s, not %s", again.address(), first)
	}
	for range 2 {
		killed(t, h)
		h.Run("weft", "launch")
	}
	if list := listed(t, h); len(list) != 2 {
		t.Errorf("after more starts there are: %+v", list)
	}
	if left := h.Run("bash", "-c", "ls /var/lib/weft/journal"); left != "lock" {
		t.Errorf("left in the journal: %s", left)
	}
}

// killed ends the daemon as a crash does.
func killed(t *testing.T, h *netlab.Host) {
	t.Helper()
	pid := h.Run("bash", "-c", "cat /var/lib/weft/lock")
	h.Run("kill", "-9", pid)
	netlab.Eventually(t, "the daemon is gone", func() bool { return h.Try("kill", "-0", pid).Code != 0 })
}

func TestCNIAddInAnotherNamespaceMovesTheEndpoint(t *testing.T) {
	_, hosts := launched(t, 1)
	h := hosts[0]
	installed(t, h)
	h.Container("c1")
	h.Container("c2")
	other, _ := attached(t, h, "other")
	added(t, h, "weft-cni", "c1", nil)
	now := added(t, h, "weft-cni", "c1", nil, "CNI_NETNS=/run/netns/c2")
	if list := listed(t, h); len(list) != 2 {
		t.Errorf("there are: %+v", list)
	}
	if h.Try("ip", "-n", "c1", "link", "show", "eth0").Code == 0 {
		t.Error("the interface of the namespace before is still there")
	}
	mustPing(t, other, now.address(), "the endpoint where it is now")
	// The same interface of the same namespace belongs to one container.
	if a := cni(t, h, "weft-cni", "ADD", "another", nil, "CNI_NETNS=/run/netns/c2"); a.Code != 100 {
		t.Errorf("ADD of a second container in the same namespace: %s", a.text)
	}
	if a := cni(t, h, "weft-cni", "DEL", "c1", nil, "CNI_NETNS="); a.Code != 0 {
		t.Errorf("DEL without a namespace: %s", a.text)
	}
	if h.Try("ip", "-n", "c2", "link", "show", "eth0").Code == 0 {
		t.Error("the interface is still there")
	}
}

func TestCNIGivesAddressesThatAreAskedForByEitherFamily(t *testing.T) {
	_, hosts := launched(t, 1)
	h := hosts[0]
	installed(t, h)
	other, _ := attached(t, h, "other")
	asks := func(ips ...string) network { return network{"runtimeConfig": network{"ips": ips}} }
	six := func(last byte) netip.Addr {
		a := status(t, h).IPAM.IPv6.Addr().As16()
		a[12], a[13], a[14], a[15] = 10, 32, 0, last
		return netip.AddrFrom16(a)
	}
	for i, plugin := range []string{"weft-cni", "weft-ipam"} {
		id, last := fmt.Sprintf("c%d", i), byte(70+i)
		h.Container(id)
		four := fmt.Sprintf("10.32.0.%d", last)
		a := added(t, h, plugin, id, asks(six(last).String()+"/64", four))
		if len(a.IPs) != 2 || a.address() != four || a.IPs[1].Address != netip.PrefixFrom(six(last), 128) {
			t.Errorf("%s that is asked for %s gives %s", plugin, six(last), a.text)
		}
		for _, foreign := range []string{"fd00::1", "2001:db8::1", "fe80::1"} {
			if a := cni(t, h, plugin, "ADD", "foreign", asks(foreign), "CNI_NETNS=/run/netns/c0"); a.Code != 7 || !strings.Contains(a.Message, "not one of this network's") {
				t.Errorf("%s that is asked for %s answers %s", plugin, foreign, a.text)
			}
		}
	}
	mustPing(t, other, six(70).String(), "the address that was asked for")
	if used := status(t, h).IPAM.Used; used != 4 {
		t.Errorf("%d addresses are in use", used)
	}
}

func TestCNICheckFindsEveryDifference(t *testing.T) {
	_, hosts := launched(t, 1)
	h := hosts[0]
	installed(t, h)
	for i, spoil := range []string{
		"link set eth0 address 02:00:00:00:00:09", "link set eth0 mtu 1300", "address flush dev eth0",
		"route delete default", "link set eth0 down",
	} {
		id := fmt.Sprintf("c%d", i)
		h.Container(id)
		prev := added(t, h, "weft-cni", id, nil)
		if a := cni(t, h, "weft-cni", "CHECK", id, with(nil, prev)); a.Code != 0 {
			t.Errorf("CHECK at first: %s", a.text)
		}
		h.Run(append([]string{"ip", "-n", id}, strings.Fields(spoil)...)...)
		if a := cni(t, h, "weft-cni", "CHECK", id, with(nil, prev)); a.Code != 101 {
			t.Errorf("CHECK after %q: %s", spoil, a.text)
		}
	}
	h.Container("deleted")
	prev := added(t, h, "weft-cni", "deleted", nil)
	h.Run("ip", "-n", "deleted", "link", "delete", "eth0")
	netlab.Eventually(t, "weft has made it again", func() bool { return cni(t, h, "weft-cni", "CHECK", "deleted", with(nil, prev)).Code == 0 })
}

func TestCNIGCFreesWhatIsNotValidInThisNetworkOnly(t *testing.T) {
	_, hosts := launched(t, 1)
	h := hosts[0]
	installed(t, h)
	attached(t, h, "byhand")
	for _, id := range []string{"stale", "valid", "elsewhere"} {
		h.Container(id)
		n := network{}
		if id == "elsewhere" {
			n["name"] = "another"
		}
		added(t, h, "weft-cni", id, n)
	}
	added(t, h, "weft-ipam", "stale2", nil)
	for _, plugin := range []string{"weft-cni", "weft-ipam"} {
		if a := cni(t, h, plugin, "STATUS", "", nil); a.Code != 0 {
			t.Errorf("STATUS of %s: %s", plugin, a.text)
		}
	}
	valid := []network{{"containerID": "valid", "ifname": "eth0"}}
	if a := cni(t, h, "weft-cni", "GC", "", network{"cni.dev/valid-attachments": valid}); a.Code != 0 {
		t.Errorf("GC: %s", a.text)
	}
	var left []string
	for _, a := range listed(t, h) {
		left = append(left, a.Container)
	}
	slices.Sort(left)
	if strings.Join(left, " ") != "byhand elsewhere valid" {
		t.Errorf("left: %v", left)
	}
}
