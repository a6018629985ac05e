package e2e

import (
	"fmt"
	"strings"
	"testing"

	"github.com/weft-net/weft/internal/netlab"
)

// service is one of Kubernetes', with an end on one node.
type service struct {
	vip      string
	end      string // the pod's address; "" for none
	nodePort int    // 0 for none
	local    bool   // externalTrafficPolicy
	here     bool   // its end is on this node
}

const (
	servicePort = 80
	endPort     = 8080
)

// kubeIptables are the rules that kube-proxy writes in its iptables mode, for
// these services (as its documentation and its sources have them).
func kubeIptables(rng string, services []service) string {
	var nat, filter strings.Builder
	nat.WriteString(`*nat
:KUBE-SERVICES - [0:0]
:KUBE-NODEPORTS - [0:0]
:KUBE-POSTROUTING - [0:0]
:KUBE-MARK-MASQ - [0:0]
`)
	filter.WriteString(`*filter
:KUBE-SERVICES - [0:0]
:KUBE-FORWARD - [0:0]
-A FORWARD -m comment --comment "kubernetes forwarding rules" -j KUBE-FORWARD
-A FORWARD -m conntrack --ctstate NEW -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A OUTPUT -m conntrack --ctstate NEW -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP
-A KUBE-FORWARD -m mark --mark 0x4000/0x4000 -j ACCEPT
-A KUBE-FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
`)
	var rules strings.Builder
	for i, s := range services {
		if s.end == "" {
			fmt.Fprintf(&filter, "-A KUBE-SERVICES -d %s/32 -p tcp --dport %d -j REJECT --reject-with icmp-port-unreachable\n", s.vip, servicePort)
			continue
		}
		fmt.Fprintf(&nat, ":KUBE-SVC-%d - [0:0]\n:KUBE-SEP-%d - [0:0]\n:KUBE-EXT-%d - [0:0]\n", i, i, i)
		fmt.Fprintf(&rules, "-A KUBE-SERVICES -d %s/32 -p tcp --dport %d -j KUBE-SVC-%d\n", s.vip, servicePort, i)
		fmt.Fprintf(&rules, "-A KUBE-SVC-%d ! -s %s -d %s/32 -p tcp --dport %d -j KUBE-MARK-MASQ\n", i, rng, s.vip, servicePort)
		fmt.Fprintf(&rules, "-A KUBE-SVC-%d -j KUBE-SEP-%d\n", i, i)
		fmt.Fprintf(&rules, "-A KUBE-SEP-%d -s %s/32 -j KUBE-MARK-MASQ\n", i, s.end)
		fmt.Fprintf(&rules, "-A KUBE-SEP-%d -p tcp -m tcp -j DNAT --to-destination %s:%d\n", i, s.end, endPort)
		if s.nodePort == 0 {
			continue
		}
		fmt.Fprintf(&rules, "-A KUBE-NODEPORTS -p tcp --dport %d -j KUBE-EXT-%d\n", s.nodePort, i)
		switch {
		case !s.local:
			fmt.Fprintf(&rules, "-A KUBE-EXT-%d -j KUBE-MARK-MASQ\n-A KUBE-EXT-%d -j KUBE-SVC-%d\n", i, i, i)
		case s.here:
			fmt.Fprintf(&rules, "-A KUBE-EXT-%d -j KUBE-SEP-%d\n", i, i)
		}
	}
	rules.WriteString(`-A KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS
-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A OUTPUT -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A POSTROUTING -m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING
-A KUBE-MARK-MASQ -j MARK --or-mark 0x4000
-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
-A KUBE-POSTROUTING -j MARK --xor-mark 0x4000
-A KUBE-POSTROUTING -j MASQUERADE --random-fully
`)
	return nat.String() + rules.String() + "COMMIT\n" + filter.String() + "COMMIT\n"
}

// kubeNFTables are those of its nftables mode.
func kubeNFTables(rng string, services []service) string {
	var maps, refused, ports, chains []string
	for i, s := range services {
		key := fmt.Sprintf("%s . tcp . %d", s.vip, servicePort)
		if s.end == "" {
			refused = append(refused, key+" : goto reject-chain")
			continue
		}
		maps = append(maps, fmt.Sprintf("%s : goto service-%d", key, i))
		chains = append(chains, fmt.Sprintf(`chain service-%d {
  ip daddr %s tcp dport %d ip saddr != %s jump mark-for-masquerade
  goto endpoint-%d
 }
 chain endpoint-%d {
  ip saddr %s jump mark-for-masquerade
  meta l4proto tcp dnat to %s:%d
 }`, i, s.vip, servicePort, rng, i, i, s.end, s.end, endPort))
		if s.nodePort == 0 {
			continue
		}
		rule := fmt.Sprintf("jump mark-for-masquerade\n  goto service-%d", i)
		if s.local {
			rule = "drop"
			if s.here {
				rule = fmt.Sprintf("goto endpoint-%d", i)
			}
		}
		if s.local && !s.here {
			continue // dropped by another map, which is left out here
		}
		ports = append(ports, fmt.Sprintf("tcp . %d : goto external-%d", s.nodePort, i))
		chains = append(chains, fmt.Sprintf("chain external-%d {\n  %s\n }", i, rule))
	}
	return fmt.Sprintf(`table ip kube-proxy {
 chain mark-for-masquerade { meta mark set meta mark or 0x4000; }
 chain reject-chain { reject; }
 %s
 map service-ips { type ipv4_addr . inet_proto . inet_service : verdict; elements = { %s }; }
 map service-nodeports { type inet_proto . inet_service : verdict; elements = { %s }; }
 map no-endpoint-services { type ipv4_addr . inet_proto . inet_service : verdict; elements = { %s }; }
 chain services {
  ip daddr . meta l4proto . th dport vmap @service-ips
  fib daddr type local ip daddr != 127.0.0.0/8 meta l4proto . th dport vmap @service-nodeports
 }
 chain masquerading {
  meta mark & 0x4000 == 0 return
  meta mark set meta mark ^ 0x4000
  masquerade fully-random
 }
 chain service-endpoints-check { ip daddr . meta l4proto . th dport vmap @no-endpoint-services; }
 chain filter-forward { type filter hook forward priority -110; ct state new jump service-endpoints-check; }
 chain filter-output { type filter hook output priority -110; ct state new jump service-endpoints-check; }
 chain nat-output { type nat hook output priority -100; jump services; }
 chain nat-postrouting { type nat hook postrouting priority srcnat; jump masquerading; }
 chain nat-prerouting { type nat hook prerouting priority dstnat; jump services; }
}
`, strings.Join(chains, "\n "), strings.Join(maps, ", "), strings.Join(ports, ", "), strings.Join(refused, ", "))
}

// whoAsks answers each connection with the address that it sees.
const whoAsks = `use IO::Socket::INET; my $s = IO::Socket::INET->new(LocalPort => 8080, Listen => 9, ReuseAddr => 1) or die; while (my $c = $s->accept) { print $c $c->peerhost; close $c }`

// ask connects, and returns what is answered: the address that the other end sees.
func ask(from netlab.Pinger, addr string, port int) string {
	r := from.Try("timeout", "3", "bash", "-c", fmt.Sprintf("exec 3<>/dev/tcp/%s/%d && cat <&3", addr, port))
	if strings.Contains(r.Stderr, "refused") {
		return "refused"
	}
	if r.Code != 0 {
		return fmt.Sprintf("exit code %d: %s", r.Code, r.Stderr)
	}
	return r.Stdout
}

func TestServicesOfKubeProxy(t *testing.T) {
	scratch := netlab.New(t).Host("scratch")
	for _, encap := range []string{"vxlan", "wireguard"} {
		t.Run(encap, func(t *testing.T) {
			lab, nodes := kubeCluster(t, weftBinary(t, scratch), "weft:first", map[string]string{"WEFT_ENCAP": encap})
			client := lab.Host("client")
			n1, n2 := nodes[0], nodes[1]
			for _, n := range nodes { // as every node has one; nobody is there
				n.Run("ip", "route", "add", "default", "via", "192.0.2.254")
			}
			p1, q1, p2 := n1.pod("p1"), n1.pod("q1"), n2.pod("p2")
			for _, p := range []pod{p1, q1, p2} {
				p.Start("perl", "-e", whoAsks)
				netlab.Eventually(t, "a server listens", func() bool { return ask(p, "127.0.0.1", endPort) == "127.0.0.1" })
			}
			rng := n1.config["WEFT_RANGE"]
			services := func(first bool) []service {
				return []service{
					{vip: "10.96.0.1", end: p1.addr, nodePort: 30001, local: true, here: first},
					{vip: "10.96.0.2", end: q1.addr},
					{vip: "10.96.0.3", end: p2.addr, nodePort: 30003},
					{vip: "10.96.0.4"},
				}
			}
			for mode, rules := range map[string]func(string, []service) string{"iptables": kubeIptables, "nftables": kubeNFTables} {
				t.Run(mode, func(t *testing.T) {
					load := []string{"iptables-nft-restore", "--noflush"}
					unload := "iptables-nft -F FORWARD; iptables-nft -F OUTPUT; for t in nat filter; do iptables-nft -t $t -F; iptables-nft -t $t -X; done"
					if mode == "nftables" {
						load, unload = []string{"nft", "-f", "-"}, "nft delete table ip kube-proxy"
					}
					for i, n := range nodes {
						// The policy of an engine that shares the node.
						if mode == "iptables" {
							n.Run("iptables-nft", "-P", "FORWARD", "DROP")
						}
						if r := n.Feed(rules(rng, services(i == 0)), load...); r.Code != 0 {
							t.Fatalf("load the rules: %s", r.Stderr)
						}
						t.Cleanup(func() { n.Run("bash", "-c", "iptables-nft -P FORWARD ACCEPT; "+unload) })
					}
					for _, bridged := range []string{"1", "0"} {
						for _, n := range nodes {
							n.Run("sysctl", "-q", "-w", "net.bridge.bridge-nf-call-iptables="+bridged)
						}
						gateway := strings.Split(status(t, n1.Host).Bridge.Gateway.String(), "/")[0]
						for _, c := range []struct {
							what string
							from netlab.Pinger
							addr string
							port int
							want string // "" for any answer
						}{
							{"a pod to a service on another node", p1, "10.96.0.3", servicePort, p1.addr},
							{"a pod to a service on the same node", p1, "10.96.0.2", servicePort, p1.addr},
							{"a pod to itself", p1, "10.96.0.1", servicePort, gateway},
							{"a node to a service on another", n1.Host, "10.96.0.3", servicePort, ""},
							{"a node to a service of its own", n1.Host, "10.96.0.1", servicePort, ""},
							{"a pod to a service without an end", p1, "10.96.0.4", servicePort, "refused"},
							{"the outside, kept local", client, n1.Addr.String(), 30001, client.Addr.String()},
							{"the outside by another node", client, n1.Addr.String(), 30003, ""},
							{"the outside by the same node", client, n2.Addr.String(), 30003, ""},
							{"a pod to another node's port", p1, n2.Addr.String(), 30003, ""},
						} {
							var got string
							good := func() bool {
								got = ask(c.from, c.addr, c.port)
								return got == c.want || c.want == "" && strings.Count(got, ".") == 3 && !strings.Contains(got, " ")
							}
							// weft follows what others change, the rules and the sysctl, after a moment.
							for range 8 {
								if good() {
									break
								}
							}
							if !good() {
								t.Errorf("bridge-nf-call-iptables=%s: %s: %q, want %q", bridged, c.what, got, c.want)
							}
						}
					}
				})
			}
		})
	}
}
