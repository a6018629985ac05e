package bridge

import (
	"strings"
	"testing"
	"time"
)

// Where the rules change with one port, the others are asked for and stay.
func TestAPortThatChangesTheRulesKeepsThoseThatWereNotNamed(t *testing.T) {
	onHost(t, func(h *host) {
		cfg := config()
		cfg.Ports = []Port{h.port(0, "10.32.0.2"), h.port(1, "10.32.0.3")}
		h.set(cfg)
		asked := 0
		lone := func(cfg Config) Config {
			ports := cfg.Ports
			cfg.Ports, cfg.Others = nil, func() []Port { asked++; return ports }
			return cfg
		}
		p := h.port(2, "10.32.0.4")
		if _, err := h.Plumb(lone(cfg), p); err != nil || asked != 0 {
			t.Errorf("a port like others: %v, and the others were asked for %d times", err, asked)
		}
		cfg.Ports, cfg.Services = append(cfg.Ports, p), true
		if err := h.Unplumb(lone(cfg), p); err != nil || asked != 1 {
			t.Errorf("with other rules: %v, and the others were asked for %d times", err, asked)
		}
		rules := h.run("nft list set bridge weft ports")
		for _, o := range cfg.Ports {
			if known := strings.Contains(rules, o.HostInterface); known != (o.HostInterface != p.HostInterface) {
				t.Errorf("port %s is known: %v", o.HostInterface, known)
			}
		}
	})
}

func TestWhichGroupsAContainerListensToIsNotToldToTheOthers(t *testing.T) {
	onHost(t, func(h *host) {
		h.run("sysctl -q -w net.ipv6.conf.default.disable_ipv6=0")
		cfg := config()
		cfg.Ports = []Port{h.port(0, "10.32.0.2"), h.port(1, "10.32.0.3")}
		h.set(cfg)
		h.run("nft 'add table bridge heard; add chain bridge heard p { type filter hook prerouting priority -400; }; add counter bridge heard n; add rule bridge heard p ether type ip6 icmpv6 type mld2-listener-report counter name n'")
		h.run("nft 'add chain bridge heard f { type filter hook forward priority -400; }; add counter bridge heard passed; add rule bridge heard f ether type ip6 icmpv6 type mld2-listener-report counter name passed'")
		for end := time.Now().Add(20 * time.Second); ; time.Sleep(100 * time.Millisecond) {
			// To come up anew has a container tell its groups.
			if _, err := h.inGuest(0, "ip link set eth0 down; ip link set eth0 up"); err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(h.run("nft list counter bridge heard n"), "packets 0 ") {
				break
			}
			if time.Now().After(end) {
				t.Fatal("a container tells nobody of its groups")
			}
		}
		if passed := h.run("nft list counter bridge heard passed"); !strings.Contains(passed, "packets 0 ") {
			t.Error(passed)
		}
		h.run("nft delete table bridge heard")
		if !h.pings(0, "10.32.0.3") {
			t.Error("the containers do not reach each other any more")
		}
	})
}
