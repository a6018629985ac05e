package bridge

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/weft-net/weft/internal/nl"
)

// generation is the number of the last transaction of nftables.
func generation(t *testing.T) uint32 {
	t.Helper()
	r, err := nl.ReadRulesets()
	if err != nil {
		t.Fatal(err)
	}
	return r.NFT
}

func TestChangesLeadFromAnyTablesToAnyOthersAsTheWholeDoes(t *testing.T) {
	configs := golden()
	configs["clear"] = guarded(peer("192.0.2.2", true, true, "10.40.0.0/13"), peer("192.0.2.3", false, true, "10.36.0.0/14", "10.40.0.9/32"))
	configs["clear-less"] = guarded(peer("192.0.2.2", true, true, "10.40.0.0/14"), peer("2001:db8::3", false, true, "10.36.0.0/15"))
	shown := map[string][]string{}
	for name, cfg := range configs {
		var err error
		if shown[name], err = tablesOf(cfg).elsewhere(); err != nil {
			t.Fatal(err)
		}
	}
	onHost(t, func(*host) {
		var f firewall
		for _, from := range slices.Sorted(maps.Keys(configs)) {
			for _, to := range slices.Sorted(maps.Keys(configs)) {
				for _, name := range []string{from, to} {
					want := tablesOf(configs[name])
					before := generation(t)
					if err := f.update(want); err != nil && f.wrote != nil {
						t.Fatalf("from %s to %s: %v", from, to, err)
					} else if err != nil {
						if err := f.setTables(want); err != nil {
							t.Fatal(err)
						}
					}
					if now := generation(t); now > before+1 {
						t.Fatalf("from %s to %s by %d transactions", from, to, now-before)
					}
					if now, err := want.list(); err != nil || !slices.Equal(now, shown[name]) {
						t.Fatalf("from %s to %s: %v, is\n%s\nwant\n%s", from, to, err, strings.Join(now, "\n"), strings.Join(shown[name], "\n"))
					}
				}
			}
		}
	})
}

func TestNextDaemonLeavesTheTablesThatItFinds(t *testing.T) {
	for name, cfg := range golden() {
		t.Run(name, func(t *testing.T) {
			onHost(t, func(*host) {
				var first, next firewall
				want := tablesOf(golden()["plain"])
				if err := first.setTables(want); err != nil {
					t.Fatal(err)
				}
				want = tablesOf(cfg)
				if err := first.update(want); err != nil {
					t.Fatal(err)
				}
				before := generation(t)
				if err := next.setTables(want); err != nil {
					t.Fatal(err)
				}
				if now := generation(t); now != before {
					t.Errorf("the tables were there, and were written again by %d transactions", now-before)
				}
				if _, err := nft("flush chain inet weft guard-leaving", "-f", "-"); err != nil {
					t.Fatal(err)
				}
				var last firewall
				if err := last.setTables(want); err != nil {
					t.Fatal(err)
				}
				shown, err := want.elsewhere()
				if err != nil {
					t.Fatal(err)
				}
				if now, err := want.list(); err != nil || !slices.Equal(now, shown) {
					t.Errorf("what somebody changed meanwhile is still so: %v\n%s", err, strings.Join(now, "\n"))
				}
			})
		})
	}
}

func TestTablesAreMadeOnceWhateverComesAfter(t *testing.T) {
	onHost(t, func(*host) {
		shown := func() string {
			out, err := nft("", "-j", "list", "tables") // with their handles
			if err != nil {
				t.Fatal(err)
			}
			return out
		}
		var f firewall
		if err := f.set(guarded()); err != nil {
			t.Fatal(err)
		}
		first := shown()
		cfg := guarded(peer("192.0.2.2", true, true, "10.40.0.0/14"))
		if err := f.set(cfg); err != nil {
			t.Fatal(err)
		}
		if now := shown(); now != first {
			t.Errorf("the first change made %s of %s", now, first)
		}
		// Somebody else writes, so that weft has to look.
		if _, err := nft("add table inet other", "-f", "-"); err != nil {
			t.Fatal(err)
		}
		first = shown()
		cfg.Masquerade = !cfg.Masquerade
		if err := f.set(cfg); err != nil {
			t.Fatal(err)
		}
		if now := shown(); now != first {
			t.Errorf("a change beside another's made %s of %s", now, first)
		}
		want, err := tablesOf(cfg).elsewhere()
		if err != nil {
			t.Fatal(err)
		}
		if now, err := tablesOf(cfg).list(); err != nil || !slices.Equal(now, want) {
			t.Errorf("the rules are not those wanted: %v\n%s", err, strings.Join(now, "\n"))
		}
	})
}

func TestTableThatSomebodyMadeDormantIsMadeAnew(t *testing.T) {
	onHost(t, func(*host) {
		var f firewall
		for range 2 {
			if err := f.set(guarded()); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := nft("add table inet weft { flags dormant; }", "-f", "-"); err != nil {
			t.Fatal(err)
		}
		if err := f.set(guarded()); err != nil {
			t.Fatal(err)
		}
		if out, err := nft("", "list", "table", "inet", "weft"); err != nil || strings.Contains(out, "dormant") {
			t.Errorf("%v\n%s", err, out)
		}
	})
}

func TestPartsOfAListingDoNotDependOnTheirOrder(t *testing.T) {
	const one = `table inet weft {
	set a {
		type ipv4_addr . ipv4_addr
		flags interval
		elements = { 10.0.0.0/8 . 10.1.0.0/16,
			     10.2.0.0/16 . 10.0.0.0/8 }
	}

	chain b {
		type filter hook forward priority filter; policy accept;
		iifname { "x", "y" } drop
		accept
	}
}
`
	const other = `table inet weft {
	chain b {
		type filter hook forward priority filter; policy accept;
		iifname { "x", "y" } drop
		accept
	}

	set a {
		type ipv4_addr . ipv4_addr
		flags interval
		elements = { 10.2.0.0/16 . 10.0.0.0/8, 10.0.0.0/8 . 10.1.0.0/16 }
	}
}
`
	if a, b := parts(one), parts(other); !slices.Equal(a, b) || len(a) != 2 {
		t.Errorf("%q and %q", a, b)
	}
	for what, changed := range map[string]string{
		"the order of rules": strings.Replace(one, "drop\n\t\taccept", "accept\n\t\tdrop", 1),
		"an element":         strings.Replace(one, "10.2.0.0", "10.3.0.0", 1),
		"a type":             strings.Replace(one, "flags interval", "", 1),
		"a policy":           strings.Replace(one, "policy accept", "policy drop", 1),
	} {
		if slices.Equal(parts(one), parts(changed)) {
			t.Errorf("%s makes no difference", what)
		}
	}
}
