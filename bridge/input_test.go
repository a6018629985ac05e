package bridge

import (
	"net"
	"strings"
	"testing"
	"time"

	"github.com/weft-net/weft/internal/nl"
	"github.com/weft-net/weft/internal/ula"
)

// hears tells whether anything of what guest 0 sends to a UDP port of the host
// arrives within a time.
func (h *host) hears(port int, within time.Duration) bool {
	h.t.Helper()
	sock, err := net.ListenUDP("udp4", &net.UDPAddr{Port: port})
	if err != nil {
		h.t.Fatal(err)
	}
	defer sock.Close()
	arrived := false
	for end := time.Now().Add(within); !arrived && time.Now().Before(end); {
		if err := h.guests[0].Do(func() error {
			c, err := net.DialUDP("udp4", nil, &net.UDPAddr{IP: net.IPv4(192, 0, 2, 1), Port: port})
			if err != nil {
				return err
			}
			defer c.Close()
			_, err = c.Write([]byte("probe"))
			return err
		}); err != nil {
			h.t.Fatal(err)
		}
		_ = sock.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
		_, err = sock.Read(make([]byte, 16))
		arrived = err == nil
	}
	return arrived
}

const (
	soon  = 10 * time.Second       // for what has to arrive
	never = 300 * time.Millisecond // for what is dropped, on a way that is known to work
)

// tunnelToGuest makes the tunnel device of the config, with a guest behind it.
func (h *host) tunnelToGuest(device string) {
	h.t.Helper()
	conn, err := nl.Open()
	if err != nil {
		h.t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.CreateVeth(nl.Veth{Host: device, Peer: "t0", MTU: 1500, PeerNS: h.guests[0]}); err != nil {
		h.t.Fatal(err)
	}
	h.run("ip address add 192.0.2.1/24 dev " + device + "; ip link set " + device + " up")
	if out, err := h.inGuest(0, "ip address add 192.0.2.2/24 dev t0; ip link set t0 up"); err != nil {
		h.t.Fatal(out)
	}
}

func TestProbesAreLetInWhereInputDropsAndNothingElseIs(t *testing.T) {
	for name, drop := range map[string]string{
		"iptables-nft":                "iptables-nft -P INPUT DROP",
		"iptables-legacy":             "iptables-legacy -P INPUT DROP",
		"a rule of iptables":          "iptables-nft -A INPUT -j REJECT",
		"both iptables":               "iptables-nft -P INPUT DROP; iptables-legacy -P INPUT DROP",
		"and FORWARD, too":            "iptables-nft -P INPUT DROP; iptables-nft -P FORWARD DROP",
		"nft":                         "nft 'add table inet mine; add chain inet mine i { type filter hook input priority 0; policy drop; }'",
		"nft beside iptables":         "iptables-nft -P INPUT DROP; nft 'add table inet mine; add chain inet mine i { type filter hook input priority 5; policy drop; }'",
		"nft in a chain like theirs":  "nft 'add table ip filter; add chain ip filter input { type filter hook input priority 0; policy drop; }'",
		"nft with its own forwarding": "nft 'add table inet mine; add chain inet mine i { type filter hook input priority 0; policy drop; }; add chain inet mine f { type filter hook forward priority 0; policy drop; }'",
	} {
		t.Run(name, func(t *testing.T) {
			onHost(t, func(h *host) {
				h.tunnelToGuest("weft-vx")
				if !h.hears(6786, soon) {
					t.Fatal("nothing arrives even where nothing drops")
				}
				h.run(drop)
				if h.hears(6786, never) {
					t.Fatal("nothing is dropped")
				}
				before := h.run(allRules)
				cfg := config()
				h.set(cfg)
				if !h.hears(6786, soon) {
					t.Errorf("probes are dropped:\n%s", h.run(allRules))
				}
				if h.hears(6787, never) {
					t.Errorf("another port is open:\n%s", h.run(allRules))
				}
				rules := h.run(allRules)
				h.set(cfg)
				if again := h.run(allRules); again != rules {
					t.Errorf("the second Set changed the rules:\n%s\nwas:\n%s", again, rules)
				}
				if _, err := h.Remove("weft", nil, h.sysctls, ula.Ranges{}); err != nil {
					t.Fatal(err)
				}
				if after := h.run(allRules); after != before {
					t.Errorf("Remove leaves:\n%s\nwas:\n%s", after, before)
				}
			})
		})
	}
}

func TestProbesAreLetInByTheDevicesThatAreProbedAndAsLongAsSomethingDrops(t *testing.T) {
	onHost(t, func(h *host) {
		const list = "iptables-nft -S INPUT; iptables-legacy -S INPUT; nft list table inet mine"
		h.run("iptables-nft -P INPUT DROP; iptables-legacy -P INPUT DROP; nft 'add table inet mine; add chain inet mine i { type filter hook input priority 0; policy drop; }'")
		cfg := config()
		for _, step := range []struct {
			cmd    string
			probed []string
			rules  int
		}{
			{"true", []string{"weft-vx"}, 3},
			{"true", []string{"weft-vx", "weft-wg"}, 6},
			{"iptables-nft -D INPUT 1", []string{"weft-vx", "weft-wg"}, 6},
			{"true", []string{"weft-wg"}, 3},
			{"iptables-nft -P INPUT ACCEPT", []string{"weft-wg"}, 2},
			{"nft 'chain inet mine i { policy accept; }'", []string{"weft-wg"}, 1},
			{"true", nil, 0},
		} {
			h.run(step.cmd)
			cfg.Probed = step.probed
			h.set(cfg)
			if out := h.run(list); strings.Count(out, `"weft weft`) != step.rules {
				t.Errorf("%s with %v: want %d rules in\n%s", step.cmd, step.probed, step.rules, out)
			}
		}
	})
}
