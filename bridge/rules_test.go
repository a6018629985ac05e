package bridge

import (
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestRulesNeverMasqueradeInsideOfTheRange(t *testing.T) {
	want := `ip saddr 10.32.0.0/12 ip daddr != { 10.32.0.0/12, 224.0.0.0/4, 255.255.255.255 } oifname != { "weft", "weft-vx" } masquerade`
	if got := masquerade(config()); len(got) != 1 || got[0] != want {
		t.Errorf("rules:\n%q\nwant:\n%q", got, want)
	}
	cfg := config()
	cfg.Masquerade = false
	if got := masquerade(cfg); len(got) != 0 {
		t.Errorf("without masquerading: %q", got)
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
-i weft-vx -p udp -m udp --dport 6786 -m comment --comment M -j ACCEPT`},
		{nft, `iifname "weft" accept comment "M from weft"
iifname "weft-vx" accept comment "M from weft-vx"
oifname "weft" ct state related,established accept comment "M answers"
iifname "weft-vx" udp dport 6786 accept comment "M probes from weft-vx"`},
	} {
		if got := strings.Join(tc.got, "\n"); got != tc.want {
			t.Errorf("rules:\n%s\nwant:\n%s", got, tc.want)
		}
	}
}
