package bridge

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/weft-net/weft/internal/nl"
)

// What is passed on must come from where the host sends what is for its source.
func TestOnlyWhatComesByTheWayBackIsPassedOn(t *testing.T) {
	onHost(t, func(h *host) {
		// Guest 0 is all hosts behind the tunnel in the clear, guest 1 those behind
		// the other.
		for i, dev := range []string{"weft-vx", "weft-wg"} {
			if _, err := h.conn.CreateVeth(nl.Veth{Host: dev, Peer: "t0", MTU: 1500, PeerNS: h.guests[i]}); err != nil {
				t.Fatal(err)
			}
			h.run(fmt.Sprintf("ip address add 192.0.2.%d/32 dev %s; ip link set %s up; sysctl -q -w net.ipv4.conf.%s.proxy_arp=1 net.ipv4.neigh.%s.proxy_delay=0", i+1, dev, dev, dev, dev))
		}
		h.run("ip route add 10.36.0.0/14 dev weft-vx; ip route add 10.40.0.0/16 dev weft-vx; ip route add 10.44.0.0/16 dev weft-wg")
		for i, addrs := range [][]string{{"10.40.0.5", "10.40.0.9", "10.36.0.5"}, {"10.44.0.5"}} {
			for _, a := range addrs {
				if out, err := h.inGuest(i, "ip link set t0 up; ip address add "+a+"/12 dev t0"); err != nil {
					t.Fatal(out)
				}
			}
		}
		by := func(last byte, list ...string) GuardedPeer {
			p := peer("192.0.2.9", false, true, list...)
			p.ID, p.VTEP = id(last), nl.MAC{0x02, 0, 0, 0, 0, last}
			return p
		}
		passes := func(what, from string, mac byte, want bool) {
			t.Helper()
			h.run("ip neigh flush dev weft-vx") // who had the address before
			if out, err := h.inGuest(0, fmt.Sprintf("ip link set t0 address 02:00:00:00:00:%02x && ping -c 3 -i 0.1 -W 1 -I %s 10.44.0.5", mac, from)); (err == nil) != want {
				t.Errorf("%s: passes is %v: %s", what, !want, out)
			}
		}
		cfg := config()
		cfg.Tunnels = []string{"weft-vx", "weft-wg"}
		cfg.Guard = Guard{VXLAN: []string{"weft-vx"}, Port: 6784, VNI: 7, Peers: []GuardedPeer{by(1, "10.40.0.0/16"), by(2, "10.36.0.0/14", "10.40.0.9/32")}}
		h.set(cfg)
		passes("its own", "10.40.0.5", 1, true)
		passes("another's", "10.40.0.5", 2, false)
		passes("that of a single address, by the host that has the rest", "10.40.0.9", 1, false)
		passes("that of a single address", "10.40.0.9", 2, true)
		passes("of a stranger", "10.36.0.5", 3, false)
		// The second is reached by the first from now on.
		cfg.Guard.Peers = []GuardedPeer{by(1, "10.40.0.0/16", "10.36.0.0/14", "10.40.0.9/32"), by(2)}
		h.set(cfg)
		passes("what it relays", "10.36.0.5", 1, true)
		passes("what is relayed by another now", "10.36.0.5", 2, false)
	})
}

func TestRelayRulesAreThereOnlyWhereSomethingComesInTheClear(t *testing.T) {
	cfg := config()
	cfg.Tunnels, cfg.Guard = []string{"weft-wg"}, Guard{Peers: []GuardedPeer{peer("192.0.2.2", false, false, "10.40.0.0/16")}}
	if sets, chains := relaySets(cfg), otherChains(cfg); len(sets) != 0 || len(chains) != 1 || len(chains[0].rules) != 2 {
		t.Errorf("%+v %+v", sets, chains)
	}
	cfg = guarded(peer("192.0.2.2", true, false, "10.40.0.0/16"))
	if got := relaySets(cfg)[0].elements; len(got) != 0 {
		t.Errorf("of a host whose hardware address is not known may come: %v", got)
	}
	cfg.Guard.Peers[0].NICs = []nl.MAC{{2, 0, 0, 0, 0, 1}}
	if got := relaySets(cfg)[0].elements; len(got) != 1 {
		t.Errorf("%v", got)
	}
}

func TestAddressesOfLinksLeadToTheHostAlone(t *testing.T) {
	cfg := guarded(peer("192.0.2.2", false, true, "10.40.0.0/16"))
	cfg.Links, cfg.Link = netip.MustParsePrefix("240.0.0.0/5"), netip.MustParseAddr("241.2.3.4")
	for name, want := range map[string]string{
		"vxlan-arriving": "ip saddr 240.0.0.0/5 ip daddr 241.2.3.4 accept",
		"vxlan-leaving":  "ip daddr 240.0.0.0/5 accept",
	} {
		if c, ok := tablesOf(cfg)[0].chain(name); !ok || len(c.rules) != 3 || c.rules[1] != want || c.rules[2] != "counter drop" {
			t.Errorf("%s: %q; want %q before the last", name, c.rules, want)
		}
	}
}
