package cli

import (
	"fmt"
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/weft-net/weft/api"
)

// twoHosts is the status of the first of two hosts, one of which has failed.
func twoHosts() api.Status {
	id := uuid.MustParse("11111111-1111-1111-1111-111111111111")
	range12, mine, theirs := netip.MustParsePrefix("10.32.0.0/12"), netip.MustParsePrefix("10.32.0.0/13"), netip.MustParsePrefix("10.40.0.0/13")
	one := api.Peer{ID: id, Name: "h1", Self: true, State: "alive", Underlay: []netip.Addr{netip.MustParseAddr("192.0.2.1")},
		Gateway: netip.MustParseAddr("10.32.0.1"), Prefixes: []netip.Prefix{mine}}
	two := api.Peer{ID: uuid.MustParse("22222222-2222-2222-2222-222222222222"), Name: "h2", State: "failed",
		Underlay: []netip.Addr{netip.MustParseAddr("192.0.2.2")}, Prefixes: []netip.Prefix{theirs}}
	used := 2
	return api.Status{
		Version: api.Version{Software: "1.2.3"}, Self: one, Started: time.Now().Add(-time.Hour),
		Mesh:  api.Mesh{ID: uuid.MustParse("33333333-3333-3333-3333-333333333333"), GossipEncrypted: true, Encap: "vxlan"},
		Peers: []api.Peer{one, two},
		IPAM: api.IPAM{Range: range12, IPv6: netip.MustParsePrefix("fd12:3456:789a::a20:0/108"), BlockBits: 16, Blocks: 16, Unowned: 1, Used: 2, Free: 524285, Member: true, Decision: 7,
			Voters: []string{"h1", "h2"}, Leader: "h1", LeaderID: id, Pending: []string{"h4"}, WaitingFor: []string{"h2"}, LeasesOut: 1,
			CutOff: []api.CutOff{{Address: netip.MustParseAddr("10.32.0.7"), Owner: "c"}}, Shares: []api.Share{
				{ID: id, Name: "h1", Blocks: 8, Addresses: 524288, Used: &used, Voter: true, Prefixes: []netip.Prefix{mine}},
				{ID: two.ID, Name: "h2", Blocks: 7, Prefixes: []netip.Prefix{theirs}, Removed: true}}},
		Bridge: api.Bridge{Name: "weft", Gateway: netip.MustParsePrefix("10.32.0.1/12"), MTU: 1450, IPv6: netip.MustParseAddr("fd12:3456:789a::a20:1")},
		Links: []api.Link{
			{Peer: two.ID, Name: "h2", Transport: "vxlan", Underlay: netip.MustParseAddr("192.0.2.2"), Device: "weft-vx", MTU: 1450, Proven: true, Answers: true, RTT: 1234 * time.Microsecond,
				Loss: 0.25, Received: new(int64(999)), Sent: new(int64(12345)), Changed: time.Now().Add(-3 * time.Hour), Why: "direct does not work"},
			{Name: "h3", Transport: "vxlan", Device: "weft-vx", MTU: 1450, Reason: "no address"},
			{Name: "h4", Transport: "vxlan", Device: "weft-vx", MTU: 1450, Proven: true, RTT: 1234 * time.Microsecond, Loss: 1, Probes: 20, Changed: time.Now().Add(-3 * time.Hour), Why: "direct does not work"}},
		Targets: []api.Target{{Target: "192.0.2.2:6783", Addresses: []string{"192.0.2.2:6783"}, Connected: true, Peers: []api.PeerName{{ID: two.ID, Name: "h2"}}}},
		Health:  []api.Warning{{Code: "peer-failed", Severity: api.SeverityWarning, Text: "no answer from h2", Fix: "look at that host"}},
		Exposed: []netip.Addr{netip.MustParseAddr("10.32.0.9")}, Attach: api.AttachSummary{Attached: 1},
	}
}

var uptime = regexp.MustCompile(`up \S+`)

const wholeStatus = `host         h1 (11111111-1111-1111-1111-111111111111), weft 1.2.3, up …
mesh         33333333-3333-3333-3333-333333333333, gossip encrypted, traffic NOT ENCRYPTED by vxlan
peers        2 known, 1 alive
addresses    range 10.32.0.0/12, this host has 10.32.0.0/13: 2 used, 524285 free
IPv6         range fd12:3456:789a::a20:0/108, gateway fd12:3456:789a::a20:1
bridge       weft, gateway 10.32.0.1/12, MTU 1450, exposed by 10.32.0.9
containers   1 attached, 0 gone

PEER             ID         STATE    UNDERLAY    GOSSIP   GATEWAY     PREFIXES
h1 (this host)   11111111   alive    192.0.2.1   -        10.32.0.1   10.32.0.0/13
h2               22222222   failed   192.0.2.2   -        -           10.40.0.0/13

health:
  warning peer-failed: no answer from h2
    fix: look at that host
`

func TestStatusAndItsViewsAsText(t *testing.T) {
	f := newFake(t, map[string]any{api.PathStatus: twoHosts()})
	for view, want := range map[string]string{
		"": wholeStatus,
		"peers": `PEER             ID         STATE    UNDERLAY    GOSSIP   GATEWAY     PREFIXES
h1 (this host)   11111111   alive    192.0.2.1   -        10.32.0.1   10.32.0.0/13
h2               22222222   failed   192.0.2.2   -        -           10.40.0.0/13
`,
		"ipam": `PEER             ID         BLOCKS   PART      USED          ROLE           PREFIXES
h1 (this host)   11111111   8        50.0 %    2 of 524288   voter, leads   10.32.0.0/13
h2               22222222   7        43.8 %    -             removed        10.40.0.0/13
nobody           -          1        6.2 %     -             -              -
all              -          16       100.0 %   -             -              10.32.0.0/12 in blocks of /16
voters: h1, h2; decision 7
removed, and not inherited yet: h4 (waiting: for h2)
single addresses: 0 of other hosts in use here, 1 of this host's in use elsewhere
cut off: 10.32.0.7 of c: its owner has not answered
`,
		"links": `PEER   ID         TRANSPORT   ENCRYPTED   RTT       LOSS    MTU    RECEIVED   SENT      CHANGED   STATE
h2     22222222   vxlan       no          1.234ms   25 %    1450   999 B      12.3 kB   3h ago    works
h3     00000000   vxlan       no          -         -       1450   -          -         -         no link
h4     00000000   vxlan       no          1.234ms   100 %   1450   -          -         3h ago    no answer
h2, h4 by vxlan: direct does not work
h3: no address
`,
		"targets": `TARGET           PEER          ADDRESSES        NEXT TRY   STATE
192.0.2.2:6783   h2 22222222   192.0.2.2:6783   -          connected
`,
	} {
		out, errs, code := run(nil, append([]string{"status", "--socket", f.socket}, strings.Fields(view)...)...)
		if out = uptime.ReplaceAllString(out, "up …"); out != want || errs != "" || code != exitOK {
			t.Errorf("status %s: exit code %d, stderr %q, got\n%s\nwant\n%s", view, code, errs, out, want)
		}
	}
}

func TestStatusNeverCallsGossipEncryptedThatIsNot(t *testing.T) {
	s := twoHosts()
	s.Mesh.GossipEncrypted = false
	f := newFake(t, map[string]any{api.PathStatus: s})
	if out, _, _ := run(nil, "status", "--socket", f.socket); !strings.Contains(out, "gossip NOT ENCRYPTED") {
		t.Errorf("got\n%s", out)
	}
}

func TestStatusSaysWhatEncryptsTheTrafficAndWhere(t *testing.T) {
	s := twoHosts()
	s.Mesh.Encap, s.Mesh.TrafficEncrypted, s.Mesh.Userspace = "wireguard", true, true
	f := newFake(t, map[string]any{api.PathStatus: s})
	if out, _, _ := run(nil, "status", "--socket", f.socket); !strings.Contains(out, "traffic encrypted by wireguard (userspace)") {
		t.Errorf("got\n%s", out)
	}
}

func TestStatusOfALargeMeshFitsAScreen(t *testing.T) {
	s := twoHosts()
	for i := range 500 {
		s.Peers = append(s.Peers, api.Peer{Name: fmt.Sprintf("n%d", i), State: "alive"})
	}
	f := newFake(t, map[string]any{api.PathStatus: s})
	out, _, _ := run(nil, "status", "--socket", f.socket)
	if n := strings.Count(out, "\n"); n > 24 || !strings.Contains(out, "and 492 more: `weft status peers`") || !strings.Contains(out, "peer-failed") {
		t.Errorf("%d lines:\n%s", n, out)
	}
	if out, _, _ := run(nil, "status", "peers", "--socket", f.socket); strings.Count(out, "\n") != 503 {
		t.Errorf("the view of peers is cut: %d lines", strings.Count(out, "\n"))
	}
}

func TestStatusSaysWhyAHostHasNoIPv6(t *testing.T) {
	s := twoHosts()
	s.Bridge.IPv6, s.Bridge.IPv6Off = netip.Addr{}, "this kernel has no IPv6"
	f := newFake(t, map[string]any{api.PathStatus: s})
	if out, _, _ := run(nil, "status", "--socket", f.socket); !strings.Contains(out, "IPv6         off: this kernel has no IPv6\n") {
		t.Errorf("status:\n%s", out)
	}
}
