package bridge

import (
	"strings"
	"testing"
)

const listing = `{"nftables": [{"metainfo": {"version": "1.0.6"}},
{"table": {"family": "ip", "name": "filter", "handle": 1}},
{"chain": {"family": "ip", "table": "filter", "name": "FORWARD", "handle": 1, "type": "filter", "hook": "forward", "prio": 0, "policy": "drop"}},
{"rule": {"family": "ip", "table": "filter", "chain": "FORWARD", "handle": 9, "comment": "weft weft", "expr": []}},
{"chain": {"family": "inet", "table": "a", "name": "f", "handle": 1, "type": "filter", "hook": "forward", "prio": 0, "policy": "drop"}},
{"rule": {"family": "inet", "table": "a", "chain": "f", "handle": 2, "comment": "weft weft answers", "expr": []}},
{"rule": {"family": "inet", "table": "a", "chain": "f", "handle": 3, "comment": "weft weft answers", "expr": []}},
{"rule": {"family": "inet", "table": "a", "chain": "f", "handle": 4, "comment": "weft weft from gone", "expr": []}},
{"rule": {"family": "inet", "table": "a", "chain": "f", "handle": 5, "comment": "weft weft2 answers", "expr": []}},
{"chain": {"family": "inet", "table": "b", "name": "f", "handle": 1, "type": "filter", "hook": "forward", "prio": 0, "policy": "accept"}},
{"rule": {"family": "inet", "table": "b", "chain": "f", "handle": 6, "comment": "weft weft answers", "expr": []}},
{"chain": {"family": "inet", "table": "b", "name": "i", "handle": 2, "type": "filter", "hook": "input", "prio": 0, "policy": "drop"}}]}`

func TestNativeChangesTouchOnlyOurRulesWhereTheyBelong(t *testing.T) {
	rs, err := parseRuleset([]byte(listing))
	if err != nil {
		t.Fatal(err)
	}
	got, cleared := rs.nativeChanges(mark("weft"), wantedAccepts(Config{Name: "weft"}), map[string]bool{"ip": true})
	want := `delete rule inet a f handle 3
delete rule inet a f handle 4
delete rule inet b f handle 6
insert rule inet a f iifname "weft" accept comment "weft weft from weft"
insert rule inet a f oifname "weft" ct status dnat accept comment "weft weft published"`
	if got != want {
		t.Errorf("with iptables-nft:\n%s\nwant:\n%s", got, want)
	}
	if places := strings.Join(cleared, ", "); places != "inet a f, inet b f" {
		t.Errorf("cleared: %s", places)
	}
	got, _ = rs.nativeChanges(mark("weft"), nil, nil)
	want = `delete rule ip filter FORWARD handle 9
delete rule inet a f handle 2
delete rule inet a f handle 3
delete rule inet a f handle 4
delete rule inet b f handle 6`
	if got != want {
		t.Errorf("none wanted, without iptables-nft:\n%s\nwant:\n%s", got, want)
	}
}

func TestIptablesIsAskedOnlyWhereItCanWork(t *testing.T) {
	chain := func(table, name, hook, prio string) nftChain {
		return nftChain{Family: "ip", Table: table, Name: name, Hook: hook, Prio: []byte(prio)}
	}
	theirs := []nftChain{chain("filter", "INPUT", "input", "0"), chain("filter", "FORWARD", "forward", "0"), chain("filter", "DOCKER-USER", "", ""), chain("nat", "x", "postrouting", "100")}
	for _, tc := range []struct {
		chains []nftChain
		want   bool
	}{
		{nil, false},
		{theirs, true},
		{theirs[:1], true},
		{theirs[2:], false},
		{append(theirs[:4:4], chain("filter", "forward", "forward", "0")), false},
		{[]nftChain{chain("filter", "FORWARD", "forward", "10")}, false},
	} {
		if got := (ruleset{chains: tc.chains}).hasIptables("ip"); got != tc.want {
			t.Errorf("%v: %v, want %v", tc.chains, got, tc.want)
		}
	}
}

func FuzzParseRuleset(f *testing.F) {
	f.Add([]byte(listing))
	f.Add([]byte(`{"nftables": [{"chain": {"prio": "filter"}}, {"rule": null}, {}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		rs, err := parseRuleset(b)
		if err != nil {
			return
		}
		script, cleared := rs.nativeChanges(mark("weft"), nil, map[string]bool{"ip": rs.hasIptables("ip"), "ip6": rs.hasIptables("ip6")})
		if strings.Contains(script, "insert") || len(cleared) > len(rs.rules) {
			t.Errorf("does %q where nothing is wanted", script)
		}
	})
}
