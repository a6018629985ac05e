package bridge

import (
	"flag"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/weft-net/weft/internal/ula"
)

var update = flag.Bool("update", false, "write the golden rules anew")

// golden are the configs of the golden files, by their names.
func golden() map[string]Config {
	plain := config()
	busy := config()
	busy.GossipPort = 6783
	busy.Ports = []Port{
		{HostInterface: "wefta", Address: netip.MustParsePrefix("10.32.0.2/12")},
		{HostInterface: "weftb", Address: netip.MustParsePrefix("10.32.0.3/12"), More: []netip.Prefix{netip.MustParsePrefix("10.40.1.3/12")}},
		{HostInterface: "weftc", Address: netip.MustParsePrefix("10.40.2.4/12")},
	}
	busy.Subnets = []netip.Prefix{netip.MustParsePrefix("10.40.0.0/22"), netip.MustParsePrefix("10.40.1.0/24")}
	busy.Hosts = []netip.Addr{netip.MustParseAddr("10.32.0.1"), netip.MustParseAddr("10.44.0.1")}
	busy.Published = []Published{
		{Protocol: "tcp", HostPort: 8080, Address: netip.MustParseAddr("10.32.0.2"), Port: 80},
		{Protocol: "udp", HostIP: netip.MustParseAddr("192.0.2.1"), HostPort: 53, Address: netip.MustParseAddr("10.32.0.2"), Port: 5353},
	}
	dual := busy
	dual.Published = slices.Clone(busy.Published)
	for i := range dual.Published {
		dual.Published[i].IPv6 = true
	}
	dual.IPv6 = ula.Of(uuid.MustParse("7d1c6f9e-0c1b-4d6e-9a53-2f5f5b0f8a11"))
	open := busy
	open.Masquerade = false
	services := config()
	services.Ports, services.Services = busy.Ports[:1], true
	filtered := services
	filtered.filtersBridged = true
	return map[string]Config{"plain": plain, "busy": busy, "dual-stack": dual, "no-masquerade": open, "services": services, "services-filtered": filtered}
}

func TestRulesAreThoseOfTheGoldenFiles(t *testing.T) {
	for name, cfg := range golden() {
		path := "testdata/" + name + ".nft"
		got := tablesOf(cfg).whole(nil)
		if *update {
			if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if got != string(want) {
			t.Errorf("%s: the rules are\n%s\nwant\n%s", name, got, want)
		}
	}
}

func TestTablesOfTwoBridgesNeverMeet(t *testing.T) {
	for bridge, want := range map[string]string{"weft": "weft", "filter": "weft_filter", "ip": "weft_ip", "weft-2": "weft_weft-2"} {
		if got := tableName(bridge); got != want {
			t.Errorf("table of %s is %s, want %s", bridge, got, want)
		}
	}
	name := rapid.StringMatching(`[a-zA-Z][a-zA-Z0-9_-]{0,11}`)
	rapid.Check(t, func(t *rapid.T) {
		a, b := name.Draw(t, "a"), name.Draw(t, "b")
		if (a == b) != (tableName(a) == tableName(b)) {
			t.Fatalf("%s and %s have %s and %s", a, b, tableName(a), tableName(b))
		}
	})
}

func TestAcceptsInTheWordsOfBothPrograms(t *testing.T) {
	var ipt, nft []string
	for _, a := range accepts(config(), config().Range) {
		ipt = append(ipt, strings.Join(a.iptables("M"), " "))
		rule, _ := a.nft("M")
		nft = append(nft, rule)
	}
	for _, tc := range []struct {
		got  []string
		want string
	}{
		{ipt, `-i weft -m comment --comment M -j ACCEPT
-i weft-vx -m comment --comment M -j ACCEPT
-o weft -m conntrack --ctstate RELATED,ESTABLISHED -m comment --comment M -j ACCEPT
-o weft -m conntrack --ctstate DNAT -m comment --comment M -j ACCEPT
-i weft-vx -p udp -m udp --dport 6786 -m comment --comment M -j ACCEPT`},
		{nft, `iifname "weft" accept comment "M from weft"
iifname "weft-vx" accept comment "M from weft-vx"
oifname "weft" ct state related,established accept comment "M answers"
oifname "weft" ct status dnat accept comment "M published"
iifname "weft-vx" udp dport 6786 accept comment "M probes from weft-vx"`},
	} {
		if got := strings.Join(tc.got, "\n"); got != tc.want {
			t.Errorf("rules:\n%s\nwant:\n%s", got, tc.want)
		}
	}
}
