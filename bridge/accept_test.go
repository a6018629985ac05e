package bridge

import (
	"strings"
	"testing"

	"github.com/weft-net/weft/internal/ula"
)

const docker = "-N DOCKER-USER; %s -A DOCKER-USER -j RETURN; %[1]s -I FORWARD -j DOCKER-USER; %[1]s -P FORWARD DROP"

func dockerWith(iptables string) string {
	return iptables + " " + strings.NewReplacer("%s", iptables, "%[1]s", iptables).Replace(docker)
}

// firewalld refuses what none of its rules accepts by a rule, not by policy.
const firewalld = `nft 'table inet firewalld {
	chain zones { jump policies; }
	chain policies { ct state established accept; }
	chain filter_FORWARD {
		type filter hook forward priority filter + 10; policy accept;
		ct state { established, related } accept
		ct status dnat accept
		iifname "lo" accept
		jump zones
		reject with icmpx admin-prohibited
	}
}'`

// allRules is every rule that there can be, with handles and without counters.
const allRules = "nft -a -s list ruleset; grep -q filter /proc/thread-self/net/ip_tables_names && iptables-legacy -S; true"

func TestAcceptingRulesGoWhereTheDroppingIsAndComeBack(t *testing.T) {
	for name, drop := range map[string]string{
		"iptables-nft":                      "iptables-nft -P FORWARD DROP",
		"iptables-legacy":                   "iptables-legacy -P FORWARD DROP",
		"a rule of iptables":                "iptables-nft -A FORWARD -j DROP",
		"both iptables":                     "iptables-nft -P FORWARD DROP; iptables-legacy -P FORWARD DROP",
		"Docker":                            dockerWith("iptables-nft"),
		"Docker of old":                     dockerWith("iptables-legacy"),
		"Docker's chain left behind":        "iptables-nft -N DOCKER-USER; iptables-nft -P FORWARD DROP",
		"nft":                               "nft 'add table inet mine; add chain inet mine f { type filter hook forward priority 0; policy drop; }'",
		"firewalld":                         firewalld,
		"nft beside iptables":               "iptables-nft -P FORWARD DROP; nft 'add chain ip filter forward { type filter hook forward priority 5; policy drop; }'",
		"nft in a table like theirs":        "nft 'add table ip filter; add chain ip filter forward { type filter hook forward priority 0; policy drop; }'",
		"nft in a chain almost like theirs": "nft 'add table ip filter; add chain ip filter FORWARD { type filter hook forward priority 10; policy drop; }'",
	} {
		t.Run(name, func(t *testing.T) {
			onHost(t, func(h *host) {
				h.run(drop)
				before := h.run(allRules)
				cfg := config()
				cfg.Ports = []Port{h.port(0, "10.32.0.2"), h.port(1, "10.32.0.3")}
				h.set(cfg)
				h.run("sysctl -q -w net.bridge.bridge-nf-call-iptables=1")
				if !h.pings(0, "10.32.0.3") {
					t.Errorf("dropped:\n%s", h.run(allRules))
				}
				rules := h.run(allRules)
				h.set(cfg)
				if again := h.run(allRules); again != rules {
					t.Errorf("the second Set changed the rules:\n%s\nwas:\n%s", again, rules)
				}
				if _, err := h.Remove("weft", cfg.Tunnels, h.sysctls, ula.Ranges{}); err != nil {
					t.Fatal(err)
				}
				if after := h.run(allRules); after != before {
					t.Errorf("Remove leaves:\n%s\nwas:\n%s", after, before)
				}
			})
		})
	}
}

func TestAcceptingRulesFollowWhatOthersDo(t *testing.T) {
	onHost(t, func(h *host) {
		cfg := config()
		h.set(cfg)
		for _, step := range []struct {
			what, cmd string
			list      string
			rules     int // of ours in what is listed
		}{
			{"the policy becomes DROP", "iptables-nft -P FORWARD DROP", "iptables-nft -S FORWARD", 4},
			{"one of them is deleted", "iptables-nft -D FORWARD 2", "iptables-nft -S FORWARD", 4},
			{"one of them is there twice", "iptables-nft -A FORWARD -i weft -m comment --comment 'weft weft' -j ACCEPT", "iptables-nft -S FORWARD", 4},
			{"Docker starts", "iptables-nft -N DOCKER-USER; iptables-nft -A DOCKER-USER -j RETURN; iptables-nft -I FORWARD -j DOCKER-USER", "iptables-nft -S DOCKER-USER", 4},
			{"none stays in FORWARD", "true", "iptables-nft -S FORWARD", 0},
			{"Docker goes", "iptables-nft -D FORWARD -j DOCKER-USER", "iptables-nft -S FORWARD", 4},
			{"none stays in Docker's chain", "true", "iptables-nft -S DOCKER-USER", 0},
			{"nothing drops any more", "iptables-nft -P FORWARD ACCEPT", "iptables-nft -S FORWARD", 0},
			{"somebody's chain appears", "nft 'add table inet mine; add chain inet mine f { type filter hook forward priority 0; policy drop; }'", "nft list table inet mine", 4},
			{"one of its rules is deleted", "nft delete rule inet mine f handle $(nft -a list table inet mine | sed -n 's/.*from weft\" # handle //p')", "nft list table inet mine", 4},
			{"somebody's chain drops no more", "nft 'chain inet mine f { policy accept; }'", "nft list table inet mine", 0},
		} {
			h.run(step.cmd)
			h.set(cfg)
			if out := h.run(step.list); strings.Count(out, `"weft weft`) != step.rules {
				t.Errorf("%s: want %d rules of ours in\n%s", step.what, step.rules, out)
			}
		}
	})
}

func TestAcceptingRulesFollowTheTunnels(t *testing.T) {
	onHost(t, func(h *host) {
		h.run("iptables-nft -P FORWARD DROP; iptables-legacy -P FORWARD DROP; nft 'add table inet mine; add chain inet mine f { type filter hook forward priority 0; policy drop; }'")
		cfg := config()
		h.set(cfg)
		cfg.Tunnels = []string{"weft-other"}
		h.set(cfg)
		out := h.run(allRules)
		if strings.Count(out, "weft-other") < 3 || strings.Contains(out, "weft-vx") {
			t.Errorf("rules are not of the new tunnel alone:\n%s", out)
		}
	})
}
